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
	"syscall"
	"time"

	"lockstep/common/barrier"
	"lockstep/common/cluster"
)

// Main runs a stage as a process, from its flags to its exit code: 0 after a
// drain, 1 after a failure or a drain that was cut short, 2 for wrong flags.
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
	complain := func(err error) int {
		fmt.Fprintf(stderr, "%s: %v\n", stage, err)
		return 1
	}
	opt, cfg, err := parse(stage, args[1:], stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	var usage usageError
	if errors.As(err, &usage) {
		complain(err)
		return 2
	}
	if err != nil {
		return complain(err)
	}

	// The first signal asks for a drain, the second one cuts it short.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	stops := make(chan string)
	quit := make(chan struct{})
	defer close(quit)
	stop := func(why string) {
		select {
		case stops <- why:
		case <-quit:
		}
	}
	go func() { // ends with this function, or (reading stdin) with the process
		for {
			select {
			case s := <-signals:
				stop(s.String())
			case <-quit:
				return
			}
		}
	}()
	if opt.child {
		go func() {
			io.Copy(io.Discard, stdin)
			stop("end of standard input")
		}()
	}

	n := New(cfg, opt.node, slog.New(newHandler(stderr, stage, opt.verbose)))
	profiled, err := startProfile(opt.profile)
	if err != nil {
		return complain(err)
	}
	err = n.run(stage, serve, stops)
	err = errors.Join(err, profiled())
	if s := n.Stats.Snapshot(); opt.verbose && n.served.Load() {
		fmt.Fprintln(stdout, s.Detail())
	} else if n.served.Load() {
		fmt.Fprintln(stdout, s)
	}
	if err != nil {
		return complain(err)
	}
	return 0
}

// A usageError is a mistake in the command line.
type usageError struct{ error }

// parse reads flags and configuration. A flag overrides the property it is
// named after, so the flags are read twice: for the file's name, and over it.
func parse(stage string, args []string, stdout, stderr io.Writer) (opt options, cfg cluster.Config, err error) {
	flags := func(cfg *cluster.Config) *flag.FlagSet {
		fs := flag.NewFlagSet(stage, flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		fs.StringVar(&opt.config, "config", cluster.DefaultPath, "the configuration `file`")
		fs.IntVar(&opt.node, "node", -1, "this process's `number` in nodes, from 0; by default it finds itself by its addresses")
		fs.BoolVar(&opt.verbose, "v", false, "log more, and print all statistics at the end")
		fs.BoolVar(&opt.child, "child", false, "stop at the end of standard input, too")
		fs.BoolVar(&opt.insecure, "insecure", false, "serve off loopback without a secret")
		fs.StringVar(&opt.profile, "profile", "", "write profiles and an execution trace to this `directory`")
		cfg.ServerFlags(fs)
		return fs
	}
	scratch := cluster.Default()
	fs := flags(&scratch)
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, "%s serves one node of the hash table until Ctrl-C.\n\nFlags:\n", stage)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return opt, cfg, err
	} else if err != nil {
		return opt, cfg, usageError{fmt.Errorf("%w (-h lists the flags)", err)}
	}
	if fs.NArg() > 0 {
		return opt, cfg, usageError{fmt.Errorf("unexpected argument %q (-h lists the flags)", fs.Arg(0))}
	}
	cfg, err = cluster.Load(opt.config)
	if err != nil && !(errors.Is(err, os.ErrNotExist) && opt.config == cluster.DefaultPath) {
		return opt, cfg, err
	}
	flags(&cfg).Parse(args) // the same flags as above, and so no error
	if err := cfg.Validate(); err != nil {
		return opt, cfg, err
	}
	if err := cfg.CheckExposure(opt.insecure); err != nil {
		return opt, cfg, err
	}
	if opt.node < 0 {
		opt.node, err = cfg.Self()
	} else if opt.node >= len(cfg.Nodes) {
		err = usageError{fmt.Errorf("-node %d: %s has nodes 0 to %d", opt.node, opt.config, len(cfg.Nodes)-1)}
	}
	return opt, cfg, err
}

// errCutShort is the exit of a drain that a second signal or the drain timeout ended.
var errCutShort = errors.New("stopped before every client had its answer")

// run listens, waits for the other nodes, serves until the first stop, and
// drains until serve returns, or the second stop, or the drain timeout.
func (n *Node) run(stage string, serve Serve, stops <-chan string) error {
	self := n.Config.Nodes[n.Self]
	ln, err := listen(self.Addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	control, err := listen(self.Control)
	if err != nil {
		return err
	}
	var peers []string
	for _, node := range n.Config.Nodes {
		peers = append(peers, node.Control)
	}
	b := barrier.New(control, barrier.Config{
		Group: "nodes", Self: n.Self, Peers: peers,
		Fingerprint: n.Config.Describe(stage), Secret: n.Config.Secret,
		Log: n.Log, Stats: func() []byte { return n.statsAnswer(stage) },
	})
	defer b.Close()

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
		n.Log.Info(fmt.Sprintf("serving on %s, control on %s; Ctrl-C stops", ln.Addr(), control.Addr()))
		served <- serve(ctx, ln, n)
	}()
	select {
	case err := <-served:
		return err
	case why := <-stops:
		n.Log.Info(why + ": answering what has arrived, then stopping")
		cancel()
	}
	select {
	case err := <-served:
		return err
	case <-stops:
	case <-time.After(n.Config.Server.DrainTimeout):
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

// listen says what to do where the address cannot be had.
func listen(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: is another server running there? (addresses are set in %s)", err, cluster.DefaultPath)
	}
	return ln, nil
}
