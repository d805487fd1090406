package figure

import (
	"math"
	"slices"
	"strconv"

	"lockstep/common/text"
)

// An Axis maps values to coordinates.
type Axis struct {
	Title    string // with the unit
	Lo, Hi   float64
	Log      bool
	Ticks    []float64
	Label    func(float64) string
	from, to float64 // the coordinates of Lo and Hi
}

// at returns the coordinate of v, or that of the nearer end if v is outside the axis.
func (a Axis) at(v float64) float64 {
	lo, hi := a.Lo, a.Hi
	if a.Log {
		v, lo, hi = math.Log(v), math.Log(lo), math.Log(hi)
	}
	share := (v - lo) / (hi - lo)
	if !(share > 0) {
		share = 0
	}
	return a.from + min(share, 1)*(a.to-a.from)
}

// absurd is above all that can be measured.
const absurd = 1e30

// LinearAxis returns an axis from 0 to a round number that is at least most.
func LinearAxis(title string, most float64, label func(float64) string) Axis {
	if !(most > 1/absurd && most < absurd) {
		most = 1
	}
	step := math.Pow(10, math.Floor(math.Log10(most))-1)
	for i := 0; most/step > 5; i++ { // 1, 2, 5, 10, ...
		step *= []float64{2, 2.5, 2}[i%3]
	}
	var ticks []float64
	for n := 0.0; n < math.Ceil(most/step-1e-9)+1; n++ {
		ticks = append(ticks, n*step)
	}
	return Axis{Title: title, Hi: ticks[len(ticks)-1], Ticks: ticks, Label: label}
}

// LogAxis returns a logarithmic axis around the values. Its ticks are 1, 2 and 5 times
// the powers of ten, or only the powers if those are many. It leaves out values that are
// not positive.
func LogAxis(title string, values []float64, label func(float64) string) Axis {
	values = slices.DeleteFunc(slices.Clone(values), func(v float64) bool { return !(v > 1/absurd && v < absurd) })
	if len(values) == 0 {
		values = []float64{1}
	}
	lo, hi := slices.Min(values), slices.Max(values)
	ticks := logTicks(lo, hi, 1, 2, 5)
	if len(ticks) > 8 {
		ticks = logTicks(lo, hi, 1)
	}
	return Axis{Title: title + " (logarithmic)", Lo: ticks[0], Hi: ticks[len(ticks)-1], Log: true, Ticks: ticks, Label: label}
}

func logTicks(lo, hi float64, steps ...float64) (ticks []float64) {
	const about = 1e-9 // the error of a power
	for e := math.Floor(math.Log10(lo) + about); ; e++ {
		for _, step := range steps {
			tick := step * math.Pow(10, e)
			if len(ticks) > 0 && tick <= lo*(1+about) {
				ticks = ticks[:0]
			}
			ticks = append(ticks, tick)
			if len(ticks) > 1 && tick >= hi*(1-about) {
				return ticks
			}
		}
	}
}

// sweptTitles are the titles of axes, by property.
var sweptTitles = map[string]string{
	"c": "connections", "rate": "requests due a second", "batch": "operations in a request", "depth": "requests in flight on a connection",
	"keys": "keys", "value": "bytes in a value", "buckets": "buckets", "work": "time of an operation in the table",
	"workers": "workers", "queue": "requests that may wait",
}

// PropertyAxis returns an axis for the values of a swept property. It begins at 0. Where the points span much, as if doubled, it is logarithmic.
func PropertyAxis(property string, values []float64) Axis {
	title, lo, hi := sweptTitles[property], slices.Min(append(values, math.Inf(1))), slices.Max(append(values, 0))
	switch {
	case property == "work":
		return LinearAxis(title, hi, Span)
	case property == "rate", lo == 0, hi < 8*lo:
		return LinearAxis(title, hi, Plain)
	}
	slices.Sort(values)
	return Axis{Title: title + " (logarithmic)", Lo: lo, Hi: hi, Log: true, Ticks: slices.Compact(values), Label: Plain}
}

// Plain writes a round number with all its digits and no more.
func Plain(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return text.Count(int64(v))
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// Span writes a round number of nanoseconds with its unit.
func Span(ns float64) string {
	if ns == 0 {
		return "0"
	}
	units := []string{"ns", "µs", "ms", "s"}
	for ns >= 999.5 && len(units) > 1 {
		ns, units = ns/1000, units[1:]
	}
	return strconv.FormatFloat(ns, 'g', 3, 64) + " " + units[0]
}
