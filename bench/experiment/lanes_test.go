package experiment

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/figure"
	"lockstep/bench/load"
	"lockstep/bench/testbed"
	"lockstep/common/metrics"
)

func TestPanel(t *testing.T) {
	marks := []metrics.LaneMark{{Lane: 7, State: metrics.InTable}, {Lane: 9, State: metrics.Awaiting}, {Lane: 7, State: metrics.Writing, At: 2}, {Lane: 9, State: metrics.InTable, At: 3}}
	want := figure.Panel{Title: "mine", Span: metrics.LaneTime, Lanes: [][]figure.Stretch{
		{{Doing: 3, From: 0, To: 2}, {Doing: 4, From: 2, To: metrics.LaneTime}},
		{{Doing: 2, From: 0, To: 3}, {Doing: 3, From: 3, To: metrics.LaneTime}},
		nil,
	}}
	if got := panel("mine", marks, 3); !reflect.DeepEqual(got, want) {
		t.Errorf("the lanes are %v, want %v", got, want)
	}
	if int(metrics.LaneStates) != len(figure.Doings) {
		t.Errorf("%d states, and %d names of them", metrics.LaneStates, len(figure.Doings))
	}
}

func TestRecordLanes(t *testing.T) {
	cfg, _ := benchtest.Here(t, 1, benchtest.ServeLocked)
	cfg.Workload.Connections, cfg.Workload.Ops, cfg.Workload.Duration, cfg.Workload.Rate = 2, 0, LanesTime, 1000
	s := &testbed.Servers{Name: "here", Config: cfg, Target: load.NewLockstep(cfg)}
	got, err := RecordLanes(t.Context(), s)
	if err != nil || got.Title != "here" || len(got.Lanes) != 2 || len(got.Lanes[0]) == 0 || got.Lanes[0][0].From != 0 {
		t.Errorf("recorded %q with %d lanes, error %v", got.Title, len(got.Lanes), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := RecordLanes(ctx, s); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("cut short: %v", err)
	}
}
