package clients

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/barrier"
	"lockstep/common/cluster"
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

// together runs all clients of cfg at the same time, until each has left its group.
func together(t *testing.T, cfg cluster.Config, client func(*Group)) {
	t.Helper()
	var running sync.WaitGroup // each ends with its client
	for number := range cfg.Clients {
		group := join(t, cfg, number)
		running.Go(func() {
			client(group)
			group.Close()
		})
	}
	running.Wait()
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
	together(t, cfg, func(g *Group) {
		to := load.NewLockstep(g.Share(cfg))
		if g.Self == 1 {
			to = full{to}
		}
		mine, err := measure(t, g, to)
		gathered, failed := g.Gather(t.Context(), mine)
		if all[g.Self] = gathered; err != nil || failed != nil {
			t.Errorf("client %d measured with error %v, and gathered with error %v", g.Self, err, failed)
		}
	})
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

// The others go on without a client that leaves. One that comes back voids the run.
func TestClientLeaves(t *testing.T) {
	t.Parallel() // waits 2 s
	for name, back := range map[string]bool{"missing": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _, _ := benchtest.StartCluster(t, 0, 3, nil)
			together(t, cfg, func(g *Group) {
				brought, err := g.Meet(t.Context(), []byte{byte(g.Self)})
				if want := [][]byte{{0}, {1}, {2}}; err != nil || !reflect.DeepEqual(brought, want) {
					t.Errorf("client %d met %v, error %v, want %v", g.Self, brought, err, want)
				}
				if g.Self == 2 {
					g.Close()
					if back {
						join(t, cfg, 2)
					}
					return
				}
				got, err := g.Gather(t.Context(), &load.Result{Cores: float64(g.Self)})
				want := []*load.Result{{}, {Cores: 1}, nil}
				if back && !errors.Is(err, barrier.ErrVoid) || !back && (err != nil || !reflect.DeepEqual(got, want)) {
					t.Errorf("client %d gathered %v, error %v, want %v or, of a run with a restart, %v", g.Self, got, err, want, barrier.ErrVoid)
				}
			})
		})
	}
}

// A writer calls itself with what is written to it.
type writer func(text string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// A client does not meet one that has other nodes, another workload or secret, or works in another
// way, and logs what differs.
func TestJoinDifferent(t *testing.T) {
	addrs, err := node.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(cfg *cluster.Config, way []string){
		"addr is 127.0.0.1:7001 here, 127.0.0.1:1 there": func(cfg *cluster.Config, _ []string) { cfg.Nodes[0].Addr = "127.0.0.1:1" },
		"dist is uniform here, zipf there":               func(cfg *cluster.Config, _ []string) { cfg.Workload.Dist = "zipf" },
		"asks for a secret":                              func(cfg *cluster.Config, _ []string) { cfg.Secret = "0123456789abcdef" },
		"rounds is 1 here, 2 there":                      func(_ *cluster.Config, way []string) { way[1] = "rounds=2" },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		logged := ""
		log := slog.New(slog.NewTextHandler(writer(func(text string) {
			if logged += text; strings.Contains(logged, want) {
				cancel()
			}
		}), nil))
		cfg, way := cluster.Default(), []string{"noretry=true", "rounds=1"}
		cfg.Clients = []cluster.Client{{Control: addrs[0]}, {Control: addrs[1]}}
		here, err := Join(cfg, 0, slices.Clone(way), log)
		change(&cfg, way)
		there, failed := Join(cfg, 1, way, nil)
		if err := errors.Join(err, failed); err != nil {
			t.Fatal(err)
		}
		if _, err = here.Meet(ctx, nil); !errors.Is(err, context.Canceled) { // which it is when that is logged
			t.Errorf("met with error %v, and logged\n%s, want nobody met, and %q logged", err, logged, want)
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

// What another client sends in place of its result is an error that names it.
func TestGatherGarbage(t *testing.T) {
	g := &Group{gather: func(_ context.Context, mine []byte) ([][]byte, error) {
		return [][]byte{mine, nil, []byte("garbage")}, nil
	}}
	all, err := g.Gather(t.Context(), new(load.Result))
	if err == nil || !strings.HasPrefix(err.Error(), "the result of client 2: ") {
		t.Errorf("gathered %v, error %v, want one of the result of client 2", all, err)
	}
}
