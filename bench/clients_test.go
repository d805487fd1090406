package main

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/control"
	"lockstep/common/node"
	"lockstep/common/wire"
)

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
			o.code, o.stdout, o.stderr = bench(t, append([]string{"run", "-config", path, "-client", strconv.Itoa(number), "-o", out}, args...)...)
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

// playClient takes part as a client that sends nothing, in so many rounds and then in meetings
// of the next. The others see it until leave.
func playClient(t *testing.T, path string, number, rounds, meetings int, args ...string) (leave func()) {
	t.Helper()
	o := &options{stderr: io.Discard}
	err := o.parse(command{name: "run", flags: runFlags}, append([]string{"-config", path, "-client", strconv.Itoa(number)}, args...))
	if err == nil {
		err = o.findSelf()
	}
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
	meet := func(times int) {
		for range times {
			if _, err := group.Meet(t.Context(), []byte{1}); err != nil {
				t.Error(err)
			}
		}
	}
	for round := range rounds {
		meet(load.Meetings)
		if round == 0 {
			meet(beforeRounds)
		}
		if _, err := group.Gather(t.Context(), &load.Result{Dur: 1}); err != nil {
			t.Error(err)
		}
	}
	meet(meetings)
	return group.Close
}

const beforeRounds = 2 // meetings: all are there, and the keys are stored

// Three clients share the operations, even fewer than clients, and all have the results of all.
func TestClients(t *testing.T) {
	t.Parallel()
	_, path, _ := benchtest.StartCluster(t, 2, 3, benchtest.ServeLocked)
	for _, o := range runClients(t, path, 3, "-ops", "2", "-keys", "10", "-c", "2", "-rounds", "2") {
		if o.code != exitOK && o.code != exitInvalid || len(o.saved.Runs) != 2 {
			t.Errorf("exit code %d, %d rounds, stderr %q", o.code, len(o.saved.Runs), o.stderr)
		}
		for _, r := range o.saved.Runs {
			var shares []int64
			for _, c := range r.Clients {
				shares = append(shares, c.OK)
			}
			if slices.Sort(shares); r.OK != 2 || !slices.Equal(shares, []int64{0, 1, 1}) || r.Connections != 6 || r.Wrong != 0 || r.Misses != 0 ||
				len(r.Errors) != 0 || r.Latency["p99"] <= 0 || r.Nodes[0].Requests+r.Nodes[1].Requests < r.Requests {
				t.Errorf("a round is %+v, shares %v, want 2 operations, by two of the clients, on 6 connections", r, shares)
			}
		}
		for _, want := range []string{"client 0 (127.0.0.1:", "client 2 (127.0.0.1:", "3 clients, each with 2 connections, "} {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("there is no %q in\n%s", want, o.stdout)
			}
		}
	}
}

// Each client verifies its answers, and all report what one has found. So does a check. Wrong
// answers have an exit code of their own.
func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	_, path, _ := benchtest.StartCluster(t, 1, 2, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, func(ops []wire.Op) []wire.Result {
				results := apply(ops)
				if results[0].Status == wire.Found {
					results[0].Value = []byte("another key's")
				}
				return results
			})
		})
	})
	for i, o := range runClients(t, path, 2, "-ops", "40", "-keys", "10", "-c", "2") {
		if o.code != exitWrongData || o.saved.Runs[0].Wrong == 0 || !strings.HasPrefix(o.stdout, "WRONG DATA") {
			t.Errorf("client %d: exit code %d, printed was\n%s", i, o.code, o.stdout)
		}
	}
	code, stdout, stderr := bench(t, "check", "-running", "-config", path, "-duration", "30s")
	if want := "bench: the running servers gave answers that are not linearizable\n"; code != exitWrongData || stderr != want {
		t.Errorf("exit code %d, stdout %q, stderr %q, want 3 and %q", code, stdout, stderr, want)
	}
}

// The others finish without a client that ends in a round, and without waiting for it again.
func TestClientEnds(t *testing.T) {
	t.Parallel() // waits 2 s
	cfg, path, _ := benchtest.StartCluster(t, 1, 3, benchtest.ServeLocked)
	args := []string{"-ops", "60", "-keys", "10", "-c", "2", "-rounds", "2"}
	done := make(chan bool)
	go func() { // ends when the client has left, in the first round
		defer close(done)
		playClient(t, path, 2, 0, beforeRounds+load.Meetings, args...)()
	}()
	for _, o := range runClients(t, path, 2, args...) {
		client := "client 2 (" + cfg.Clients[2].Control + ")"
		if o.code != exitFailure || len(o.saved.Runs) != 2 || !strings.Contains(o.stdout, "2 × MISSING") ||
			!strings.HasSuffix(o.saved.Verdict, "round 1: missing: "+client) {
			t.Errorf("exit code %d, verdict %q, %d rounds, stderr %q, printed was\n%s", o.code, o.saved.Verdict, len(o.saved.Runs), o.stderr, o.stdout)
		}
		for _, r := range o.saved.Runs {
			if r.OK != 40 || !r.Clients[2].Missing || r.Clients[1].Missing || r.Clients[1].OK != 20 {
				t.Errorf("a round has %d operations, clients %+v, want 40 of two", r.OK, r.Clients)
			}
		}
	}
	<-done
}

// A client that restarts voids the round, and not those before it.
func TestClientRestarts(t *testing.T) {
	t.Parallel()
	_, path, _ := benchtest.StartCluster(t, 1, 3, benchtest.ServeLocked)
	args := []string{"-ops", "60", "-keys", "10", "-c", "2", "-rounds", "3"}
	leave := make(chan func(), 1)
	go func() { // ends when the client has restarted
		playClient(t, path, 2, 1, load.Meetings, args...)()
		leave <- playClient(t, path, 2, 0, 0, args...)
	}()
	for _, o := range runClients(t, path, 2, args...) {
		if o.code != exitFailure || len(o.saved.Runs) != 1 || !strings.Contains(o.saved.Verdict, "client 2 (") || !strings.Contains(o.saved.Verdict, "it restarted after the run began") {
			t.Errorf("exit code %d, verdict %q, %d rounds, stderr %q", o.code, o.saved.Verdict, len(o.saved.Runs), o.stderr)
		}
	}
	(<-leave)()
}

// A client with another workload is not met, and both sides are named.
func TestClientDiffers(t *testing.T) {
	t.Parallel()
	cfg, path, _ := benchtest.StartCluster(t, 1, 2, benchtest.ServeLocked)
	for name, args := range map[string][]string{
		"keys is 1000 here, 500 there": {"-keys", "500"}, "mix is get=60,put=40 here, get=100 there": {"-mix", "get=100"}, "rounds is 1 here, 2 there": {"-rounds", "2"},
		"noretry is false here, true there": {"-noretry"}, "rate is 0 here, 7 there": {"-rate", "7"},
	} {
		leave := playClient(t, path, 1, 0, 0, args...)
		ctx, cancel := context.WithCancel(t.Context())
		stderr, done := make(lines, 100), make(chan int, 1)
		go func() { done <- run(ctx, []string{"run", "-config", path, "-client", "0"}, io.Discard, stderr) }() // ends after cancel
		want := "bench: client 1 (" + cfg.Clients[1].Control + "): the two ends disagree: " + name + ": give both the same"
		got := <-stderr
		for ; strings.HasPrefix(got, "bench: 1/2 ready after"); got = <-stderr { // on a busy machine
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("it says %q, want %q", got, want)
		}
		cancel()
		if code := <-done; code != exitInterrupted {
			t.Errorf("exit code %d, want 130", code)
		}
		leave()
	}
}
