package main

import (
	"strings"
	"testing"
	"time"
)

func TestGoals(t *testing.T) {
	summary := []Summary{
		{Stage: "quick", Requests: 999, Errors: map[string]int64{"busy": 1}, OpsPerSecond: interval{Median: 5000},
			Latency: Latency{P50: 1e6, P90: 2e6, P99: 4e6, P999: 8e6, Max: 9e6, Mean: 15e5}},
		{Stage: "slow", Requests: 900, Errors: map[string]int64{"busy": 50}, Unfinished: 50, OpsPerSecond: interval{Median: 500},
			Latency: Latency{P50: time.Second, P90: 2e9, P99: 4e9, P999: 8e9, Max: 9e9, Mean: 15e8}},
		{Stage: "dead"},
	}
	dead := "dead: %s is nothing was answered"
	for text, want := range map[string]string{
		"p99<5ms":         "slow: p99<5ms is above 4.00s: 50 requests had no answer",
		"p50<1ms":         "quick: p50<1ms is 1.00ms; slow: p50<1ms is 1.00s", // below it, not at it
		"p99.9 < 10ms":    "",                                                 // no goal
		"p99.9<10ms":      "slow: p99.9<10ms is above 8.00s: 50 requests had no answer",
		"max<10s":         "slow: max<10s is above 9.00s: 50 requests had no answer",
		"mean<2ms":        "slow: mean<2ms is above 1.50s: 50 requests had no answer",
		"p90<3ms":         "slow: p90<3ms is 2.00s",
		"err<0.2%":        "slow: err<0.2% is 10.0 %",
		"err<0.1%":        "quick: err<0.1% is 0.100 %; slow: err<0.1% is 10.0 %",
		"ops>1000":        "slow: ops>1000 is 500",
		"ops>1000,p99<1s": "slow: ops>1000 is 500; slow: p99<1s is above 4.00s: 50 requests had no answer",
	} {
		var g goals
		if err := g.Set(text); strings.Contains(text, " ") {
			if err == nil {
				t.Errorf("%q is taken for a goal", text)
			}
			continue
		} else if err != nil || g.String() != text {
			t.Errorf("%q is read as %q, error %v", text, g.String(), err)
		}
		if want != "" {
			want += "; "
		}
		for goal := range strings.SplitSeq(text, ",") {
			want += strings.ReplaceAll(dead, "%s", goal) + "; "
		}
		if got := g.missed(summary); got != strings.TrimSuffix(want, "; ") {
			t.Errorf("%q: missed are %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"", "p99", "p99<", "p99>5ms", "p99<5", "p42<5ms", "err<1", "err<101%", "p9.9<5ms", "p999<5ms", "err>1%", "ops<5", "ops>many", "p99<-1s", "err<0%", "p99<1ms,"} {
		if err := new(goals).Set(text); err == nil {
			t.Errorf("%q is taken for a goal", text)
		}
	}
}
