package tour

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/progress"
	"lockstep/bench/report"
	"lockstep/bench/stats"
	"lockstep/bench/testbed"
	"lockstep/common/client"
	"lockstep/common/control"
	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/text"
)

const ms = time.Millisecond

// answered is a round of a second with n requests that took as long as length.
func answered(n int, length time.Duration) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: int64(n)}, Dur: time.Second}
	for range n {
		r.ResponseTimes.Record(length)
	}
	return r
}

// starving is a round in which only one connection was served.
func starving(connections int) *load.Result {
	r := answered(100, ms)
	r.Connections, r.Starved, r.NeverGreeted = connections, connections-1, connections-1
	return r
}

// failing is a round with n requests that were answered and others that failed.
func failing(n int, kind error, failed int64) *load.Result {
	r := answered(n, 10*ms)
	r.Errors = metrics.Tally{kind.Error(): failed}
	return r
}

func unfinished(r *load.Result, n int64) *load.Result {
	r.Unfinished = n
	return r
}

func TestTable(t *testing.T) {
	got := header
	for _, r := range []*row{
		{name: "1 one thread", perRequest: answered(2681, ms), kept: starving(8), stalled: answered(96, 256*ms), overload: starving(1000), work: starving(8)},
		{name: "2 coarse lock", perRequest: answered(4711, ms), kept: answered(20_640, ms), stalled: answered(96, 8050*time.Microsecond),
			overload: unfinished(answered(2500, 2630*ms), 300), work: answered(737, ms)},
		{name: "3 thread pool", perRequest: failing(360, client.ErrDown, 640), kept: answered(123_456, ms), stalled: failing(0, client.ErrUnknown, 96),
			overload: failing(960, client.ErrBusy, 2040), work: answered(734, ms)},
		{name: "4 bucket lock", perRequest: failing(0, client.ErrDown, 1000), kept: failing(0, client.ErrUnknown, 12_000), stalled: unfinished(answered(0, 0), 96),
			overload: failing(0, client.ErrBusy, 3000), work: failing(10, client.ErrUnknown, 12_000)},
	} {
		got += r.String()
	}
	const want = `                connection  connections  p99 beside        overload:     1 ms of
               per request         kept   a stalled          p99 and   work each
stage           requests/s   requests/s      client          refused  requests/s
1 one thread         2 700   7/8 starve       260ms  999/1000 starve  7/8 starve
2 coarse lock        4 700       21 000       8.1ms       >2.6s, 0 %         740
3 thread pool      640 err      120 000      failed       10ms, 68 %         730
4 bucket lock       failed       failed      failed      all refused  12 000 err
`
	if got != want {
		t.Errorf("the table is\n%swant\n%s", got, want)
	}
	benchtest.CheckWidth(t, introduction+got, text.Columns)
}

func TestConclude(t *testing.T) {
	of := func(r *load.Result) *row { return &row{perRequest: r, kept: r, stalled: r, overload: r, work: r} }
	fast, slow := of(answered(1000, 2*ms)), of(answered(100, 250*ms))
	starved, failed := of(starving(8)), of(failing(0, client.ErrUnknown, 10))
	refusing, allRefused := of(failing(960, client.ErrBusy, 2040)), of(failing(0, client.ErrBusy, 3000))
	one := &row{kept: starving(8), stalled: slow.stalled}
	gain := func(low, median, high float64) *report.Ratio {
		r := &report.Ratio{Interval: stats.Interval{Median: median, Low: low, High: high, Rounds: 6}}
		r.NoDifference = r.WithinNoise(stats.Interval{})
		return r
	}
	crowd := func(open int64, running int) *row {
		return &row{crowd: metrics.Snapshot{Open: open, Goroutines: running}}
	}
	for _, test := range []struct {
		got  string
		want string // parts of it, in this order, with ... between them
	}{
		{oneToTwo(one, fast), "7 of 8 clients starve...makes all others wait, 250ms at p99...2.0ms"},
		{oneToTwo(one, slow), "7 of 8 clients starve...costs the others 250ms at p99, then 250ms: no gain"},
		{oneToTwo(one, failed), "7 of 8 clients starve...shows nothing"},
		{twoToThree(of(unfinished(answered(100, 250*ms), 311)), refusing), ">250ms at p99...no in time...refuses 68 %...10ms for the others"},
		{twoToThree(fast, slow), "2.0ms at p99...refused 0 %...250ms: no gain"},
		{oneToTwo(slow, of(unfinished(answered(1000, 2*ms), 100))), "250ms at p99, then >2.0ms: no gain"},
		{twoToThree(fast, refusing), "refused 68 %...10ms: no gain"}, // slower although it refuses
		{twoToThree(slow, allRefused), "refused every request...no gain"},
		{twoToThree(starved, slow), "shows nothing"},
		{threeToFour(slow, fast), "stage 3 does 100 requests/s and stage 4 1 000, 10 times as many"},
		{threeToFour(fast, fast), "stage 3 does 1 000 requests/s and stage 4 1 000...no gain"},
		{threeToFour(failed, fast), "shows nothing"},
		{withoutWork(gain(0.9, 1.01, 1.1), 0.0435), "shows no gain: 1.01 times stage 3, [0.900..1.10]...4.35 % of the time...costs little"},
		{withoutWork(gain(1.05, 1.1, 1.2), 0.6), "gains a little: 1.10 times...60.0 % of the time...could have gained"},
		{withoutWork(gain(0.8, 0.9, 0.95), 0), "loses: 0.900 times"},
		{withoutWork(&report.Ratio{}, 0), "not compared"},
		{goroutines(crowd(1000, 1006), crowd(1000, 1014)), "saves no goroutines...1 006 with 1 000 connections, stage 3 1 014 with 1 000."},
		{goroutines(crowd(1000, 1006), crowd(990, 1004)), "fewer goroutines...1 004 with 990."},
	} {
		if lines := text.Wrap(test.got, text.Columns); strings.Count(lines, "\n") > 2 {
			t.Errorf("more than two lines:\n%s", lines)
		}
		rest := test.got
		for _, part := range strings.Split(test.want, "...") {
			var found bool
			if _, rest, found = strings.Cut(rest, part); !found {
				t.Errorf("there is no %q, as in %q, in\n%s", part, test.want, text.Wrap(test.got, text.Columns))
			}
		}
	}
	conclusion := conclude([]*row{one, slow, refusing, fast}, gain(0.653, 1.01, 1.21), 0.15)
	if rows := strings.Count(header+conclusion, "\n") + 4; rows > 22 || !strings.HasPrefix(conclusion, "\n1 to 2, ") {
		t.Errorf("the table and the conclusion have %d rows, want at most 22, of 24 that a terminal has:\n%s", rows, conclusion)
	}
	benchtest.CheckWidth(t, conclusion, text.Columns)
}

// The stalling client sends half a request, and the rest after a while: the server takes
// that for one request, and the client is served again.
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
	var staller sync.WaitGroup
	began := time.Now()
	staller.Go(func() { // ends after cancel
		for ctx.Err() == nil {
			stall(ctx, cfg, 20*ms)
		}
	})
	for i := 1; i <= 3; i++ {
		if took := (<-ready).Sub(began); took < time.Duration(i)*20*ms {
			t.Errorf("request %d arrived after %v, want 20ms for each", i, took)
		}
	}
	cancel()
	staller.Wait()
	if got := nodes[0].Stats.Snapshot(); got.Connections < 3 || got.Errors["malformed"] != 0 {
		t.Errorf("%d connections for 3 requests, and %d malformed requests, want one each and none", got.Connections, got.Errors["malformed"])
	}
}

// The tour ends at a wrong answer.
func TestCheckAnswers(t *testing.T) {
	wrong := answered(10, ms)
	right := checkAnswers("mine", wrong)
	wrong.FoundWrong(errors.New("key-017: blue"))
	err := checkAnswers("mine", wrong)
	if right != nil || !errors.Is(err, load.ErrWrong) || !strings.Contains(err.Error(), "mine: key-017: blue") {
		t.Errorf("a wrong answer: error %v; right ones: %v", err, right)
	}
}

// The test binary is also the stage that tests start. Each request takes it 5 ms, whatever the work,
// and requests do not wait for each other: few are made, and none is still waiting at the end.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-child") {
		benchtest.FaultyMain()
		node.Main(func(ctx context.Context, ln net.Listener, n *node.Node) error {
			apply := benchtest.Locked(nil)
			return benchtest.ServeAll(ctx, ln, n, func(c *node.Conn) {
				control.Pause(ctx, 5*ms)
				n.Answer(c, apply)
			})
		})
	}
	benchtest.StageMain(m)
}

// A diary is a Progress that records what it is told, and interrupts the tour at a moment.
type diary struct {
	progress.Line
	said      []string
	logged    int // what a log shows of it
	moment    string
	interrupt func()
}

func (d *diary) Say(what string) {
	d.logged++
	d.Detail(what)
}

func (d *diary) Detail(what string) {
	if d.said = append(d.said, what); what == d.moment {
		d.interrupt()
	}
}

// tour runs the tour on a Bed whose four programs are the test binary, up to this moment.
func tour(t *testing.T, moment string) (d *diary, out string, err error) {
	t.Helper()
	benchtest.EmptyFolder(t)
	benchtest.NewFaulty(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	self, unknown := os.Executable()
	b, err := testbed.New(t.Context(), nil, nil)
	if err := errors.Join(unknown, err); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		b.Programs = append(b.Programs, testbed.Program{Name: name, Path: self})
	}
	var printed strings.Builder
	d = &diary{moment: moment, interrupt: cancel}
	err = Run(ctx, b, "", 10*ms, 1, d, &printed)
	if closed := b.Close(); closed != nil {
		t.Error(closed)
	}
	return d, printed.String(), err
}

// The whole tour in a fraction of its time has a row for each stage and a conclusion. A log has
// no line between the table and what explains it.
func TestRun(t *testing.T) {
	d, out, err := tour(t, "")
	if err != nil || strings.Contains(out, "/8 starve") || d.logged > 0 { // these stages are for many clients
		t.Errorf("error %v after %q, of which %d in a log; printed\n%s", err, d.said, d.logged, out)
	}
	all := out + "\n" + strings.Join(d.said, "\n") + "\n"
	for _, want := range []string{"\n1 one thread ", "\n2 coarse lock ", "\n3 thread pool ", "\n4 bucket lock ", "\n1 to 2, ", "\nWithout work, ",
		"\none: beside a stalled client\n", "\nfour: overload\n", "\n1/1 four\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("there is no %q in\n%s", want, all)
		}
	}
}

// An interrupted tour ends soon, with the cause, and leaves nothing.
func TestInterrupted(t *testing.T) {
	const moment = "one: connections kept"
	if d, _, err := tour(t, moment); !errors.Is(err, context.Canceled) || d.said[len(d.said)-1] != moment {
		t.Errorf("error %v after %q, want %v after %s", err, d.said, context.Canceled, moment)
	}
}
