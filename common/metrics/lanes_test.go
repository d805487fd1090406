package metrics

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lanes Lanes
		lanes.Recording().Mark(1, Queued) // nobody asks
		lanes.Recording().Begin(1, new(int))
		recorded := make(chan []LaneMark)
		go func() { recorded <- lanes.Record() }()
		synctest.Wait()
		one, two := new(int), new(int)
		r := lanes.Recording()
		r.Mark(2, Queued)
		r.Begin(2, two)
		r.Mark(1, Idle) // what it did at the begin is what it did last before
		<-time.After(LaneTime + time.Millisecond)
		r.MarkRequest(two, InTable)
		r.MarkRequest(one, InTable) // has begun before the recording: its lane is not known
		r.Begin(1, one)
		for range 2 * maxMarks {
			r.MarkRequest(one, Writing)
		}
		got := <-recorded
		r.Mark(1, Idle) // too late
		var kinds []LaneMark
		for i, m := range got[:5] {
			if i > 0 && m.At < got[i-1].At || m.At < 0 || m.At > LaneTime {
				t.Errorf("mark %d is at %v, after one at %v", i, m.At, got[max(i-1, 0)].At)
			}
			kinds = append(kinds, LaneMark{Lane: m.Lane, State: m.State})
		}
		want := []LaneMark{{1, Idle, 0}, {2, Awaiting, 0}, {2, InTable, 0}, {1, Awaiting, 0}, {1, Writing, 0}}
		if !slices.Equal(kinds, want) || len(got) != maxMarks {
			t.Errorf("%d marks that begin with %v, want %d and %v", len(got), kinds, maxMarks, want)
		}
		data, err := json.Marshal(got)
		var back []LaneMark
		if err != nil || json.Unmarshal(data, &back) != nil || !slices.Equal(back, got) || len(data) > 60<<10 {
			t.Errorf("%d bytes of JSON (%v), want the same marks again, in at most 60 KiB", len(data), err)
		}
	})
}
