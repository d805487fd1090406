package yardstick

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// startKeeper starts a process that keeps a redis-server with this fault, and waits until it runs.
func startKeeper(t *testing.T, fault string) *testbed.Proc {
	t.Helper()
	benchtest.FaultyInPath(t, "redis-server")
	started := benchtest.NewFaulty(t, fault)
	p, err := testbed.StartProc(exec.Command(os.Args[0], Command, "keep", "redis-server"))
	if err != nil {
		t.Fatal(err)
	}
	<-started
	return p
}

func newWorkload(t *testing.T, w cluster.Workload) *workload.Workload {
	t.Helper()
	work, err := workload.New(w)
	if err != nil {
		t.Fatal(err)
	}
	return work
}

// A program that is kept ends with its keeper, even if that is killed.
func TestKeep(t *testing.T) {
	for name, end := range map[string]func(*testbed.Proc){
		"end of standard input": func(p *testbed.Proc) { p.Stdin.Close() },
		"killed":                (*testbed.Proc).Kill,
	} {
		p := startKeeper(t, "late")
		end(p)
		if <-p.Done; name != "killed" && p.Err != nil {
			t.Errorf("%s: the keeper ends with %v:\n%s", name, p.Err, p.Output)
		}
	}
}

// Start tries another port if one is taken, and gives up on a program that never answers.
func TestStartYardstick(t *testing.T) {
	benchtest.EmptyFolder(t)
	h, err := testbed.New(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	finds := 0
	h.Addrs = func(n int) ([]string, error) {
		if finds++; finds == 1 {
			return []string{ln.Addr().String(), "127.0.0.1:1"}, nil
		}
		return node.FreeAddrs(n)
	}
	// An answer from the port is not enough: the process that was started must not end.
	y := yardsticks["netrpc"]
	y.version = func(*bufio.Reader) (string, error) {
		if finds == 1 {
			return "", errors.New("another program is there")
		}
		return "", nil
	}
	if _, err := y.Start(t.Context(), h, cluster.Default()); err != nil || finds != 2 {
		t.Fatalf("a port that is taken: %d searches, error %v, want a second to help", finds, err)
	}
	h.Patience = 50 * time.Millisecond
	silent := newEcho(newWorkload(t, cluster.Default().Workload))
	silent.version = func(*bufio.Reader) (string, error) { return "", errors.New("not yet") }
	if _, err := silent.Start(t.Context(), h, cluster.Default()); err == nil || !strings.Contains(err.Error(), "does not serve after") {
		t.Errorf("a yardstick that never answers: error %v", err)
	}
}

// Parse makes the yardsticks of a list in its order, or says why they cannot be compared.
func TestParse(t *testing.T) {
	ordinary := func(*cluster.Config) {}
	for _, test := range []struct {
		list       string
		nodes      int
		change     func(*cluster.Config)
		names, err string
	}{
		{"", 1, ordinary, "", ""},
		{"redis=host:1, echo,memcached,netrpc", 1, ordinary, "redis echo memcached net/rpc", ""},
		{"netrpc", 1, func(c *cluster.Config) { c.Workload.Mix = cluster.Mix{CAS: 100} }, "net/rpc", ""},
		{"echo,", 1, ordinary, "", "unknown"},
		{"redis,redis=host:1", 1, ordinary, "", "twice"},
		{"echo=host:1", 1, ordinary, "", "reached"},
		{"redis=", 1, ordinary, "", "reached"},
		{"echo", 2, ordinary, "", "one process"},
		{"redis", 1, func(c *cluster.Config) { c.Workload.Mix = cluster.Mix{CAS: 100} }, "", "compare-and-swap"},
		{"netrpc", 1, func(c *cluster.Config) { c.Server.Work.Time = time.Second }, "", "-work"},
	} {
		cfg := cluster.Default()
		test.change(&cfg)
		yards, err := Parse(test.list, cfg, test.nodes, newWorkload(t, cfg.Workload))
		var names []string
		for _, y := range yards {
			names = append(names, y.Name)
		}
		if strings.Join(names, " ") != test.names || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q on %d nodes: %v, error %v, want %s, %q", test.list, test.nodes, names, err, test.names, test.err)
		}
	}
}

// A program that runs already is reached by its address; one that is not installed is not found.
func TestPrograms(t *testing.T) {
	benchtest.EmptyFolder(t)
	h, err := testbed.New(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	addr, _ := serveHere(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1<<10))
		io.WriteString(nc, "$19\r\nredis_version:6.2\r\n\r\n")
	})
	cfg := cluster.Default()
	yards, err := Parse("memcached,redis="+addr, cfg, 1, newWorkload(t, cfg.Workload))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	if _, err := yards[0].Start(t.Context(), h, cfg); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("memcached, without a PATH: error %v, want %v", err, exec.ErrNotFound)
	}
	if s, err := yards[1].Start(t.Context(), h, cfg); err != nil || s.Version != "6.2 at "+addr || len(h.Running) != 1 {
		t.Fatalf("redis that runs: %+v, error %v", s, err)
	}
	to := h.Running[0].Target
	if used, err := to.Stats(t.Context()); used != nil || err != nil || to.Config().Nodes[0].Addr != addr || to.Client() != load.Pipelined {
		t.Errorf("it has used %v, error %v, at %v", used, err, to.Config().Nodes)
	}
	h.Running = nil // which the bed did not start
}

// The clients of echo and net/rpc get right answers, several at a time, until the server ends.
func TestCodecs(t *testing.T) {
	work := newWorkload(t, cluster.Default().Workload)
	netRPC := yardsticks["netrpc"]
	for _, test := range []struct {
		yard  *Yardstick
		serve func(net.Conn)
	}{{newEcho(work), serveEcho}, {&netRPC, newRPCServer()}} {
		t.Run(test.yard.Name, func(t *testing.T) {
			t.Parallel() // each waits a second for the end of the server to be certain
			addr, stop := serveHere(t, test.serve)
			cfg := cluster.Default()
			cfg.Nodes[0].Addr = addr
			cl, err := target{test.yard, cfg, 0}.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			var calls sync.WaitGroup
			for i := range 16 {
				calls.Go(func() {
					s := work.Source(i)
					for range 20 {
						results, err := cl.Do(t.Context(), s.Next(s.Batch)...)
						if a := s.Check(results); err != nil || a.Wrong > 0 {
							t.Errorf("error %v, %v", err, a.FirstWrong)
						}
					}
				})
			}
			calls.Wait()
			refused := test.yard == &netRPC // by its server, which keeps the connection, and not by the codec
			if _, err := cl.Do(t.Context(), wire.Op{Kind: wire.Get}); err == nil || errors.As(err, new(load.Refusal)) != refused {
				t.Errorf("a request that breaks the rules: error %v", err)
			}
			get := wire.Op{Kind: wire.Get, Key: work.Key(1)}
			if r, err := cl.Once(t.Context(), get); err != nil || len(r) != 1 {
				t.Errorf("after it: answered %v, %v", r, err)
			}
			stop()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := cl.Do(ctx, get); !errors.Is(err, client.ErrDown) {
				t.Errorf("after the server has ended: error %v, want %v", err, client.ErrDown)
			}
		})
	}
}

// An echo sends and receives as many bytes as a stage.
func TestEchoBytes(t *testing.T) {
	for _, batch := range []int{1, 64} {
		cfg := cluster.Default().Workload
		cfg.Batch = batch
		work := newWorkload(t, cfg)
		stored := table.New(cluster.Work{}, nil)
		stored.Apply(work.Preload(0, work.Keys))
		codec := newEcho(work).codec(nil).(echoCodec)
		s := work.Source(0)
		for range 100 {
			ops := s.Next(s.Batch)
			frame := codec.frame(ops)
			real, err := wire.AppendResponse(nil, &wire.Response{Code: wire.OK, Results: stored.Apply(slices.Clone(ops)), Number: 1 << 15})
			if err != nil || len(frame) != len(real) {
				t.Fatalf("a batch of %d gets an answer of %d bytes, want %d as from a stage (%v)", cfg.Batch, len(frame), len(real), err)
			}
			request, err := codec.Append([]byte("before"), 1, ops)
			if err != nil {
				t.Fatal(err)
			}
			real, _ = wire.AppendRequest([]byte("before"), &wire.Request{Ops: ops})
			if len(request) != len(real) || string(request[:6]) != "before" || string(request[10:]) != string(real[10:]) {
				t.Fatalf("the request has %d bytes, %q, want %d as to a stage, %q", len(request), request, len(real), real)
			}
		}
	}
}

// The largest frames just fit the lengths in the header.
func TestEchoLargest(t *testing.T) {
	addr, _ := serveHere(t, serveEcho)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	go nc.Write(append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, wire.MaxFrame)...)) // ends when it is read
	answer := make([]byte, frameHeader+wire.MaxFrame)
	if _, err := io.ReadFull(nc, answer); err != nil || string(answer[:4]) != "\x00\x01\x00\x00" {
		t.Errorf("the answer begins with %q, error %v", answer[:4], err)
	}
}
