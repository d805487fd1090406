package tour

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/common/client"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/text"
)

// answered is a round of a second, with this many requests of this length.
func answered(n int, length time.Duration) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: int64(n)}, Dur: time.Second}
	for range n {
		r.ResponseTimes.Record(length)
	}
	return r
}

// starving is a round in which only one connection was served.
func starving(connections int) *load.Result {
	r := answered(100, time.Millisecond)
	r.Connections, r.Starved, r.NeverGreeted = connections, connections-1, connections-1
	return r
}

// failing is answered, beside so many requests that failed.
func failing(n int, kind error, failed int) *load.Result {
	r := answered(n, 10*time.Millisecond)
	for range failed {
		r.Fail(kind.Error(), kind)
	}
	return r
}

func unfinished(r *load.Result, n int64) *load.Result {
	r.Unfinished = n
	return r
}

const ms = time.Millisecond

func TestTourLines(t *testing.T) {
	got := tourLine("stage", "A", "B", "C", "D", "E")
	for _, row := range []*tourRow{
		{name: "1 one thread", churn: answered(2681, ms), kept: starving(8), stall: answered(96, 256*ms), over: starving(1000), work: starving(8)},
		{name: "2 coarse lock", churn: answered(4711, ms), kept: answered(20_640, ms), stall: answered(96, 8050*time.Microsecond),
			over: unfinished(answered(2500, 2630*ms), 300), work: answered(737, ms)},
		{name: "3 thread pool", churn: failing(360, client.ErrDown, 640), kept: answered(123_456, ms), stall: failing(0, client.ErrUnknown, 96),
			over: failing(960, client.ErrBusy, 2040), work: answered(734, ms)},
		{name: "4 bucket lock", churn: failing(0, client.ErrDown, 1000), kept: failing(0, client.ErrUnknown, 12_000), stall: unfinished(answered(0, 0), 96),
			over: failing(0, client.ErrBusy, 3000), work: failing(10, client.ErrUnknown, 12_000)},
	} {
		got += row.String()
	}
	const want = `stage                A              B       C                   D              E
1 one thread     2 680  7 of 8 starve   256ms  999 of 1000 starve  7 of 8 starve
2 coarse lock    4 710         20 600  8.05ms         >2.63s, 0 %            737
3 thread pool  640 err        123 000  failed        10.0ms, 68 %            734
4 bucket lock   failed         failed  failed         all refused     12 000 err
`
	if got != want {
		t.Errorf("the table is\n%swant\n%s", got, want)
	}
	benchtest.CheckWidth(t, got+tourHeader, text.Columns)
}

func TestConclude(t *testing.T) {
	row := func(r *load.Result) *tourRow { return &tourRow{churn: r, kept: r, stall: r, over: r, work: r} }
	fast, slow := row(answered(1000, 2*ms)), row(answered(100, 250*ms))
	starved, failed := row(starving(8)), row(failing(0, client.ErrUnknown, 10))
	refusing, allRefused := row(failing(960, client.ErrBusy, 2040)), row(failing(0, client.ErrBusy, 3000))
	left := row(unfinished(answered(100, 250*ms), 311))
	one := &tourRow{kept: starving(8), stall: slow.stall}
	gain := func(low, median, high float64) *report.Ratio {
		r := &report.Ratio{Interval: stats.Interval{Median: median, Low: low, High: high, Rounds: 6}}
		r.NoDifference = r.WithinNoise(stats.Interval{})
		return r
	}
	crowded := func(open int64, goroutines int, memory int64) *tourRow {
		return &tourRow{crowded: metrics.Snapshot{Open: open, Goroutines: goroutines, PeakMemory: memory << 20}}
	}
	for _, test := range []struct{ name, got, want string }{
		{"1 to 2", oneToTwo(one, fast),
			"so 7 of 8 starve when connections are kept; and one that stops makes all others wait, 250ms at p99. In stage 2 the others do not wait for it: 2.00ms."},
		{"1 to 2, none starves", oneToTwo(slow, fast), "no client of stage 1 starved here; and one that stops"},
		{"1 to 2, no cure", oneToTwo(one, slow), "the others take 250ms at p99 in stage 1 and 250ms in stage 2, which shows no cure."},
		{"1 to 2, failing", oneToTwo(one, failed), "starve when connections are kept. Beside a client that stops, not every request was answered, which shows nothing."},
		{"2 to 3", twoToThree(left, refusing),
			"stage 2 takes in all that comes, and needs more than 250ms at p99 (311 requests were left at the end). " +
				"Stage 3 says no at once to 68 %, and needs 10.0ms at p99 for the others. A pool is not for speed: it is for saying no in time."},
		{"2 to 3, no gain", twoToThree(fast, slow), "and needs 2.00ms at p99. Stage 3 refused 0 %, and needs 250ms at p99: here the pool shows no gain."},
		{"2 to 3, slower though it refuses", twoToThree(fast, refusing), "Stage 3 refused 68 %, and needs 10.0ms at p99: here the pool shows no gain."},
		{"2 to 3, all refused", twoToThree(slow, allRefused), "Stage 3 refused everything: here the pool shows no gain."},
		{"2 to 3, starving", twoToThree(starved, slow), "overloaded, not all clients were served (the table says how), which shows nothing."},
		{"3 to 4", threeToFour(slow, fast), "stage 3 does 100 requests/s and stage 4 1 000, 10.0 times as many: only requests for one bucket still wait for each other."},
		{"3 to 4, no gain", threeToFour(fast, fast), "stage 3 does 1 000 requests/s and stage 4 1 000, which shows no gain."},
		{"3 to 4, failing", threeToFour(failed, fast), "under the lock, not every request was answered, which shows nothing."},
		{"nothing", withoutWork(gain(0.9, 1.01, 1.1), 0.0435),
			"Nothing that can be shown: 1.01 times stage 3, [0.900..1.10] in 6 rounds. Stage 3's lock was held 4.35 % of the time: " +
				"a lock that nobody waits for costs next to nothing, and many cannot cost less."},
		{"a little", withoutWork(gain(1.05, 1.1, 1.2), 0.6), "A little: 1.10 times stage 3, [1.05..1.20] in 6 rounds. Stage 3's lock was held 60.0 % of the time: with so much, many locks could have gained."},
		{"a loss", withoutWork(gain(0.8, 0.9, 0.95), 0), "It loses: 0.900 times stage 3, [0.800..0.950] in 6 rounds. Stage 3's lock was held 0 % of the time: a lock"},
		{"not known", withoutWork(&report.Ratio{}, 0), "Not known: there was no round in which both answered."},
		{"crowd", crowd(crowded(1000, 1006, 16), crowded(1000, 1014, 17)),
			"A pool saves no goroutines in Go: with 1 000 connections stage 2 had 1 006, stage 3 1 014; at the peak they took 16 and 17 MiB of memory."},
		{"crowd, other numbers", crowd(crowded(1000, 1006, 0), crowded(990, 1004, 17)), "Here the pool had fewer goroutines: with 1 000 connections stage 2 had 1 006, with 990 stage 3 1 004."},
	} {
		if !strings.HasSuffix(test.got, test.want) && !strings.Contains(test.got, test.want) {
			t.Errorf("%s: it says\n%swant\n%s", test.name, text.Wrap(test.got, text.Columns), text.Wrap(test.want, text.Columns))
		}
		benchtest.CheckWidth(t, text.Wrap(test.got, text.Columns), text.Columns)
	}

	conclusion := conclude([]*tourRow{one, fast, slow, fast}, gain(1, 1, 1), 0)
	at := 0
	for _, want := range []string{"\n1 to 2, ", "\n2 to 3, ", "\n3 to 4, ", "\nWithout work, ", "\nA pool saves no goroutines"} {
		i := strings.Index(conclusion, want)
		if i < at {
			t.Errorf("%q is not where it should be in\n%s", want, conclusion)
		}
		at = i
	}
}

// Half a request, and the rest after a while: the server has one more request then,
// and the client is served again.
func TestStall(t *testing.T) {
	ready := make(chan time.Time, 100)
	cfg, nodes := benchtest.Here(t, 1, func(ctx context.Context, ln net.Listener, n *node.Node) error {
		apply := benchtest.Locked(n)
		return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
			n.Answer(c, apply)
			ready <- time.Now()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	began := time.Now()
	go func() { // ends after cancel
		stall(ctx, cfg, 50*time.Millisecond)
		close(done)
	}()
	for i := 1; i <= 3; i++ {
		if took := (<-ready).Sub(began); took < time.Duration(i)*50*time.Millisecond {
			t.Errorf("request %d was there after %v, want 50ms for each", i, took)
		}
	}
	cancel()
	<-done
	if got := nodes[0].Stats.Connections.Load(); got < 3 {
		t.Errorf("%d connections for 3 requests, want one each", got)
	}
	if got := nodes[0].Stats.Snapshot().Errors["malformed"]; got != 0 {
		t.Errorf("%d malformed requests", got)
	}
}

// A stage that answers wrong ends the tour.
func TestMustBeRight(t *testing.T) {
	r := answered(10, ms)
	if err := mustBeRight(r, "mine"); err != nil {
		t.Error(err)
	}
	r.FoundWrong(errors.New("key-017: blue"))
	if err := mustBeRight(r, "mine"); !errors.Is(err, load.ErrWrong) || err.Error() != "wrong answer: mine: key-017: blue" {
		t.Errorf("a wrong answer: %v", err)
	}
}
