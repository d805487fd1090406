package yardstick

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

var (
	testWork, _ = workload.New(cluster.Default().Workload)

	testGet    = wire.Op{Kind: wire.Get, Key: "k"}
	testPut    = wire.Op{Kind: wire.Put, Key: "k", Value: []byte("value")}
	testDelete = wire.Op{Kind: wire.Delete, Key: "k"}
)

// The program that starts a yardstick is also the yardstick: here, the test binary.
// Under another name it is a redis-server that a test has put into PATH.
func TestMain(m *testing.M) {
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the processes that tests start
	switch {
	case strings.HasPrefix(filepath.Base(os.Args[0]), "redis-server"):
		for fault := benchtest.FaultyMain(); fault == "busy"; {
		}
		select {} // does not serve
	case len(os.Args) > 1 && os.Args[1] == Command:
		if err := Serve(context.Background(), os.Args[2:], os.Stdin); err != nil {
			panic(err)
		}
	default:
		m.Run()
	}
}

// serveHere serves one connection in this process.
func serveHere(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup // until ln or the connection is closed
	served.Go(func() {
		if nc, err := ln.Accept(); err == nil {
			defer nc.Close()
			serve(nc)
		}
	})
	t.Cleanup(served.Wait)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// A program that is kept ends with its keeper, even if that is killed. Its CPU counts until then.
func TestKeep(t *testing.T) {
	t.Setenv("PATH", benchtest.OnlyInPath(t, "redis-server"))
	started := benchtest.NewFaulty(t, "") // which waits for the end of both
	stdin, end := io.Pipe()
	ended := make(chan error)
	go func() { ended <- Serve(t.Context(), []string{"keep", "redis-server"}, stdin) }()
	<-started
	end.Close()
	if err := <-ended; err != nil {
		t.Errorf("at the end of standard input, the keeper ends with %v", err)
	}

	t.Setenv("LOCKSTEP_FAULT", "busy")
	start := time.Now()
	p, err := testbed.StartProc(exec.Command(os.Args[0], Command, "keep", "redis-server"))
	if err != nil {
		t.Fatal(err)
	}
	<-started
	group := p.Cmd.Process.Pid
	wait := func(enough func(cpu time.Duration) bool) (cpu time.Duration) {
		for cpu = cpuOf(group); !enough(cpu) && time.Since(start) < 20*time.Second; cpu = cpuOf(group) {
			control.Pause(t.Context(), 5*time.Millisecond)
		}
		return cpu
	}
	least := cpuOf(group)        // the keeper uses no more
	if runtime.GOOS == "linux" { // others do not tell
		least += 30 * time.Millisecond
	}
	cpu := wait(func(cpu time.Duration) bool { return cpu >= least })
	if most := time.Since(start) * time.Duration(runtime.NumCPU()); cpu < least || cpu > most {
		t.Errorf("the keeper and a busy program have used %v, want %v to %v", cpu, least, most)
	}
	p.Kill()
	<-p.Done
	if cpu := wait(func(cpu time.Duration) bool { return cpu == 0 }); cpu != 0 {
		t.Errorf("when they have ended, they have used %v", cpu)
	}
}

// Start starts a server, whose program ends if its port is taken, and gives up on one that never answers.
func TestStartYardstick(t *testing.T) {
	benchtest.EmptyFolder(t)
	h, err := testbed.New(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	y := yardsticks["netrpc"]
	s, err := y.Start(t.Context(), h, cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), []string{"echo", s.Config.Nodes[0].Addr}, strings.NewReader("")); err == nil {
		t.Error("a second server at its address ends without an error")
	}
	h.Patience = 50 * time.Millisecond
	silent := newEcho(testWork)
	silent.version = func(*bufio.Reader) (string, error) { return "", errors.New("not yet") }
	if _, err := silent.Start(t.Context(), h, cluster.Default()); err == nil || !strings.Contains(err.Error(), "does not serve after") {
		t.Errorf("a yardstick that never answers: error %v", err)
	}
}

// Parse makes the yardsticks of a list in its order, or says why they cannot be compared.
func TestParse(t *testing.T) {
	ordinary, swaps, works := cluster.Default(), cluster.Default(), cluster.Default()
	swaps.Workload.Mix = cluster.Mix{CAS: 100}
	works.Server.Work.Time = time.Second
	for _, test := range []struct {
		list       string
		nodes      int
		cfg        cluster.Config
		names, err string
	}{
		{"", 1, ordinary, "", ""},
		{"redis=host:1, echo,memcached,netrpc", 1, ordinary, "redis echo memcached net/rpc", ""},
		{"netrpc", 1, swaps, "net/rpc", ""},
		{"echo,", 1, ordinary, "", "unknown"},
		{"redis,redis=host:1", 1, ordinary, "", "twice"},
		{"echo=host:1", 1, ordinary, "", "reached"},
		{"redis=", 1, ordinary, "", "reached"},
		{"echo", 2, ordinary, "", "one process"},
		{"redis", 1, swaps, "", "compare-and-swap"},
		{"netrpc", 1, works, "", "-work"},
	} {
		yards, err := Parse(test.list, test.cfg, test.nodes, testWork)
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
	h := &testbed.Bed{Addrs: node.FreeAddrs}
	addr := serveHere(t, func(nc net.Conn) {
		nc.Read(make([]byte, 1<<10))
		io.WriteString(nc, "$19\r\nredis_version:6.2\r\n\r\n")
	})
	cfg := cluster.Default()
	yards, err := Parse("memcached,redis="+addr, cfg, 1, testWork)
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
}

// The clients of echo and net/rpc get right answers, several at a time.
func TestCodecs(t *testing.T) {
	netRPC := yardsticks["netrpc"]
	for _, test := range []struct {
		yard  *Yardstick
		serve func(net.Conn)
	}{{newEcho(testWork), serveEcho}, {&netRPC, newRPCServer()}} {
		cfg := cluster.Default()
		cfg.Nodes[0].Addr = serveHere(t, test.serve)
		cl, err := target{test.yard, cfg, 0}.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		var calls sync.WaitGroup
		for i := range 16 {
			calls.Go(func() {
				s := testWork.Source(i)
				for range 5 {
					results, err := cl.Do(t.Context(), s.Next(s.Batch)...)
					if a := s.Check(results); err != nil || a.Wrong > 0 {
						t.Errorf("%s: error %v, %v", test.yard.Name, err, a.FirstWrong)
					}
				}
			})
		}
		calls.Wait()
		refused := test.yard == &netRPC // by its server, which keeps the connection, and not by the codec
		if _, err := cl.Do(t.Context(), wire.Op{Kind: wire.Get}); err == nil || errors.As(err, new(load.Refusal)) != refused {
			t.Errorf("%s: a request that breaks the rules: error %v", test.yard.Name, err)
		}
		if r, err := cl.Once(t.Context(), wire.Op{Kind: wire.Get, Key: testWork.Key(1)}); err != nil || len(r) != 1 {
			t.Errorf("%s: after it: answered %v, %v", test.yard.Name, r, err)
		}
	}
}

// An echo sends and receives as many bytes as a stage.
func TestEchoBytes(t *testing.T) {
	stored := table.New(cluster.Work{}, nil)
	stored.Apply(testWork.Preload(0, testWork.Keys))
	codec := newEcho(testWork).codec(nil).(echoCodec)
	s := testWork.Source(0)
	for _, batch := range []int{1, 64} {
		for range 20 {
			ops := s.Next(batch)
			frame := codec.frame(ops)
			real, err := wire.AppendResponse(nil, &wire.Response{Code: wire.OK, Results: stored.Apply(slices.Clone(ops)), Number: 1 << 15})
			if err != nil || len(frame) != len(real) {
				t.Fatalf("a batch of %d gets an answer of %d bytes, want %d as from a stage (%v)", batch, len(frame), len(real), err)
			}
			request, err := codec.Append([]byte("before"), 1, ops)
			real, _ = wire.AppendRequest([]byte("before"), &wire.Request{Ops: ops})
			if err != nil || len(request) != len(real) || string(request[:6]) != "before" || string(request[10:]) != string(real[10:]) {
				t.Fatalf("the request has %d bytes, %q, want %d as to a stage, %q (%v)", len(request), request, len(real), real, err)
			}
		}
	}
}

func TestCommands(t *testing.T) {
	for want, d := range map[string]*dialect{
		"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" + "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n" + "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n": redis,
		"mg k v\r\n" + "ms k 5\r\nvalue\r\n" + "md k\r\n":                                                                     memcached,
	} {
		got, err := d.codec(nil).Append(nil, 1, []wire.Op{testGet, testPut, testDelete})
		if err != nil || string(got) != want {
			t.Errorf("the request is %q, %v, want %q", got, err, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	longest := strings.Repeat("v", wire.MaxValue)
	for _, test := range []struct {
		*dialect
		op     wire.Op
		answer string
		status wire.Status
		value  string
		err    string // that ends the connection; "refused: ..." does not
	}{
		{redis, testGet, "$5\r\nvalue\r\n", wire.Found, "value", ""},
		{redis, testGet, "$2\r\n\r\n\r\n", wire.Found, "\r\n", ""},
		{redis, testGet, "$16384\r\n" + longest + "\r\n", wire.Found, longest, ""},
		{redis, testGet, "$-1\r\n", wire.Missing, "", ""},
		{redis, testPut, "+OK\r\n", wire.Replaced, "", ""},
		{redis, testDelete, ":1\r\n", wire.Deleted, "", ""},
		{redis, testDelete, ":0\r\n", wire.Missing, "", ""},
		{redis, testGet, "-WRONGTYPE it is a list\r\n", 0, "", "refused: the server says: WRONGTYPE it is a list"},
		{redis, testGet, "$16385\r\n" + longest + "v\r\n", 0, "", "16385"},
		{redis, testGet, "$4\r\nvalue\r\n", 0, "", "malformed answer"},
		{redis, testGet, "$5\r\nval", 0, "", "EOF"},
		{redis, testGet, "$5\nvalue\r\n", 0, "", "malformed answer"},
		{redis, testPut, "$1\r\na\r\n", 0, "", `malformed answer: "$1"`},
		{redis, testGet, strings.Repeat("x", 1<<20), 0, "", "malformed answer"},

		{memcached, testGet, "VA 5\r\nvalue\r\n", wire.Found, "value", ""},
		{memcached, testGet, "VA 5 f0 t-1\r\nvalue\r\n", wire.Found, "value", ""},
		{memcached, testGet, "EN\r\n", wire.Missing, "", ""},
		{memcached, testPut, "HD \r\n", wire.Replaced, "", ""},
		{memcached, testDelete, "HD\r\n", wire.Deleted, "", ""},
		{memcached, testDelete, "NF\r\n", wire.Missing, "", ""},
		{memcached, testPut, "SERVER_ERROR out of memory storing object\r\n", 0, "", "refused: the server says: out of memory storing object"},
		{memcached, testPut, "CLIENT_ERROR bad data chunk\r\n", 0, "", "malformed answer"},
	} {
		in := bufio.NewReaderSize(strings.NewReader(test.answer), bufferSize)
		_, results, err := test.codec(in).Read([]wire.Op{test.op})
		want, refused := strings.CutPrefix(test.err, "refused: ")
		switch {
		case test.err == "" && (err != nil || len(results) != 1 || results[0].Status != test.status || string(results[0].Value) != test.value || in.Buffered() > 0):
			t.Errorf("%v, answered %.60q: %v, %v, want %v; %d bytes are left", test.op.Kind, test.answer, results, err, test.status, in.Buffered())
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), want) || errors.As(err, new(load.Refusal)) != refused):
			t.Errorf("%v, answered %.60q: %v, error %v, want %q", test.op.Kind, test.answer, results, err, test.err)
		}
	}
	// A refusal of one operation leaves nothing that could be taken for the next answer.
	in := bufio.NewReader(strings.NewReader("-ERR no\r\n$1\r\na\r\n"))
	if _, results, err := redis.codec(in).Read([]wire.Op{testGet, testGet}); !errors.As(err, new(load.Refusal)) || results != nil || in.Buffered() > 0 {
		t.Errorf("one of two refused: results %v, error %v; %d bytes are left", results, err, in.Buffered())
	}
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		version           func(*bufio.Reader) (string, error)
		answer, want, err string
	}{
		{redisVersion, "$29\r\n# Server\r\nredis_version:6.2\r\n\r\n", "6.2", ""},
		{redisVersion, "$2\r\nhi\r\n", "", "a version of Redis"},
		{redisVersion, "HTTP/1.1 400 Bad Request\r\n", "", "malformed answer"},
		{memcachedVersion, "VERSION 1.6.18\r\nMN\r\n", "1.6.18", ""},
		{memcachedVersion, "VERSION 1.5.22\r\nERROR\r\n", "1.5.22", "memcached 1.5.22 does not know meta commands"},
		{memcachedVersion, "ERROR\r\n", "", "malformed answer"},
	} {
		got, err := test.version(bufio.NewReader(strings.NewReader(test.answer)))
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: version %q, error %v, want %q, %q", test.answer, got, err, test.want, test.err)
		}
	}
}
