package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Goals are what -slo asks of every stage, as the summary shows it. (A service level
// objective is such a goal.)
type goals []goal

// A goal is a bound of one figure.
type goal struct {
	text  string // as it was given
	name  string // p50, p90, p99, p99.9, max or mean: response times; err: a share; ops: a second
	above bool   // the figure is to be above the bound, else below
	bound float64
}

const goalForm = `p50, p90, p99, p99.9, max or mean<TIME, err<PERCENT%, ops>NUMBER`

// Set reads goals, separated by commas.
func (g *goals) Set(text string) error {
	*g = nil
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		goal, ok := parseGoal(part)
		if !ok {
			return fmt.Errorf("%q is no goal: %s", part, goalForm)
		}
		*g = append(*g, goal)
	}
	return nil
}

func (g *goals) String() string {
	var texts []string
	for _, goal := range *g {
		texts = append(texts, goal.text)
	}
	return strings.Join(texts, ",")
}

func parseGoal(text string) (g goal, ok bool) {
	at := strings.IndexAny(text, "<>")
	if at < 0 {
		return g, false
	}
	bound := text[at+1:]
	g = goal{text: text, name: text[:at], above: text[at] == '>'}
	var err error
	switch g.name {
	case "p50", "p90", "p99", "p99.9", "max", "mean":
		var d time.Duration
		d, err = time.ParseDuration(bound)
		g.bound = float64(d)
		ok = !g.above
	case "err":
		percent, found := strings.CutSuffix(bound, "%")
		g.bound, err = strconv.ParseFloat(percent, 64)
		g.bound /= 100
		ok = !g.above && found && g.bound <= 1
	case "ops":
		g.bound, err = strconv.ParseFloat(bound, 64)
		ok = g.above
	}
	return g, ok && err == nil && g.bound > 0
}

// figure is what a stage reached of what the goal bounds, in its unit.
func (g goal) figure(s Summary) float64 {
	switch g.name {
	case "err":
		failed := total(s.Errors) + s.Unfinished
		return float64(failed) / float64(max(s.Requests+failed, 1))
	case "ops":
		return s.OpsPerSecond.Median
	}
	l := s.Latency
	return float64(map[string]time.Duration{"p50": l.P50, "p90": l.P90, "p99": l.P99, "p99.9": l.P999, "max": l.Max, "mean": l.Mean}[g.name])
}

// quantiles are those that requests without an answer may hide; of a mean, any can.
var quantiles = map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1, "mean": 1}

// missed says which goals the stages missed; "" if none. Of a stage that answered
// nothing, no time is known, and so it misses every goal.
func (g goals) missed(summary []Summary) string {
	var missed []string
	for _, s := range summary {
		for _, goal := range g {
			got := goal.figure(s)
			censored := s.unknown(quantiles[goal.name])
			if s.Requests > 0 && !censored && (goal.above && got > goal.bound || !goal.above && got < goal.bound) {
				continue
			}
			text := span(time.Duration(got))
			switch {
			case s.Requests > 0 && censored:
				text = "above " + text + ": " + plural(s.Unfinished, "request") + " had no answer"
			case s.Requests == 0:
				text = "nothing was answered"
			case goal.name == "err":
				text = three(100*got) + " %"
			case goal.name == "ops":
				text = three(got)
			}
			where := s.Stage
			if s.Point != "" {
				where += " at " + s.Point
			}
			missed = append(missed, fmt.Sprintf("%s: %s is %s", where, goal.text, text))
		}
	}
	return strings.Join(missed, "; ")
}
