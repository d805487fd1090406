package node

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"lockstep/common/barrier"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// Main runs a stage as a process, from its flags to its exit code: 0 after a
// drain, 1 after a failure or a drain that was cut short, 2 for wrong flags. A log that
// cannot be written is lost, and the server goes on; statistics that cannot be
// written are a failure.
func Main(serve Serve) {
	os.Exit(Run(os.Args, os.Stdin, os.Stdout, os.Stderr, serve))
}

// options are the flags that are no property.
type options struct {
	config   string
	node     int
	verbose  bool
	child    bool
	insecure bool
	profile  string
}

// Run is Main with its surroundings as arguments, args[0] the program's name.
// What is logged goes to stderr, the statistics at the end to stdout.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer, serve Serve) int {
	stage := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	said := newSpool(stderr)
	defer said.close()
	complain := func(err error) int {
		fmt.Fprintf(said, "%s: %v\n", stage, err)
		return 1
	}
	opt, cfg, err := parse(stage, args[1:], stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	var usage cluster.UsageError
	if errors.As(err, &usage) {
		complain(err)
		return 2
	}
	if err != nil {
		return complain(err)
	}

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, stopSignals()...)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more is no reason to die
	defer signal.Reset(syscall.SIGPIPE)
	var eof chan struct{} // nil: standard input does not matter
	if opt.child {
		eof = make(chan struct{})
		go func() { // ends with the process, or earlier
			io.Copy(io.Discard, stdin)
			close(eof)
		}()
	}

	service, control, err := listen(cfg.Nodes[opt.node])
	if err != nil {
		return complain(fmt.Errorf("%w%s (%s says where node %d listens)", err, hint(err), opt.config, opt.node))
	}
	defer service.Close()
	defer control.Close()
	profiled, err := startProfile(opt.profile)
	if err != nil {
		return complain(err)
	}
	n := New(cfg, opt.node, slog.New(newHandler(said, stage, opt.verbose)))
	err = n.run(stage, service, control, serve, signals, eof)
	err = errors.Join(err, profiled())
	if n.served.Load() {
		err = errors.Join(err, printStats(stdout, n.Stats.Snapshot(), opt.verbose))
	}
	if err != nil {
		return complain(err)
	}
	return 0
}

func printStats(w io.Writer, s metrics.Snapshot, verbose bool) error {
	text := s.String()
	if verbose {
		text = s.Detail()
	}
	written := make(chan error, 1)
	if !within(spoolTime, func() { _, err := fmt.Fprintln(w, text); written <- err }) {
		return errors.New("printing the statistics: nobody takes them")
	}
	if err := <-written; err != nil {
		return fmt.Errorf("printing the statistics: %w", err)
	}
	return nil
}

// stopSignals are those that ask a server to stop: Ctrl-C, a kill, and a terminal that
// was closed, unless whoever started the server said that it should outlive that
// (nohup).
func stopSignals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// parse reads flags and configuration. After -h it writes the flags to stdout.
func parse(stage string, args []string, stdout io.Writer) (opt options, cfg cluster.Config, err error) {
	cfg = cluster.Default()
	fs := flag.NewFlagSet(stage, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&opt.config, "config", cluster.DefaultPath, "the configuration `file`")
	fs.IntVar(&opt.node, "node", -1, "this process's `number` in nodes, from 0; by default it finds itself by its addresses")
	fs.BoolVar(&opt.verbose, "v", false, "log more, and print all statistics at the end")
	fs.BoolVar(&opt.child, "child", false, "stop at the end of standard input, too")
	fs.BoolVar(&opt.insecure, "insecure", false, "serve off loopback without a secret")
	fs.StringVar(&opt.profile, "profile", "", "write profiles and an execution trace to this `directory`")
	cfg.Flags(fs, "server")
	if err := cfg.ParseFlags(fs, args, &opt.config, ""); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, "%s serves one node of the hash table until Ctrl-C.\n\nFlags:\n", stage)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return opt, cfg, err
	} else if err != nil {
		return opt, cfg, err
	}
	if err := cfg.CheckExposure(opt.insecure); err != nil {
		return opt, cfg, err
	}
	if opt.node == -1 {
		opt.node, err = cfg.Self()
	} else if opt.node < 0 || opt.node >= len(cfg.Nodes) {
		err = cluster.UsageError{Err: fmt.Errorf("-node %d: %s has nodes 0 to %d", opt.node, opt.config, len(cfg.Nodes)-1)}
	}
	return opt, cfg, err
}

// errCutShort is the exit of a drain that a second signal or the drain timeout ended.
var errCutShort = errors.New("stopped before every client had its answer")

// run waits for the other nodes, serves until a signal or eof, and drains until
// serve returns, or a second signal comes, or the drain timeout; a second signal also
// ends the barrier's lingering. (A signal and the end of standard input are no two
// signals: after a Ctrl-C that a parent hears, too, both come, in either order.)
func (n *Node) run(stage string, service, control net.Listener, serve Serve, signals <-chan os.Signal, eof <-chan struct{}) error {
	var peers []string
	for _, node := range n.Config.Nodes {
		peers = append(peers, node.Control)
	}
	b := barrier.New(control, barrier.Config{
		Group: "nodes", Self: n.Self, Peers: peers,
		Fingerprint: n.Config.Describe(stage), Secret: n.Config.Secret,
		Log: n.Log, Stats: func() []byte { return n.statsAnswer(stage) },
	})
	heard := 0 // signals
	defer func() {
		closed := make(chan error)
		go func() { closed <- b.Close() }() // lingers for who still needs an answer, until a second signal
		for heard < 2 {
			select {
			case <-signals:
				heard++
			case <-closed:
				return
			}
		}
		b.Hurry()
		<-closed
	}()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	go func() { // ends when ctx does, waited for below
		if _, err := b.Wait(ctx, nil); err != nil {
			if ctx.Err() != nil {
				err = nil // stopped while it waited: there is nothing to drain
			}
			served <- err
			return
		}
		n.served.Store(true)
		n.Stats.Serving.Store(true)
		defer n.Stats.Serving.Store(false)
		var watch sync.WaitGroup
		defer watch.Wait()
		serving, over := context.WithCancel(ctx)
		defer over()
		watch.Go(func() { n.watchStuck(serving) }) // ends with serving
		n.Log.Info(fmt.Sprintf("serving on %s, control on %s; Ctrl-C stops", service.Addr(), control.Addr()))
		served <- serve(ctx, service, n)
	}()
	var late <-chan time.Time
	stop := func(why string) {
		if ctx.Err() == nil {
			n.Log.Info(why + ": answering what has arrived, then stopping")
			n.Stats.Serving.Store(false)
			cancel()
			late = time.After(n.Config.Server.DrainTimeout)
		}
	}
	for heard < 2 {
		select {
		case err := <-served:
			return err
		case s := <-signals:
			heard++
			stop(s.String())
		case <-eof:
			eof = nil
			stop("end of standard input")
		case <-late:
			heard = 2
		}
	}
	return fmt.Errorf("%w (%d connections open)", errCutShort, n.Stats.Open.Load())
}

func (n *Node) statsAnswer(stage string) []byte {
	snapshot := n.Stats.Snapshot()
	snapshot.Stage = stage
	answer, err := json.Marshal(snapshot)
	if err != nil {
		n.Log.Error("encoding statistics", "err", err)
	}
	return answer
}

// hint says what can be done about an error of listen, if that is known. Windows has
// numbers of its own for these errors.
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

// listen opens the two ports of a node.
func listen(self cluster.Node) (service, control net.Listener, err error) {
	if service, err = net.Listen("tcp", self.Addr); err != nil {
		return nil, nil, err
	}
	if control, err = net.Listen("tcp", self.Control); err != nil {
		service.Close()
		return nil, nil, err
	}
	return service, control, nil
}
