package lincheck

import (
	"strings"
	"testing"
)

// A cache gives a client an old value, after the client that replaced it was told that it did.
// Is that wrong? It depends on what was promised.
//
// Serializable: there is some order of the calls that explains all answers, here the get
// before the second put. Linearizable: there is one that also keeps each call behind those
// that had ended when it began.
//
//	go test ./common/lincheck -run Specimen -v
func TestSpecimenStaleRead(t *testing.T) {
	const stale = `
			1  |--|                       put color blue -> created
			1        |--|                 put color red -> replaced
			2              |--|           get color -> "blue"`
	for _, c := range []struct {
		name, prediction, history string
		anyTime                   bool // each call may have taken effect before, or after, any other
		want                      Verdict
	}{
		{"linearizable", "no: the get began after the second put had ended", stale, false, Violated},
		{"serializable", "yes: the get comes before the second put, in an order without a clock", stale, true, Linearizable},
		{"at the same time", "yes: the put had not been answered when the get began, and may come second", `
			1  |--|                       put color blue -> created
			1        |--------|           put color red -> replaced
			2              |--|           get color -> "blue"`, false, Linearizable},
		{"back again", "no: once red was seen, blue is an old copy, though the put is not over", `
			1  |--|                       put color blue -> created
			1        |--------------|     put color red -> replaced
			2           |--|              get color -> "red"
			3                 |--|        get color -> "blue"`, false, Violated},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := history(t, c.history)
			for i := range calls {
				if c.anyTime {
					calls[i].Start, calls[i].End = 0, 1
				}
			}
			got, why := Check(t.Context(), calls)
			t.Logf("%s\nprediction: %s\nfound: %v", strings.ReplaceAll(c.history, "\t", ""), c.prediction, got)
			if why != nil {
				t.Logf("%v", why)
			}
			if got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
