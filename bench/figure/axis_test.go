package figure

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestLinearAxis(t *testing.T) {
	for _, test := range []struct {
		most float64
		want []float64
	}{
		{8, []float64{0, 2, 4, 6, 8}},
		{10, []float64{0, 2, 4, 6, 8, 10}},
		{10.1, []float64{0, 5, 10, 15}},
		{24_400, []float64{0, 5000, 10_000, 15_000, 20_000, 25_000}},
		{26_000, []float64{0, 10_000, 20_000, 30_000}},
		{0.3, []float64{0, 0.1, 0.2, 0.3}},
		{100, []float64{0, 20, 40, 60, 80, 100}},
		{0, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}}, // nothing was measured
		{math.NaN(), []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{math.Inf(1), []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{5e-324, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{1e308, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
	} {
		a := LinearAxis("", test.most, Plain)
		same := slices.EqualFunc(a.Ticks, test.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })
		if !same || a.Lo != 0 || a.Hi != a.Ticks[len(a.Ticks)-1] {
			t.Errorf("up to %v the ticks are %v on %v..%v, want %v", test.most, a.Ticks, a.Lo, a.Hi, test.want)
		}
	}
}

func TestLogAxis(t *testing.T) {
	for _, test := range []struct{ values, want []float64 }{
		{[]float64{130, 900}, []float64{100, 200, 500, 1000}},
		{[]float64{200, 500}, []float64{200, 500}},
		{[]float64{300}, []float64{200, 500}},
		{[]float64{1000}, []float64{1000, 2000}},
		{[]float64{0.03, 0.1}, []float64{0.02, 0.05, 0.1}},
		{[]float64{15, 70_000}, []float64{10, 100, 1000, 10_000, 100_000}},
		{[]float64{0, -3, math.NaN(), math.Inf(1), 12}, []float64{10, 20}},
		{nil, []float64{1, 2}},
	} {
		a := LogAxis("", test.values, Span)
		same := slices.EqualFunc(a.Ticks, test.want, func(a, b float64) bool { return math.Abs(a/b-1) < 1e-9 })
		if !same || !a.Log || !strings.Contains(a.Title, "logarithmic") || a.Lo != a.Ticks[0] || a.Hi != a.Ticks[len(a.Ticks)-1] {
			t.Errorf("around %v the ticks are %v on %v..%v, want %v", test.values, a.Ticks, a.Lo, a.Hi, test.want)
		}
	}
}

func TestAxisAt(t *testing.T) {
	linear := Axis{Lo: 0, Hi: 10, from: 100, to: 200}
	log := Axis{Lo: 1, Hi: 100, Log: true, from: 200, to: 100} // upwards
	empty := Axis{Lo: 3, Hi: 3, from: 5, to: 6}
	for _, test := range []struct {
		a       Axis
		v, want float64
	}{
		{linear, 0, 100}, {linear, 5, 150}, {linear, 10, 200}, {linear, 11, 200}, {linear, -1, 100}, {linear, math.NaN(), 100}, {linear, math.Inf(1), 200},
		{log, 1, 200}, {log, 10, 150}, {log, 100, 100}, {log, 0, 200}, {log, -1, 200}, {log, math.Inf(1), 100},
		{empty, 3, 5},
	} {
		if got := test.a.at(test.v); !(math.Abs(got-test.want) < 1e-9) {
			t.Errorf("on %v..%v, %v is at %v, want %v", test.a.Lo, test.a.Hi, test.v, got, test.want)
		}
	}
}

func TestTickLabels(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.2: "0.2", 5: "5", 20_000: "20 000", 1e6: "1 000 000", 1e18: "1e+18"} {
		if got := Plain(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
	for ns, want := range map[float64]string{0: "0", 1: "1 ns", 500: "500 ns", 1000: "1 µs", 2e6: "2 ms", 1.5e6: "1.5 ms", 1e9: "1 s", 6e10: "60 s"} {
		if got := Span(ns); got != want {
			t.Errorf("%v ns is written %q, want %q", ns, got, want)
		}
	}
	if got := number(-1.26); got != "-1.3" {
		t.Errorf("the coordinate -1.26 is written %q, want -1.3", got)
	}
}
