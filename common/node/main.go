package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// Main runs a stage as a process and exits with 0 after a drain, with 1 after a failure
// or a drain that was cut short, and with 2 for wrong flags. A server that cannot write
// its log goes on without it; statistics that cannot be written are a failure.
func Main(serve Serve) {
	ballast = make([]byte, 6<<20)
	os.Exit(Run(os.Args, os.Stdin, os.Stdout, os.Stderr, serve))
}

// options are the flags that do not override a property.
type options struct {
	config, profile          string
	node                     int
	verbose, child, insecure bool
	check                    bool
}

// Run is Main with its surroundings as arguments; args[0] is the program's name. It logs
// to stderr, prints the statistics to stdout, and returns the exit code.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer, serve Serve) int {
	stage := text.Quote(strings.TrimSuffix(filepath.Base(args[0]), ".exe"), 60)
	report := func(err error) int {
		if err == nil || errors.Is(err, flag.ErrHelp) {
			return 0
		}
		fmt.Fprintf(stderr, "%s: %s\n", stage, text.Printable(err.Error()))
		if errors.As(err, new(cluster.UsageError)) {
			return 2
		}
		return 1
	}
	opt, cfg, err := parse(stage, args[1:], stdout)
	if err != nil {
		return report(err)
	}
	if opt.check {
		return check(stdout, stage, cfg)
	}

	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // the end of the terminal, unless the server was started to outlive it (nohup)
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // writing to a closed log fails, and does not end the server
	defer signal.Reset(syscall.SIGPIPE)
	eof := make(chan struct{}) // never closed if the end of standard input does not matter
	if opt.child {
		go func() { // ends with standard input or with the process
			io.Copy(io.Discard, stdin)
			close(eof)
		}()
	}

	var ports [2]net.Listener // for clients, and for questions
	service, questions := cfg.Nodes[opt.node].Listens()
	for i, addr := range []string{service, questions} {
		if ports[i], err = net.Listen("tcp", addr); err != nil {
			return report(fmt.Errorf("%w%s (%s says where node %d listens)", err, hint(err), opt.config, opt.node))
		}
		defer ports[i].Close()
	}
	profiled, err := startProfile(opt.profile)
	if err != nil {
		return report(err)
	}
	n := New(cfg, opt.node, slog.New(newHandler(stderr, stage)))
	n.strangers.Most = int(min(maxFiles()/8, control.MaxStrangers))
	reserve := uint64(ownFiles + 2*n.strangers.Most) // strangers at either port leave the others' descriptors alone
	if most := max(maxFiles(), reserve+1) - reserve; uint64(n.Config.Server.MaxConnections) > most {
		n.Log.Warn(fmt.Sprintf("max_connections: %d open files have room for %d, not %d: raise the limit with ulimit -n",
			maxFiles(), most, n.Config.Server.MaxConnections))
		n.Config.Server.MaxConnections = int(most)
	}
	n.Stats.Ballast = int64(len(ballast))
	err = errors.Join(n.run(stage, ports[0], ports[1], serve, signals, eof), profiled())
	if n.served.Load() {
		snapshot := n.Stats.Snapshot()
		stats := snapshot.String()
		if opt.verbose {
			stats = snapshot.Detail()
		}
		if _, failed := fmt.Fprintln(stdout, stats); failed != nil {
			err = errors.Join(err, fmt.Errorf("printing the statistics: %w", failed))
		}
	}
	return report(err)
}

// ballast is memory of the process that is never touched, and so costs only addresses. The
// garbage collector runs when the heap has doubled, counted from 4 MB at least: with a small
// table, large batches start it many times a second. With the ballast it counts from there. A
// much larger one is slower again, because the garbage no longer fits in the caches.
var ballast []byte

// ownFiles is how many descriptors a server needs besides its clients' connections and
// strangers: for the standard streams, the listeners, profiles, the runtime, and questions at
// its control port, which must work when all places for clients are taken.
const ownFiles = 24

// parse reads flags and configuration. After -h it writes the flags to stdout.
func parse(stage string, args []string, stdout io.Writer) (opt options, cfg cluster.Config, err error) {
	cfg = cluster.Default()
	fs := flag.NewFlagSet(stage, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&opt.config, "config", cluster.DefaultPath, "the configuration `file`")
	fs.IntVar(&opt.node, "node", -1, "this process's `number` in nodes, from 0; by default it finds itself by its addresses")
	fs.Lookup("node").DefValue = ""
	fs.BoolVar(&opt.verbose, "v", false, "print all statistics at the end")
	fs.BoolVar(&opt.check, "check", false, "serve nothing: find out whether each node can be reached and has this configuration")
	fs.BoolVar(&opt.child, "child", false, "")
	fs.BoolVar(&opt.insecure, "insecure", false, "serve off loopback without a secret")
	fs.StringVar(&opt.profile, "profile", "", "write profiles and an execution trace to this `directory`")
	cfg.Flags(fs, "server")
	if err = cfg.ParseFlags(fs, args, &opt.config, ""); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, "%s serves one node of the hash table until Ctrl-C.\n\n    go run ./%s -work 1ms\n", stage, stage)
		cluster.WriteFlags(stdout, fs, []cluster.FlagGroup{
			{Title: "Which node", Names: "config node check"},
			{Title: "How it works", Names: "work workers queue buckets"},
			{Title: "What it tells", Names: "v profile"},
			{Title: "More", Names: "*"},
		})
	} else if err == nil {
		err = cfg.CheckExposure(opt.insecure)
	}
	if err != nil {
		return opt, cfg, err
	}
	if opt.node == -1 && !opt.check { // a check does not care
		var addrs []string
		for _, n := range cfg.Nodes {
			addrs = append(addrs, n.Addr)
		}
		local, _ := net.InterfaceAddrs() // without them, the error says what to do
		opt.node, err = cluster.FindSelf("nodes", addrs, local)
	} else if opt.node < -1 || opt.node >= len(cfg.Nodes) {
		err = cluster.UsageError{Err: fmt.Errorf("-node %d: %s has nodes 0 to %d", opt.node, opt.config, len(cfg.Nodes)-1)}
	}
	return opt, cfg, err
}

// check dials both ports of each node, and writes a line for each: that it serves this
// configuration, or what is wrong with it and what to do. It returns the exit code.
func check(w io.Writer, stage string, cfg cluster.Config) (code int) {
	said, errs := make([]string, len(cfg.Nodes)), make([]error, len(cfg.Nodes))
	var checking sync.WaitGroup
	for i := range cfg.Nodes {
		checking.Go(func() { said[i], errs[i] = checkNode(stage, cfg, i) }) // 3 s at most at each port
	}
	checking.Wait()
	for i, n := range cfg.Nodes {
		if errs[i] != nil {
			said[i], code = errs[i].Error(), 1
		}
		fmt.Fprintf(w, "node %d (%s): %s\n", i, n.Addr, text.Printable(said[i]))
	}
	return code
}

// checkNode describes a node that serves this configuration. For any other, the error says what is
// wrong and what to do.
func checkNode(stage string, cfg cluster.Config, i int) (says string, err error) {
	ctx := context.Background()
	_, served := control.Ask(ctx, new(net.Dialer).DialContext, cfg.Nodes[i].Addr, cfg.Hello(i), wire.Control{})
	s, asked := control.AskNode[metrics.Snapshot](ctx, cfg, i, wire.Stats)
	var unreached control.DialError
	switch {
	case errors.As(served, &unreached), errors.As(asked, &unreached):
		return "", fmt.Errorf("%w: does it run (-node %d)? are addr and control right, and open in the firewalls?", unreached, i)
	case asked != nil:
		return "", asked
	case s.Stage != stage:
		return "", fmt.Errorf("runs %s, and this is %s: start the same stage everywhere", text.Quote(s.Stage, 60), stage)
	case !s.Serving:
		return "", errors.New("is up and does not serve: it waits for other nodes, which its log names, or stops")
	case errors.Is(served, context.DeadlineExceeded):
		return "", errors.New("does not greet: it serves another client (stage 1 takes one at a time), or is stuck")
	case served != nil:
		return "", served
	}
	says = fmt.Sprintf("serves; %s for %s, with %s", stage, text.Duration(s.Uptime), text.Plural(s.Keys, "key"))
	if differ := cluster.Differences(cfg.DescribeServer(), s.Server); differ != "" {
		says += "; note that " + differ
	}
	return says, nil
}

// FreeAddrs tries one port after another, so that two calls do not return the same one.
var (
	firstPort  = rand.Uint32N(22_000) // other processes begin elsewhere
	portsTried atomic.Uint32
)

// FreeAddrs returns n different loopback addresses whose ports are free now, for servers
// that are about to start. The ports are below the ephemeral range, so that no client's
// socket takes one before a server does.
func FreeAddrs(n int) ([]string, error) {
	var addrs []string
	for range 100 * n {
		if addr := fmt.Sprintf("127.0.0.1:%d", 10_000+(firstPort+portsTried.Add(1))%22_000); !Taken(addr) {
			addrs = append(addrs, addr)
		}
		if len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d free ports on 127.0.0.1 from 10000 to 31999: stop some servers", n)
}

// Taken reports whether an address cannot be listened on.
func Taken(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		ln.Close()
	}
	return err != nil
}
