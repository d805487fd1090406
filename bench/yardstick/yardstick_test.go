package yardstick

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// What is started ends with its keeper, however that ends.
func TestKeep(t *testing.T) {
	benchtest.FaultyInPath(t, "redis-server")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(*testbed.Proc){
		"end of standard input": func(p *testbed.Proc) { p.Stdin.Close() },
		"killed":                (*testbed.Proc).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			m := benchtest.NewFaulty(t, "late")
			p, err := testbed.StartProc(exec.Command(self, Command, "keep", "redis-server"))
			if err != nil {
				t.Fatal(err)
			}
			m.Started(1, false)
			end(p)
			m.Ended(1)
			if <-p.Done; name != "killed" && p.Err != nil {
				t.Errorf("the keeper ends with %v:\n%s", p.Err, p.Output)
			}
		})
	}
}

// A port that is taken costs another try; a program that never answers, patience.
func TestStartYardstick(t *testing.T) {
	benchtest.EmptyFolder(t)
	work, err := workload.New(cluster.Default().Workload)
	if err != nil {
		t.Fatal(err)
	}
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
		return testbed.FreeAddrs(n)
	}
	// That somebody answers there is not enough: the one that was started must not die.
	ln.Close()
	taken, _ := net.Listen("tcp", ln.Addr().String())
	defer taken.Close()
	y := newNetRPC()
	dial := y.dial
	y.dial = func(ctx context.Context, addr string) (load.Asker, error) {
		if addr == ln.Addr().String() {
			return nil, errors.New("another program is there")
		}
		return dial(ctx, addr)
	}
	if _, err := y.Start(t.Context(), h, cluster.Default()); err != nil || finds != 2 {
		t.Fatalf("a port that is taken: %d searches, error %v, want a second to help", finds, err)
	}
	h.Patience = 300 * time.Millisecond
	silent := newEcho(work)
	silent.dial = func(context.Context, string) (load.Asker, error) { return nil, errors.New("not yet") }
	if _, err := silent.Start(t.Context(), h, cluster.Default()); err == nil || !strings.Contains(err.Error(), "echo, node 0, does not serve after 300ms (not yet)") {
		t.Errorf("a yardstick that never answers: error %v", err)
	}
	h.Patience = 10 * time.Second
}

// The clients of echo and net/rpc by themselves: a server that ends, a call that is given up.
func TestYardstickClients(t *testing.T) {
	work, err := workload.New(cluster.Default().Workload)
	if err != nil {
		t.Fatal(err)
	}
	get := wire.Op{Kind: wire.Get, Key: work.Key(1)}
	for _, test := range []struct {
		yard  *Yardstick
		serve func(net.Conn)
	}{{newEcho(work), serveEcho}, {newNetRPC(), newRPCServer().Serve}} {
		t.Run(test.yard.Name, func(t *testing.T) {
			addr, stop := serveHere(t, test.serve)
			a, err := test.yard.dial(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if r, err := a.Do(t.Context(), get); err != nil || len(r) != 1 {
				t.Errorf("answered %v, %v", r, err)
			}
			if _, err := a.Do(t.Context(), wire.Op{Kind: wire.Get}); err == nil {
				t.Error("a request that breaks the rules is answered")
			}
			if r, err := a.Once(t.Context(), get); err != nil || len(r) != 1 {
				t.Errorf("after it: answered %v, %v", r, err)
			}
			if a.Counts().Dials != 1 || a.Counts().Dialing <= 0 {
				t.Errorf("counted %+v, want one connection", a.Counts())
			}
			stop()
			for i := 0; ; i++ {
				_, err := a.Do(t.Context(), get)
				if errors.Is(err, client.ErrDown) {
					break
				}
				if !errors.Is(err, client.ErrUnknown) || i > 1000 {
					t.Errorf("call %d after the server has ended: error %v", i, err)
					break
				}
			}
			if _, err := test.yard.dial(t.Context(), addr); err == nil {
				t.Error("dialling nobody is no error")
			}
		})
	}
}

// The bytes of an echo are those of a stage, each way.
func TestEchoBytes(t *testing.T) {
	for _, w := range []cluster.Workload{
		{Batch: 1, Mix: cluster.Mix{Get: 60, Put: 40}},
		{Batch: 64, Mix: cluster.Mix{Get: 50, Put: 50}},
	} {
		cfg := cluster.Default().Workload
		cfg.Batch, cfg.Mix = w.Batch, w.Mix
		work, err := workload.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		stored := table.New(cluster.Work{}, nil)
		for ops := range work.Preload {
			stored.Apply(slices.Clone(ops))
		}
		e := echoOf(work)
		s := work.Source(0)
		for range 100 {
			ops := s.Next()
			frame, err := e.frame(ops)
			if err != nil {
				t.Fatal(err)
			}
			real, err := wire.AppendResponse(nil, &wire.Response{Code: wire.OK, Results: stored.Apply(cloneOps(ops))})
			if err != nil || len(frame) != len(real) {
				t.Fatalf("a batch of %d is answered with %d bytes, and a stage answers with %d (%v)", cfg.Batch, len(frame), len(real), err)
			}
			request, err := e.AppendRequest([]byte("before"), ops)
			if err != nil {
				t.Fatal(err)
			}
			real, _ = wire.AppendRequest([]byte("before"), &wire.Request{Ops: ops})
			if len(request) != len(real) || string(request[:6]) != "before" || string(request[10:]) != string(real[10:]) {
				t.Fatalf("the request is %d bytes, %q, and a client of a stage sends %d, %q", len(request), request, len(real), real)
			}
		}
	}
}

// cloneOps copies values that the next request of their source overwrites.
func cloneOps(ops []wire.Op) []wire.Op {
	ops = slices.Clone(ops)
	for i := range ops {
		ops[i].Value = slices.Clone(ops[i].Value)
	}
	return ops
}

// The greatest frames of all, which have no room in their header for one byte more.
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
