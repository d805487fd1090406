package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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
	"testing/iotest"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// This program starts itself as a yardstick, and so do its tests; under another name
// they are a program that a test has put into PATH.
func TestMain(m *testing.M) {
	switch {
	case strings.HasPrefix(filepath.Base(os.Args[0]), "redis-server"):
		os.Exit(fakeRedisMain())
	case len(os.Args) > 1 && os.Args[1] == yardstickCommand:
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A fakeRedis answers like Redis, but for its mistake.
type fakeRedis struct {
	mistake string
	mu      sync.Mutex // guards what follows
	table   *table.Table
	last    []byte // the value that was set last
	served  int
}

func newFakeRedis(mistake string) *fakeRedis {
	return &fakeRedis{mistake: mistake, table: table.New(cluster.Work{}, nil)}
}

func (f *fakeRedis) serve(nc net.Conn) {
	in, out := bufio.NewReader(nc), bufio.NewWriter(nc)
	for {
		words, err := readWords(in)
		if err != nil {
			return
		}
		io.WriteString(out, f.answer(words))
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}

// serveUnbuffered reads a request of two commands when the answer before it is read.
func (f *fakeRedis) serveUnbuffered(nc net.Conn) {
	in := bufio.NewReader(iotest.OneByteReader(nc))
	for {
		answer := ""
		for range 2 {
			words, err := readWords(in)
			if err != nil {
				return
			}
			answer += f.answer(words)
		}
		if _, err := io.WriteString(nc, answer); err != nil {
			return
		}
	}
}

// readWords reads a command in Redis' protocol, RESP.
func readWords(in *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

func (f *fakeRedis) answer(words []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if words[0] == "INFO" {
		if f.mistake == "secretive" {
			return "-NOAUTH Authentication required.\r\n"
		}
		const info = "# Server\r\nredis_version:7.7.7\r\nredis_mode:standalone\r\n"
		return fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
	}
	if f.served++; f.mistake == "mortal" && f.served > 2000 {
		fmt.Println("Out of memory allocating 1000 bytes")
		os.Exit(1)
	}
	op := wire.Op{Kind: map[string]wire.OpKind{"GET": wire.Get, "SET": wire.Put, "DEL": wire.Delete}[words[0]], Key: words[1]}
	if op.Kind == wire.Put {
		op.Value = []byte(words[2])
		f.last = op.Value
	}
	switch r := f.table.Apply([]wire.Op{op})[0]; {
	case r.Status == wire.Found && f.mistake == "full" && f.served%2 == 0:
		return "-OOM command not allowed\r\n"
	case r.Status == wire.Found && f.mistake == "wrong":
		return fmt.Sprintf("$%d\r\n%s\r\n", len(f.last), f.last)
	case r.Status == wire.Found:
		return fmt.Sprintf("$%d\r\n%s\r\n", len(r.Value), r.Value)
	case op.Kind == wire.Put:
		return "+OK\r\n"
	case r.Status == wire.Deleted:
		return ":1\r\n"
	case op.Kind == wire.Delete:
		return ":0\r\n"
	}
	return "$-1\r\n"
}

// fakeRedisMain is a redis-server, with the mistake that mistake has asked for.
func fakeRedisMain() int {
	mistake := os.Getenv("LOCKSTEP_MISTAKE")
	if tell, err := net.Dial("tcp", os.Getenv("LOCKSTEP_TELL")); err == nil {
		fmt.Fprintln(tell, "started") // and stays open until the end
	}
	flag := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	switch mistake {
	case "dead":
		fmt.Println("Fatal config file error")
		return 1
	case "late":
		fmt.Println("still loading")
		select {}
	case "busy":
		for {
		}
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(flag("--bind"), flag("--port")))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for redis := newFakeRedis(mistake); ; {
		nc, err := ln.Accept()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go redis.serve(nc) // ends with the process
	}
}

// fakeRedisInPath makes the fake the only program in PATH.
func fakeRedisInPath(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "redis-server")); err != nil || runtime.GOOS == "windows" {
		t.Skip("a program cannot have two names here")
	}
	t.Setenv("PATH", dir)
}

// against compares yardsticks alone, in one short round.
func against(t *testing.T, yardsticks string, args ...string) (code int, stdout, stderr string, s saved) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.json")
	args = append([]string{"compare", "-stages", "none", "-against", yardsticks, "-rounds", "1", "-o", path}, args...)
	code, stdout, stderr = bench(t, args...)
	return code, stdout, stderr, readSaved(t, path)
}

func checkAgainst(t *testing.T, yardsticks string, args ...string) {
	t.Helper()
	emptyFolder(t)
	code, stdout, stderr, s := against(t, yardsticks, append([]string{"-ops", "1600"}, args...)...)
	if code != exitOK && code != exitInvalid {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	names := strings.Split(strings.ReplaceAll(yardsticks, "netrpc", "net/rpc"), ",")
	for _, r := range s.Runs {
		if !slices.Contains(names, r.Stage) || r.OK != 1600 || len(r.Errors) != 0 || r.Wrong != 0 || r.Starved != 0 || r.Unfinished != 0 {
			t.Errorf("a round is %+v, want 1600 operations", r)
		}
		if !strings.Contains(stdout, r.Stage) {
			t.Errorf("%s is not in\n%s", r.Stage, stdout)
		}
	}
	if len(s.Runs) != len(names) || len(s.Summary) != len(names) {
		t.Errorf("%d rounds, %d rows, want %d", len(s.Runs), len(s.Summary), len(names))
	}
	checkWidth(t, stdout, 100)
}

var batches = []string{"-batch", "16", "-depth", "3", "-mix", "get=50,put=30,delete=20"}

func TestCompareAgainst(t *testing.T) { checkAgainst(t, "echo,netrpc", batches...) }

// Other workloads that yardsticks can do.
func TestCompareAgainstLoads(t *testing.T) {
	slow(t)
	for name, args := range map[string][]string{
		"plain":       nil,
		"per request": {"-conn", "per-request"},
		"empty":       {"-value", "0", "-depth", "2"},
		"open loop":   {"-rate", "8000", "-batch", "2"},
	} {
		for _, yardstick := range []string{"echo", "netrpc", "redis", "memcached"} {
			t.Run(yardstick+"/"+name, func(t *testing.T) {
				installed(t, yardstick)
				checkAgainst(t, yardstick, args...)
			})
		}
	}
	t.Run("compare-and-swap", func(t *testing.T) {
		checkAgainst(t, "netrpc", "-mix", "get=40,put=20,delete=20,cas=20", "-batch", "2")
	})
}

// Redis and memcached themselves, where they are installed.
func TestCompareAgainstInstalled(t *testing.T) {
	for _, yardstick := range []string{"redis", "memcached"} {
		t.Run(yardstick, func(t *testing.T) {
			installed(t, yardstick)
			checkAgainst(t, yardstick, batches...)
		})
	}
}

// installed skips the test if the yardstick cannot be started here.
func installed(t *testing.T, yardstick string) {
	t.Helper()
	if program := map[string]string{"redis": "redis-server", "memcached": "memcached"}[yardstick]; program != "" {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not in PATH", program)
		}
	}
}

// A stage and a yardstick, in one report.
func TestCompareStageAgainst(t *testing.T) {
	slow(t)
	emptyFolder(t)
	m := mistake(t, "")
	path := filepath.Join(t.TempDir(), "out.json")
	code, stdout, stderr := bench(t, "compare", "-stages", "testdata/mistaken", "-against", "echo", "-rounds", "2", "-duration", "100ms", "-o", path)
	if code != exitOK && code != exitInvalid {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	s := readSaved(t, path)
	if len(s.Runs) != 4 || s.Summary[0]["stage"] != "mistaken" || s.Summary[1]["stage"] != "echo" || s.Summary[1]["ratio"] == nil {
		t.Errorf("%d rounds, and the summary is %v, want echo compared with mistaken", len(s.Runs), s.Summary)
	}
	if runtime.GOOS == "linux" && s.Summary[1]["server_cpu_ns_per_request"] == 0.0 {
		t.Errorf("nothing is known of the CPU time of echo:\n%s", stdout)
	}
	m.gone(1)
}

// What is not installed is left out, and said.
func TestCompareAgainstAbsent(t *testing.T) {
	emptyFolder(t)
	t.Setenv("PATH", t.TempDir())
	code, stdout, stderr, s := against(t, "redis,echo,memcached", "-ops", "100")
	if code != exitOK && code != exitInvalid || len(s.Runs) != 1 {
		t.Errorf("exit code %d, %d rounds, want one of echo; stderr %q", code, len(s.Runs), stderr)
	}
	for _, want := range []string{"\nredis: not found in PATH; redis=HOST:PORT reaches one that runs\n", "\nmemcached: not found in PATH; memcached=HOST:PORT reaches one that runs\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("there is no %q in\n%s", want, stdout)
		}
	}
	code, _, stderr, _ = against(t, "redis", "-ops", "100")
	if want := "there is nothing to measure: redis: not found in PATH; redis=HOST:PORT"; code != exitFailure || !strings.Contains(stderr, want) {
		t.Errorf("redis alone: exit code %d, stderr %q, want 1 and %q", code, stderr, want)
	}
}

// A process that is no right Redis is found out, and none is left.
func TestCompareAgainstMistakes(t *testing.T) {
	for _, test := range []struct {
		mistake string
		code    int
		want    string // on stderr
	}{
		{"", exitOK, ""},
		{"wrong", exitWrongData, "wrong data: redis, round 1: key-"},
		{"dead", exitFailure, "redis, node 0, died (exit status 1)\nits last words:\n    Fatal config file error\n"},
		{"mortal", exitFailure, "redis, node 0, died (exit status 1)\nits last words:\n    Out of memory allocating 1000 bytes\n"},
	} {
		t.Run(test.mistake, func(t *testing.T) {
			emptyFolder(t)
			fakeRedisInPath(t)
			m := mistake(t, test.mistake)
			code, stdout, stderr, s := against(t, "redis", "-ops", "4000")
			if code != test.code && !(test.code == exitOK && code == exitInvalid) || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, stderr %q, want %d and %q", code, stderr, test.code, test.want)
			}
			if test.code == exitOK && (!strings.Contains(stdout, ", redis 7.7.7, ") || fmt.Sprint(s.Env["yardsticks"]) != "map[redis:7.7.7]") {
				t.Errorf("the version is not in %v and\n%s", s.Env["yardsticks"], stdout)
			}
			m.gone(1)
		})
	}
}

func TestCompareAgainstInterrupted(t *testing.T) {
	for _, mistaken := range []string{"", "late"} {
		t.Run(mistaken, func(t *testing.T) {
			emptyFolder(t)
			fakeRedisInPath(t)
			m := mistake(t, mistaken)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan string, 1)
			go func() { // ends soon after cancel
				code, _, stderr := benchUntil(ctx, "compare", "-stages", "none", "-against", "echo,redis", "-rounds", "1000", "-duration", "100ms")
				done <- fmt.Sprint(code, " ", stderr)
			}()
			m.started(1, false)
			cancel()
			if got := <-done; got != "130 bench: interrupted\n" {
				t.Errorf("exit code and stderr are %q, want 130 and interrupted", got)
			}
			m.gone(1)
		})
	}
}

// What is started ends with its keeper, however that ends.
func TestKeep(t *testing.T) {
	fakeRedisInPath(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(*proc){
		"end of standard input": func(p *proc) { p.stdin.Close() },
		"killed":                (*proc).kill,
	} {
		t.Run(name, func(t *testing.T) {
			m := mistake(t, "late")
			p, err := startProc(exec.Command(self, yardstickCommand, "keep", "redis-server"))
			if err != nil {
				t.Fatal(err)
			}
			m.started(1, false)
			end(p)
			m.gone(1)
			if <-p.dead; name != "killed" && p.err != nil {
				t.Errorf("the keeper ends with %v:\n%s", p.err, p.said)
			}
		})
	}
}

// One that runs already is reached, and stays.
func TestCompareAgainstReached(t *testing.T) {
	for mistake, want := range map[string]string{
		"":          "",
		"wrong":     "wrong data: redis, round 1: key-",
		"full":      "",
		"secretive": "redis at ADDR: the server says: NOAUTH Authentication required.\n",
	} {
		t.Run(mistake, func(t *testing.T) {
			addr, _ := serveHere(t, newFakeRedis(mistake).serve)
			code, stdout, stderr, s := against(t, "redis="+addr, "-ops", "200", "-mix", "get=100,put=0")
			if want = strings.ReplaceAll(want, "ADDR", addr); (want == "") != (code == exitOK || code == exitInvalid) || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, stderr %q, want %q", code, stderr, want)
			}
			switch mistake {
			case "":
				if !strings.Contains(stdout, "not known") || fmt.Sprint(s.Env["yardsticks"]) != "map[redis:7.7.7 at "+addr+"]" {
					t.Errorf("yardsticks are %v, and the CPU time of a server of others is known in\n%s", s.Env["yardsticks"], stdout)
				}
			case "full":
				if s.Runs[0].Errors["other"] != 100 || !strings.Contains(strings.Join(strings.Fields(stdout), " "), "the first error: the server says: OOM command not allowed") {
					t.Errorf("errors are %v, want 100, and the first in\n%s", s.Runs[0].Errors, stdout)
				}
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		addrs, err := freeAddrs(1)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"redis=", "memcached="} {
			if code, _, stderr, _ := against(t, word+addrs[0]); code != exitFailure || !strings.Contains(stderr, "refused") {
				t.Errorf("%s: exit code %d, stderr %q, want 1 and refused", word, code, stderr)
			}
		}
	})
}

// serveHere serves connections in this process until the end of the test.
func serveHere(t *testing.T, serve func(net.Conn)) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup // until stop
	served.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer nc.Close()
				defer context.AfterFunc(ctx, func() { nc.Close() })()
				serve(nc)
			})
		}
	})
	stop = func() {
		cancel()
		ln.Close()
		served.Wait()
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}

// A port that is taken costs another try; a program that never answers, patience.
func TestStartYardstick(t *testing.T) {
	emptyFolder(t)
	work, err := newWorkload(cluster.Default().Workload)
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHouse(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	finds := 0
	h.addrs = func(n int) ([]string, error) {
		if finds++; finds == 1 {
			return []string{ln.Addr().String()}, nil
		}
		return freeAddrs(n)
	}
	// That somebody answers there is not enough: the one that was started must not die.
	ln.Close()
	taken, _ := net.Listen("tcp", ln.Addr().String())
	defer taken.Close()
	y := newNetRPC()
	dial := y.dial
	y.dial = func(ctx context.Context, addr string) (Asker, error) {
		if addr == ln.Addr().String() {
			return nil, errors.New("another program is there")
		}
		return dial(ctx, addr)
	}
	if _, err := y.Start(t.Context(), h, cluster.Default()); err != nil || finds != 2 {
		t.Fatalf("a port that is taken: %d searches, error %v, want a second to help", finds, err)
	}
	h.patience = 300 * time.Millisecond
	silent := newEcho(work)
	silent.dial = func(context.Context, string) (Asker, error) { return nil, errors.New("not yet") }
	if _, err := silent.Start(t.Context(), h, cluster.Default()); err == nil || !strings.Contains(err.Error(), "echo, node 0, does not serve after 300ms (not yet)") {
		t.Errorf("a yardstick that never answers: error %v", err)
	}
	h.patience = 10 * time.Second
}

// The clients of echo and net/rpc by themselves: a server that ends, a call that is given up.
func TestYardstickClients(t *testing.T) {
	work, err := newWorkload(cluster.Default().Workload)
	if err != nil {
		t.Fatal(err)
	}
	get := wire.Op{Kind: wire.Get, Key: work.key(1)}
	for _, test := range []struct {
		yard  *yardstick
		serve func(net.Conn)
	}{{newEcho(work), serveEcho}, {newNetRPC(), newRPCServer().serve}} {
		t.Run(test.yard.name, func(t *testing.T) {
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
		work, err := newWorkload(cfg)
		if err != nil {
			t.Fatal(err)
		}
		stored := table.New(cluster.Work{}, nil)
		for ops := range work.preload {
			stored.Apply(slices.Clone(ops))
		}
		e := echoOf(work)
		s := work.source(0)
		for range 100 {
			ops := s.next()
			frame, err := e.frame(ops)
			if err != nil {
				t.Fatal(err)
			}
			real, err := wire.AppendResponse(nil, &wire.Response{Code: wire.OK, Results: stored.Apply(cloneOps(ops))})
			if err != nil || len(frame) != len(real) {
				t.Fatalf("a batch of %d is answered with %d bytes, and a stage answers with %d (%v)", cfg.Batch, len(frame), len(real), err)
			}
			request, err := e.appendRequest([]byte("before"), ops)
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
