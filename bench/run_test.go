package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// The workload of properties.json, shortened, on servers that run already. They are checked, too.
func TestRun(t *testing.T) {
	t.Parallel()
	_, path, _ := benchtest.StartCluster(t, 3, 1, benchtest.ServeLocked)
	stdout, s := measured(t, "run", "-config", path, "-ops", "300", "-keys", "100", "-rounds", "2")
	if len(s.Runs) != 2 || s.Summary[0].Stage != "here" || !strings.Contains(stdout, "no errors, no misses, nothing unfinished, nobody starved") {
		t.Errorf("%d rounds, want 2; the report is\n%s", len(s.Runs), stdout)
	}
	for i, r := range s.Runs {
		if r.Round != i+1 || r.OK != 300 || r.Connections != 8 || r.Misses != 0 || r.Wrong != 0 || len(r.Errors) != 0 {
			t.Errorf("a round is %+v, want 300 operations", r)
		}
	}
	code, stdout, stderr := bench(t.Context(), "check", "-running", "-config", path, "-duration", "100ms")
	if code != exitOK || !strings.HasPrefix(stdout, "the running servers: linearizable") {
		t.Errorf("check: exit code %d, stderr %q, want linearizable in\n%s", code, stderr, stdout)
	}
}

// Interrupted in its only round, run keeps what it has measured.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	cfg, path, _ := benchtest.StartCluster(t, 1, 0, benchtest.ServeLocked)
	out := filepath.Join(t.TempDir(), "out.json")
	measuring := func() {
		for seen := false; !seen; control.Pause(t.Context(), 20*time.Millisecond) {
			stats, err := client.Stats(t.Context(), cfg, 0)
			seen = err != nil || stats.Connections > 100 // more than the one that stored the keys
		}
	}
	stdout := interrupted(t, measuring, bench, "run", "-config", path, "-duration", "1h", "-keys", "100", "-conn", "per-request", "-o", out)
	if s := readSaved(t, out); s.Verdict != "interrupted" || len(s.Runs) != 1 || s.Runs[0].OK == 0 || !strings.HasPrefix(stdout, "INTERRUPTED\n") {
		t.Errorf("the saved report is %+v, want one round; printed was\n%s", s, stdout)
	}
}

// One of two nodes ends in the middle of a run. The load goes on at the other to its end, what is
// printed names the node, and the saved result is a good one.
func TestRunLosesANode(t *testing.T) {
	t.Parallel()              // waits
	var requests atomic.Int64 // of node 1
	cfg, path, _ := benchtest.StartCluster(t, 2, 0, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		ctx, end := context.WithCancel(ctx)
		defer end()
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, apply)
			if n.Self == 1 && requests.Add(1) == 50 { // with those of the keys
				end()
			}
		})
	})
	out := filepath.Join(t.TempDir(), "out.json")
	code, stdout, stderr := bench(t.Context(), "run", "-config", path, "-keys", "20", "-c", "4", "-rate", "200", "-ops", "500", "-o", out)
	if code != exitFailure || !strings.Contains(stderr, "a server has ended during the load: ") || !strings.Contains(stderr, "node 1, "+cfg.Nodes[1].Control) ||
		!strings.Contains(stdout, "node down") || !strings.Contains(stdout, "(node 1, ") {
		t.Errorf("exit code %d, it says %q, and prints\n%s\nwant 1, and that node 1 has ended", code, stderr, stdout)
	}
	if r := readSaved(t, out).Runs; len(r) != 1 || r[0].OK < 100 || r[0].Errors["node down"] == 0 || r[0].Wrong != 0 {
		t.Errorf("the saved rounds are %+v, want one, with answers from the other node and none wrong", r)
	}
}

// An outcome is how a client process ended.
type outcome struct {
	code           int
	stdout, stderr string
	saved          *report.Report
}

// runClients runs the first clients at the same time.
func runClients(t *testing.T, path string, clients int, args ...string) []outcome {
	t.Helper()
	all := make([]outcome, clients)
	var running sync.WaitGroup // each ends with its run
	for number := range all {
		out := filepath.Join(t.TempDir(), "out.json")
		running.Go(func() {
			o := &all[number]
			o.code, o.stdout, o.stderr = bench(t.Context(), append([]string{"run", "-config", path, "-client", strconv.Itoa(number), "-o", out}, args...)...)
			o.saved = readSaved(t, out)
		})
	}
	running.Wait()
	for _, o := range all[1:] {
		if first := all[0]; !reflect.DeepEqual(o.saved.Runs, first.saved.Runs) || !reflect.DeepEqual(o.saved.Summary, first.saved.Summary) || o.saved.Verdict != first.saved.Verdict {
			t.Errorf("the clients saved different reports:\n%+v\n%+v", first.saved, o.saved)
		}
	}
	return all
}

// playClient takes part as a client that sends nothing, in so many meetings. The others see it
// until leave.
func playClient(t *testing.T, path string, number, meetings int, args ...string) (leave func()) {
	t.Helper()
	o := &options{stderr: io.Discard}
	err := o.parse(command{name: "run", flags: runFlags}, append([]string{"-config", path, "-client", strconv.Itoa(number)}, args...))
	if err != nil {
		t.Fatal(err)
	}
	group, err := o.join(nil)
	for try := 0; err != nil && try < 100; try++ { // a process that another test has just forked holds the port until its exec
		control.Pause(t.Context(), time.Duration(try)*time.Millisecond)
		group, err = o.join(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(group.Close)
	for range meetings {
		if _, err := group.Meet(t.Context(), []byte{1}); err != nil {
			t.Error(err)
		}
	}
	return group.Close
}

const firstRound = 2 + load.Meetings // meetings until the clients gather: all are there, the keys are stored, and those of the round

// Three clients share the operations, even fewer than clients, and all have the results of all.
func TestClients(t *testing.T) {
	t.Parallel()
	_, path, _ := benchtest.StartCluster(t, 2, 3, benchtest.ServeLocked)
	for _, o := range runClients(t, path, 3, "-ops", "2", "-keys", "10", "-c", "2", "-rounds", "2") {
		if o.code != exitOK && o.code != exitInvalid || len(o.saved.Runs) != 2 || !strings.Contains(o.stdout, "3 clients, each with 2 connections, ") {
			t.Errorf("exit code %d, %d rounds, stderr %q, printed was\n%s", o.code, len(o.saved.Runs), o.stderr, o.stdout)
		}
		for _, r := range o.saved.Runs {
			if r.OK != 2 || len(r.Clients) != 3 || r.Clients[0].OK+r.Clients[1].OK+r.Clients[2].OK != 2 || r.Connections != 6 || r.Wrong+r.Misses != 0 ||
				len(r.Errors) != 0 || r.Latency["p99"] <= 0 || r.Nodes[0].Requests+r.Nodes[1].Requests < r.Requests {
				t.Errorf("a round is %+v, want 2 operations, on 6 connections of 3 clients", r)
			}
		}
	}
}

// The others finish without a client that ends in a round, and do not wait for it again. If it
// restarts, the round is void.
func TestClientLeaves(t *testing.T) {
	t.Parallel() // waits 2 s
	args := []string{"-ops", "60", "-keys", "10", "-c", "2", "-rounds", "2"}
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprint("restarts=", restarts), func(t *testing.T) {
			t.Parallel()
			cfg, path, _ := benchtest.StartCluster(t, 1, 3, benchtest.ServeLocked)
			third := "client 2 (" + cfg.Clients[2].Control + ")"
			rounds, stderr, stdout := 2, "round 1: missing: "+third+"\n", "2 × MISSING"
			if restarts {
				rounds, stderr, stdout = 0, third+": the run is void: it restarted after the run began", ""
			}
			var leaving sync.WaitGroup
			leaving.Go(func() { // ends in the first round
				playClient(t, path, 2, firstRound, args...)()
				if restarts {
					playClient(t, path, 2, 0, args...)
				}
			})
			for _, o := range runClients(t, path, 2, args...) {
				if o.code != exitFailure || len(o.saved.Runs) != rounds || !strings.Contains(o.stderr, stderr) || !strings.Contains(o.stdout, stdout) {
					t.Errorf("exit code %d, %d rounds, stderr %q, want 1, %d and %q; printed was\n%s", o.code, len(o.saved.Runs), o.stderr, rounds, stderr, o.stdout)
				}
				for _, r := range o.saved.Runs {
					if r.OK != 40 || !r.Clients[2].Missing || r.Clients[1].Missing || r.Clients[1].OK != 20 {
						t.Errorf("a round has %d operations, clients %+v, want 40 of two", r.OK, r.Clients)
					}
				}
			}
			leaving.Wait()
		})
	}
}

// lines is a writer that sends what is written to it.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// A client waits for the others, says so, does not meet one that measures in another way, and can
// be interrupted. If it has finished a round, it keeps its own result.
func TestRunLeftAlone(t *testing.T) {
	t.Parallel() // waits a second for the lines
	cfg, path, _ := benchtest.StartCluster(t, 1, 2, benchtest.ServeLocked)
	out := filepath.Join(t.TempDir(), "out.json")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr, stdout := make(lines, 100), new(strings.Builder)
	done := make(chan int, 1)
	go func() { // ends after cancel
		done <- run(ctx, []string{"run", "-config", path, "-client", "0", "-ops", "100", "-keys", "10", "-o", out}, stdout, stderr)
	}()
	other := "client 1 (" + cfg.Clients[1].Control + "): "
	says := func(want string) {
		t.Helper()
		for said, late := "", time.After(20*time.Second); !strings.Contains(said, want); t.Log(said) {
			select {
			case said = <-stderr:
			case <-late:
				t.Fatalf("client 0 does not say %q", want)
			}
		}
	}
	says("s; waiting for " + other)
	for want, args := range map[string]string{
		"rounds is 1 here, 2 there": "-rounds 2", "noretry is false here, true there": "-noretry",
		"samples is false here, true there": "-samples",
	} {
		leave := playClient(t, path, 1, 0, append(strings.Fields(args), "-ops", "100", "-keys", "10")...)
		says("bench: " + other + "the two ends disagree: " + want + ": give both the same")
		leave()
	}
	playClient(t, path, 1, firstRound, "-ops", "100", "-keys", "10") // it starts a round, and does not finish it
	for range len(stderr) {
		<-stderr // what was said before the round
	}
	says("bench: 1/2 ready after ")
	cancel()
	if code := <-done; code != exitInterrupted || !strings.HasPrefix(stdout.String(), "INTERRUPTED\n") {
		t.Errorf("exit code %d, want 130; printed was\n%s", code, stdout)
	}
	if s := readSaved(t, out); len(s.Runs) != 1 || s.Runs[0].OK != 50 {
		t.Errorf("the saved report is %+v, want one round with this client's 50 operations", s)
	}
}

func TestByHand(t *testing.T) {
	cfg, path, _ := benchtest.StartCluster(t, 3, 0, benchtest.ServeLocked)
	took := regexp.MustCompile(`[0-9.]+(µs|ms) with the connection\n$`)
	const binary = "\x00\xff\x1b[2J\r\n"
	for _, test := range []struct {
		args, piped    string // piped: standard input
		code           int
		stdout, stderr string // but for node and time
	}{
		{"get|color", "", exitFailure, "", "bench: color: missing, "},
		{"put|color|blue", "", exitOK, "color: created, ", ""},
		{"put|color|-5", "", exitOK, "color: replaced, ", ""},
		{"get|color", "", exitOK, "-5", "color: found, "},
		{"put|a key", binary, exitOK, "a key: created, ", ""},
		{"get|a key", "", exitOK, binary, "a key: found, "},
		{"delete|color", "", exitOK, "color: deleted, ", ""},
	} {
		pipeIn(t, test.piped)
		args := strings.Split(test.args, "|")
		owner := cfg.Owner(args[1])
		code, stdout, stderr := bench(t.Context(), slices.Insert(args, 1, "-config", path)...)
		end := fmt.Sprintf("node %d (%s), TIME", owner, cfg.Nodes[owner].Addr)
		got := took.ReplaceAllString(stdout, "TIME") + "; " + took.ReplaceAllString(stderr, "TIME")
		want := test.stdout + "; " + test.stderr + end
		if test.stderr == "" {
			want = test.stdout + end + "; "
		}
		if code != test.code || got != want {
			t.Errorf("bench %q: exit code %d, %q, want %d, %q", args, code, got, test.code, want)
		}
	}
	pipeIn(t, strings.Repeat("v", wire.MaxValue+1))
	if code, _, stderr := bench(t.Context(), "put", "-config", path, "k"); code != exitUsage || !strings.Contains(stderr, "longer than 16384 bytes") {
		t.Errorf("a value that is too large: exit code %d, %s", code, stderr)
	}
}

// pipeIn makes text the standard input of the rest of the test.
func pipeIn(t *testing.T, text string) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stdin
	os.Stdin = in
	t.Cleanup(func() { os.Stdin = before; in.Close() })
	out.WriteString(text) // fits into the pipe
	out.Close()
}

// Each node has its line, one that does not answer too; then the exit code is 1.
func TestStatus(t *testing.T) {
	t.Parallel() // waits a second for the second answer
	cfg, path, _ := benchtest.StartCluster(t, 2, 0, benchtest.ServeLocked)
	addrs, err := node.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	bench(t.Context(), "put", "-config", path, "color", "blue")
	want := `node .*\n`
	for i := range 2 { // its address, stage, how long and since when, keys, clients, requests/s, refused
		keys := map[bool]int{true: 1, false: 0}[i == cfg.Owner("color")]
		want += fmt.Sprintf(`%d %s +here +[0-9.]+m?s +%d +0 +0 +0\n`, i, cfg.Nodes[i].Addr, keys)
	}
	for _, dead := range []bool{false, true} {
		if dead {
			cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[0], Control: addrs[1]})
			cfg.Save(path)
			want += "2 " + addrs[0] + " +does not answer\n"
		}
		code, stdout, stderr := bench(t.Context(), "status", "-config", path)
		benchtest.CheckWidth(t, stdout, 80)
		match, _ := regexp.MatchString("^"+want+`Requests/s are .*\n$`, stdout)
		if !match || (code == exitFailure) != dead || strings.Contains(stderr, "refused (asking node 2, ") != dead || strings.Contains(stderr, "(is the server running?") != dead {
			t.Errorf("exit code %d, %q, want %v to be 1; want %s in\n%s", code, stderr, dead, want, stdout)
		}
	}
}

// Without a server, the error comes soon and says only what is wrong and what to do: nobody
// listens, what listens is not Lockstep's, or it says nothing, which is waited for, but not for long.
func TestNoServer(t *testing.T) {
	t.Parallel() // waits 5 s for the silent one
	free, err := node.FreeAddrs(5)
	silent, failed := net.Listen("tcp", "127.0.0.1:0")
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	site, other := httptest.NewServer(nil), httptest.NewServer(nil)
	defer site.Close()
	defer other.Close()
	const start = `\n\(is the server running\? go run ./stage4_bucketlock -config \S+ -node NUMBER starts it\)`
	var running sync.WaitGroup
	defer running.Wait()
	for _, test := range []struct {
		addrs          []string
		commands, want string
	}{
		{free[:4], "get color,run", "[^?]*refused[^?]*" + start},
		{[]string{site.Listener.Addr().String(), other.Listener.Addr().String()}, "get color,run,check -running",
			`127.0.0.1:\d+ is not a Lockstep server: it says HTTP/1.1 400 Bad Request \(.*node 0[^?]*`},
		{[]string{silent.Addr().String(), free[4]}, "get color", "no answer in 5s: not greeted: [^?]*"},
	} {
		cfg, path := cluster.Default(), filepath.Join(t.TempDir(), "cluster.json")
		cfg.Nodes = nil
		for pair := range slices.Chunk(test.addrs, 2) {
			cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: pair[0], Control: pair[1]})
		}
		if err := cfg.Save(path); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(test.commands, ",") {
			running.Go(func() {
				name, rest, _ := strings.Cut(line, " ")
				began := time.Now()
				code, stdout, stderr := bench(t.Context(), append([]string{name, "-config", path}, strings.Fields(rest)...)...)
				match, _ := regexp.MatchString("^bench: "+test.want+"\n$", stderr)
				if took := time.Since(began); code != exitFailure || stdout != "" || !match || took > 20*time.Second {
					t.Errorf("bench %s: exit code %d after %v, stdout %q, stderr %q, want 1 and %s", line, code, took, stdout, stderr, test.want)
				}
			})
		}
	}
}
