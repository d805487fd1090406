package clients

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// join lets a client join from this process, until the end of the test or before.
func join(t *testing.T, cfg cluster.Config, number int) *Group {
	t.Helper()
	group, err := Join(cfg, number, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(group.Close)
	return group
}

var errFull = errors.New("no place for a connection")

// A full Target serves nobody.
type full struct{ load.Target }

func (full) Dial(context.Context) (load.Client, error) { return nil, errFull }

// measure measures for one of the clients.
func measure(t *testing.T, g *Group, to load.Target) (*load.Result, error) {
	work, err := workload.New(to.Config().Workload)
	if err != nil {
		t.Error(err)
	}
	return g.Measure(t.Context(), to, work, nil)
}

// All clients have the results of all: of shares that add up, and of connections with numbers
// of their own. One that is not served says so, and holds up none of the others.
func TestMeasure(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards writers
	writers := make(map[string]bool)
	cfg, _, _ := benchtest.StartCluster(t, 1, 3, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, func(ops []wire.Op) []wire.Result {
				mu.Lock()
				defer mu.Unlock()
				writers[strings.Fields(string(ops[0].Value))[2]] = true // as in "key-1 by 3 #7"
				return apply(ops)
			})
		})
	})
	cfg.Workload.Connections, cfg.Workload.Ops, cfg.Workload.Rate, cfg.Workload.Mix = 2, 32, 1000, cluster.Mix{Put: 100}
	var all [3][]*load.Result
	var running sync.WaitGroup
	for number := range all {
		g := join(t, cfg, number)
		running.Go(func() { // ends with its measurement
			to := load.NewLockstep(g.Share(cfg))
			if number == 1 {
				to = full{to}
			}
			mine, err := measure(t, g, to)
			gathered, failed := g.Gather(t.Context(), mine)
			if all[number] = gathered; err != nil || failed != nil {
				t.Errorf("client %d measured with error %v, and gathered with error %v", number, err, failed)
			}
			g.Close()
		})
	}
	running.Wait()
	for number, results := range all {
		if len(results) != 3 || !reflect.DeepEqual(results, all[0]) {
			t.Fatalf("client %d has the results %+v, and client 0 %+v, want those of 3", number, results, all[0])
		}
		want := load.Counts{Connections: 2, Starved: 2, NeverGreeted: 2, NotServed: errFull.Error()}
		if number != 1 {
			want = load.Counts{Connections: 2, Requests: 10, Answers: workload.Answers{OK: 10, Bytes: results[number].Bytes}}
		}
		if number == 2 { // the shares of 32 operations are 10, 11 and 11
			want.Requests, want.OK = 11, 11
		}
		if got := results[number].Counts; !reflect.DeepEqual(got, want) {
			t.Errorf("client %d counted %+v, want %+v", number, got, want)
		}
	}
	if want := map[string]bool{"1": true, "2": true, "5": true, "6": true}; !reflect.DeepEqual(writers, want) {
		t.Errorf("the writers are %v, want %v, two of each client but the second", writers, want)
	}
}

// The shares of all clients add up, whatever is left over.
func TestShare(t *testing.T) {
	cfg := cluster.Default()
	cfg.Workload.Rate = 60
	for cfg.Workload.Ops = range 12 {
		for _, n := range []int{0, 1, 2, 3, 5} {
			cfg.Clients = make([]cluster.Client, n)
			ops, rate := 0, 0.0
			for self := range max(n, 1) {
				w := (&Group{Self: self}).Share(cfg).Workload
				ops, rate = ops+w.Ops, rate+w.Rate
			}
			if ops != cfg.Workload.Ops || rate != 60 {
				t.Errorf("%d clients share %d operations and a rate of %v, want %d and 60", n, ops, rate, cfg.Workload.Ops)
			}
		}
	}
}

// A client does not meet one that has other nodes, another workload or secret, and logs what differs.
func TestJoinDifferent(t *testing.T) {
	addrs, err := node.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*cluster.Config){
		"addr is 127.0.0.1:7001 here, 127.0.0.1:1 there": func(cfg *cluster.Config) { cfg.Nodes[0].Addr = "127.0.0.1:1" },
		"dist is uniform here, zipf there":               func(cfg *cluster.Config) { cfg.Workload.Dist = "zipf" },
		"asks for a secret":                              func(cfg *cluster.Config) { cfg.Secret = "0123456789abcdef" },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		watch := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if strings.Contains(a.Value.String(), want) {
				cancel()
			}
			return a
		}}
		cfg := cluster.Default()
		cfg.Clients = []cluster.Client{{Control: addrs[0]}, {Control: addrs[1]}}
		here, err := Join(cfg, 0, nil, slog.New(slog.NewTextHandler(t.Output(), watch)))
		change(&cfg)
		there, failed := Join(cfg, 1, nil, nil)
		if err := errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		if _, err = here.Meet(ctx, nil); !errors.Is(err, context.Canceled) { // which it is when that is logged
			t.Errorf("met with error %v, want nobody met, and %q logged", err, want)
		}
		here.Close()
		there.Close()
		cancel()
	}
}

// A client that is alone waits for nobody, and has all of the load and no result but its own.
func TestAlone(t *testing.T) {
	for _, clients := range [][]cluster.Client{nil, {{Control: "192.0.2.1:1"}}} {
		cfg := cluster.Default()
		cfg.Clients = clients
		self, err := Self(cfg)
		if err != nil {
			t.Fatal(err)
		}
		g := join(t, cfg, self)
		brought, failed := g.Meet(t.Context(), []byte{1})
		mine := new(load.Result)
		all, err := g.Gather(t.Context(), mine)
		if err := errors.Join(failed, err); err != nil || len(brought) != 1 || len(brought[0]) != 1 || len(all) != 1 || all[0] != mine {
			t.Errorf("met %v and gathered %v, error %v, want its own", brought, all, err)
		}
		if r, err := measure(t, g, full{load.NewLockstep(cfg)}); r != nil || !errors.Is(err, errFull) {
			t.Errorf("not served, it has measured %v, error %v, want %v", r, err, errFull)
		}
	}
}

// Which client this process is follows from the addresses, if only one is here. Another process
// may be that client already.
func TestSelf(t *testing.T) {
	cfg, _, _ := benchtest.StartCluster(t, 0, 2, nil)
	if self, err := Self(cfg); err == nil || !strings.Contains(err.Error(), "pass -client N") {
		t.Errorf("of two clients here, this is %d, error %v, want one that says -client", self, err)
	}
	join(t, cfg, 1)
	if _, err := Join(cfg, 1, nil, nil); err == nil || !strings.Contains(err.Error(), "is client 1 running here already?") {
		t.Errorf("joined twice: error %v, want one that asks whether client 1 is running", err)
	}
	cfg.Clients[0].Control = "192.0.2.1:7201"
	if self, err := Self(cfg); self != 1 || err != nil {
		t.Errorf("beside a client elsewhere, this is %d, error %v, want 1", self, err)
	}
}

// A client that is missing has no result. What another one sends in place of its result is an error
// that names it.
func TestGather(t *testing.T) {
	others := [][]byte{nil}
	g := &Group{gather: func(_ context.Context, mine []byte) ([][]byte, error) { return append([][]byte{mine}, others...), nil }}
	all, err := g.Gather(t.Context(), &load.Result{Cores: 2})
	if want := []*load.Result{{Cores: 2}, nil}; err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("without client 1 it has gathered %v, error %v, want %v", all, err, want)
	}
	others = append(others, []byte("garbage"))
	if all, err := g.Gather(t.Context(), new(load.Result)); err == nil || !strings.HasPrefix(err.Error(), "the result of client 2: ") {
		t.Errorf("of garbage it has gathered %v, error %v, want one of the result of client 2", all, err)
	}
}

// Pack keeps every field, as much as days of load on a hundred nodes. A new field has to be set here.
func TestPack(t *testing.T) {
	t.Parallel()
	r := &load.Result{Counts: load.Counts{Connections: 1, Starved: 2, NeverGreeted: 3, Requests: 4,
		Answers: workload.Answers{OK: 5, Bytes: 6, Misses: 6, Mismatches: 7}, Unfinished: 8, Refusals: 9, RefusedDials: 10,
		FailedDials: metrics.Tally{"refused": 11}, NotServed: "full"},
		Client: load.Pipelined, Restarted: "node 0", Cores: 0.5, MachineCPU: 1, Stalled: 14, Stall: 15, FailedTime: 9,
		TimeWait: 16, Dur: 10, ServerCPU: 11, ClientCPU: 12,
		Nodes:   slices.Repeat([]metrics.Snapshot{{Requests: 13}}, 100),
		Samples: slices.Repeat([]load.Sample{{Due: 1, Sent: 2, Done: 3, Outcome: load.Answered}}, load.MaxSamples),
		Series:  slices.Repeat([]int64{123_456, 98_765}, 24*3600)}
	r.Fail("other", errors.New("first"))
	r.FoundWrong(errors.New("wrong"))
	r.ResponseTimes.Record(time.Second)
	for d := time.Microsecond; d < time.Hour; d += d/100 + 1 {
		for _, h := range []**metrics.Histogram{&r.ServiceTimes, &r.Slips, &r.ConnectTimes} {
			load.Record(h, d)
		}
	}
	fields := reflect.ValueOf(r).Elem()
	for i := range fields.NumField() {
		if fields.Field(i).IsZero() {
			t.Errorf("the test sets no %s", fields.Type().Field(i).Name)
		}
	}
	payload, err := Pack(r)
	if got, unpacked := Unpack(payload); err != nil || unpacked != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("packed into %d bytes it is not the same: %v, %v", len(payload), err, unpacked)
	}
}

// What is unpacked is bounded.
func TestUnpackBounds(t *testing.T) {
	pack := func(text string) []byte { // a part of a payload
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte(text))
		z.Close()
		return b.Bytes()
	}
	for _, test := range []struct {
		first, many string // a thousand of many
		thousands   int
		last        string
	}{{"", strings.Repeat(" ", 1<<10), 16, "{}"}, {`{"nodes":[{}`, ",{}", 12, "]}"}} {
		many := bytes.Repeat(pack(strings.Repeat(test.many, 1<<10)), test.thousands)
		payload := slices.Concat(pack(test.first), many, pack(test.last))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Unpack(payload)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 30<<20 {
			t.Errorf("%s%.20s…: error %v, %d MiB used", test.first, test.many, err, used>>20)
		}
	}
}

// The sum has the connections and the CPU time of all, and what the last to ask the servers saw.
// A client that is missing has no part in it.
func TestTogether(t *testing.T) {
	saw := []metrics.Snapshot{{Requests: 30}, {Requests: 31}} // of the same servers, at different moments
	all := []*load.Result{
		{Counts: load.Counts{Connections: 2, Requests: 10}, Dur: 3, TimeWait: 7, ServerCPU: 5, ClientCPU: 7, MachineCPU: 20, Cores: 0.25, Stalled: 9, Stall: 4, Nodes: saw[:1]},
		{Counts: load.Counts{Connections: 4, Requests: 20}, Dur: 2, ServerCPU: 6, ClientCPU: 8, Cores: 0.5, Stalled: 8, Stall: 5, Nodes: saw[1:]},
		nil,
	}
	for local, machineCPU := range map[bool]time.Duration{true: 20, false: 0} {
		got := Together(all, local)
		want := &load.Result{Counts: load.Counts{Connections: 6, Requests: 30}, Dur: 3, TimeWait: 7, ServerCPU: 6, ClientCPU: 15, MachineCPU: machineCPU, Cores: 0.75, Stalled: 9, Stall: 5, Nodes: saw[1:]}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("local %v: together it is %+v, want %+v", local, got, want)
		}
	}
}
