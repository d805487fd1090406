package main

import (
	"testing"
	"time"
)

func TestThree(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1.00", 0.0123: "0.0123", 0.9996: "1.00", 1.234: "1.23", 9.996: "10.0", 12.34: "12.3",
		99.96: "100", 123.4: "123", 999.6: "1 000", 1234: "1 230", 68_123: "68 100", 1_234_567: "1 230 000", -2.5: "-2.50",
	} {
		if got := three(v); got != want {
			t.Errorf("three(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0ns", 1: "1ns", 999: "999ns", 1000: "1.00µs", 1234: "1.23µs", 99_960: "100µs",
		999_499: "999µs", 999_600: "1.00ms", 12_345_678: "12.3ms", time.Second: "1.00s", 90 * time.Second: "90.0s",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%d ns) = %q, want %q", int64(d), got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1 000", 12_345: "12 345", 1_234_567: "1 234 567", -123: "-123", -1234: "-1 234",
	} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestGrid(t *testing.T) {
	got := grid([][]string{{"time", "p50", ""}, {"a stage", "1.23µs", "x"}, {"b", "9ns"}})
	const want = "" +
		"time        p50\n" +
		"a stage  1.23µs  x\n" +
		"b           9ns\n"
	if got != want {
		t.Errorf("grid is\n%swant\n%s", got, want)
	}
}

func TestWrap(t *testing.T) {
	got := wrap("one two three 12 345 678 four  µµµµ", 14)
	const want = "one two three\n12 345 678\nfour µµµµ\n"
	if got != want {
		t.Errorf("wrap is\n%swant\n%s", got, want)
	}
}
