package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"syscall"
	"time"

	"lockstep/common/barrier"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// errCutShort ends a drain at a second signal or at the drain timeout.
var errCutShort = errors.New("the drain was cut short")

// A signal within a moment of the first one counts as the same one: timeout(1) sends two.
const moment = 100 * time.Millisecond

// run waits for the other nodes, serves until a signal or the end of eof, and drains
// until serve returns. The drain timeout cuts the drain short, and so does a second signal
// unless no connection is open; a second signal also ends the lingering of the barrier.
func (n *Node) run(stage string, service, controlPort net.Listener, serve Serve, signals <-chan os.Signal, eof <-chan struct{}) error {
	b := n.newBarrier(stage, controlPort)
	over, finish := context.WithCancel(context.Background())
	defer finish()
	stop, hurry := watchStops(over, signals, eof)
	defer b.Close() // lingers for the nodes that still need an answer
	context.AfterFunc(hurry, b.Hurry)

	ctx, cancel := context.WithCancel(over)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- n.serve(ctx, b, service, serve) }() // ends with ctx, unless the stage is stuck
	select {
	case err := <-served:
		return err
	case why := <-stop:
		n.Log.Info(why + ": answering what has arrived, then stopping")
		n.Stats.Serving.Store(false)
		cancel()
	}
	select {
	case err := <-served:
		return err
	case <-hurry.Done():
	case <-time.After(n.Config.Server.DrainTimeout):
		b.Hurry()
	}
	open := n.Stats.Open.Load()
	if open == 0 { // every client had its answer, and the stage has only to return
		select {
		case err := <-served:
			return err
		case <-time.After(10 * moment):
		}
	}
	where := Whereabouts("main.", Stacks("main.")...) // of the stage that has not ended
	return fmt.Errorf("%w (%s)", errCutShort, strings.TrimSuffix(text.Plural(open, "connection")+" open; "+where, "; "))
}

// serve passes the barrier and runs the stage until ctx ends.
func (n *Node) serve(ctx context.Context, b *barrier.Barrier, service net.Listener, serve Serve) error {
	here := n.Config.DescribeServer()
	properties, err := b.Wait(ctx, []byte(here))
	if ctx.Err() != nil {
		return nil // stopped while it waited: there is nothing to drain
	} else if err != nil {
		return err
	}
	for i, there := range properties {
		if differ := cluster.Differences(here, string(there)); differ != "" {
			n.Log.Warn(fmt.Sprintf("node %d (%s) works differently: %s", i, n.Config.Nodes[i].Addr, differ))
		}
	}
	if b.Rejoined() {
		n.Log.Warn("restarted while the other nodes ran: this node's table is empty")
	}
	n.served.Store(true)
	n.Stats.Serving.Store(true)
	defer n.Stats.Serving.Store(false)
	go n.watchStuck(ctx, control.Pause) // ends with ctx
	n.Log.Info(fmt.Sprintf("serving on %s until Ctrl-C", service.Addr()))
	if err := serve(ctx, service, n); !errors.Is(err, ErrStopped) {
		return err
	}
	return nil
}

func (n *Node) newBarrier(stage string, controlPort net.Listener) *barrier.Barrier {
	var peers []string
	for _, node := range n.Config.Nodes {
		peers = append(peers, node.Control)
	}
	properties := n.Config.DescribeServer()
	return barrier.New(controlPort, barrier.Config{
		Group: "nodes", Self: n.Self, Peers: peers,
		Fingerprint: n.Config.Describe(stage), Secret: n.Config.Secret, Log: n.Log, Strangers: n.strangers.Most,
		Answers: map[wire.ControlKind]func() any{
			wire.Stats: func() any {
				snapshot := n.Stats.Snapshot()
				snapshot.Stage, snapshot.Server = stage, properties
				return snapshot
			},
			wire.Lanes: func() any { return n.Stats.Lanes.Record() },
		},
	})
}

// watchStops turns what asks a server to stop into a reason, sent to stop, and into the
// end of hurry at the second signal. A signal within a moment of the first one does not
// count, nor does the end of input: after Ctrl-C in a parent's terminal both come, in
// either order.
func watchStops(ctx context.Context, signals <-chan os.Signal, eof <-chan struct{}) (stop <-chan string, hurry context.Context) {
	reasons := make(chan string, 2) // all that there can be: only the first is read
	hurry, cancel := context.WithCancel(ctx)
	go func() { // ends with ctx or at the second signal
		defer cancel()
		var first time.Time
		for {
			select {
			case s := <-signals:
				if first.IsZero() {
					first = time.Now()
					reasons <- s.String()
				} else if time.Since(first) > moment {
					return
				}
			case <-eof:
				eof = nil
				reasons <- "end of input"
			case <-ctx.Done():
				return
			}
		}
	}()
	return reasons, hurry
}

// hint says what can be done about an error of net.Listen, or "". Windows has its own
// numbers for these errors.
func hint(err error) string {
	var errno syscall.Errno
	errors.As(err, &errno)
	switch errno {
	case syscall.EADDRINUSE, 10048:
		return ": is another server running there? stop it, or choose another port"
	case syscall.EADDRNOTAVAIL, 10049:
		return ": this machine does not have that address: correct it, or pass the -node that this machine is"
	case syscall.EACCES, 10013:
		return ": ports below 1024 may need more rights: choose one from 1024 to 32767"
	}
	return ""
}

// startProfile starts profiling the process into dir, unless dir is empty. The function
// that it returns writes the files: cpu, heap, block and mutex for go tool pprof, trace
// for go tool trace.
func startProfile(dir string) (stop func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	err = os.MkdirAll(dir, 0o755)
	files := make(map[string]*os.File)
	for _, name := range []string{"cpu", "trace", "heap", "block", "mutex"} {
		if err == nil {
			files[name], err = os.Create(filepath.Join(dir, name+".out"))
		}
	}
	if err == nil {
		err = errors.Join(pprof.StartCPUProfile(files["cpu"]), trace.Start(files["trace"]))
	}
	if err != nil {
		return nil, fmt.Errorf("profiling into %s: %w", dir, err)
	}
	runtime.SetBlockProfileRate(10_000) // one sample for each 10 µs of blocking
	runtime.SetMutexProfileFraction(10) // one of 10 contentions
	return func() (err error) {
		pprof.StopCPUProfile()
		trace.Stop()
		runtime.GC() // so that the heap profile shows what is in use now
		for _, name := range []string{"heap", "block", "mutex"} {
			err = errors.Join(err, pprof.Lookup(name).WriteTo(files[name], 0))
		}
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return err
	}, nil
}
