package report

import (
	"math"
	"testing"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/stats"
	"lockstep/common/cluster"
)

func TestSummary(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	if len(rep.Summary) != 3 || rep.Summary[0].Stage != "stage2_coarselock" || rep.Summary[2].Stage != "mine" {
		t.Fatalf("the summary is not in the order of the stages: %+v", rep.Summary)
	}
	first, slow, mine := rep.Summary[0], rep.Summary[1], rep.Summary[2]
	if got, want := first.OpsPerSecond, (stats.Interval{Median: 8035, Low: 8010, High: 8060, Level: 0.96875, Rounds: 6}); got != want {
		t.Errorf("throughput is %+v, want %+v", got, want)
	}
	if first.Ratio != nil {
		t.Error("the first stage is compared with itself")
	}
	if got := slow.Ratio; got.To != first.Stage || got.Of != "ops_per_s" || got.NoDifference || math.Abs(got.Median-0.75) > 0.001 || got.Rounds != 6 {
		t.Errorf("ratio of the slow stage is %+v, want 0.75", got)
	}
	if !mine.Ratio.NoDifference {
		t.Errorf("ratio of the stage that is about as fast is %+v, want no difference shown", mine.Ratio)
	}
	if slow.OK != 36_156 || slow.Errors["other"] != 6 || slow.Unfinished != 42 || slow.Starved != 7 || slow.NeverGreeted != 6 || slow.Connections != 8 {
		t.Errorf("counts of the slow stage are %+v", slow)
	}
	if got, want := first.Latency.Max, 8*time.Second/8010; got != want {
		t.Errorf("max is %v, want %v: that of the slowest round", got, want)
	}
	if got := first.Latency.P50; got < 990*time.Microsecond || got > 1010*time.Microsecond {
		t.Errorf("p50 is %v, want about 1 ms", got)
	}
	if got := first.ServerCPUPerRequest; math.Abs(got-7e8/8035) > 1 {
		t.Errorf("server CPU is %v ns a request, want %v", got, 7e8/8035)
	}
}

// Rounds are paired by number, in whichever order they ran and though one is missing.
func TestRatioPairsRounds(t *testing.T) {
	for _, rate := range []float64{0, 1000} {
		cfg := cluster.Default()
		cfg.Workload.Rate = rate
		rep := New(cfg, []string{"a", "b", "idle"}, false)
		rep.Add("idle", 1, &load.Result{Dur: time.Second})
		rep.Add("b", 2, testRound(400))
		rep.Add("a", 1, testRound(100))
		rep.Add("a", 2, testRound(200))
		rep.Add("b", 1, testRound(200))
		rep.Add("b", 3, testRound(900)) // interrupted before a's turn
		want, of := 2.0, "ops_per_s"
		if rate > 0 {
			want, of = 0.5, "p99"
		}
		got := rep.Summary[1].Ratio
		if got.Of != of || math.Abs(got.Median-want) > 0.02 || got.Rounds != 2 || got.High-got.Low > 0.02 {
			t.Errorf("rate %v: ratio is %+v, want %v of %s in 2 rounds", rate, got, want, of)
		}
		rep = New(cfg, []string{"idle", "a"}, false)
		rep.Add("a", 1, testRound(100))
		rep.Add("idle", 1, &load.Result{Dur: time.Second})
		if got := rep.Summary[1].Ratio; got.Rounds != 0 || got.String() != "not comparable" {
			t.Errorf("rate %v: ratio to a stage that did nothing is %+v", rate, got)
		}
	}
}
