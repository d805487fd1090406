package text

import (
	"testing"
	"time"
)

// check compares what write makes of each value.
func check[T comparable](t *testing.T, write func(T) string, cases map[T]string) {
	t.Helper()
	for v, want := range cases {
		if got := write(v); got != want {
			t.Errorf("%#v is written as %q, want %q", v, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	check(t, Sig3, map[float64]string{
		0: "0", 1: "1.00", 0.0123: "0.0123", 0.9996: "1.00", 1.234: "1.23", 9.996: "10.0", 12.34: "12.3",
		99.96: "100", 123.4: "123", 999.6: "1 000", 1234: "1 230", 68_123: "68 100", 1_234_567: "1 230 000", -2.5: "-2.50",
	})
	check(t, Duration, map[time.Duration]string{
		0: "0ns", 1: "1ns", 999: "999ns", 1000: "1.00µs", 1234: "1.23µs", 99_960: "100µs",
		999_499: "999µs", 999_600: "1.00ms", 12_345_678: "12.3ms", time.Second: "1.00s", 90 * time.Second: "90.0s",
	})
	check(t, func(v float64) string { return Sig(v, 2) },
		map[float64]string{0.0123: "0.012", 9.96: "10", 996: "1 000", 2849: "2 800", 22_300: "22 000"})
	check(t, func(d time.Duration) string { return DurationSig(d, 2) },
		map[time.Duration]string{2123: "2.1µs", 996_000: "1.0ms", 254_000_000: "250ms", 2_420_000_000: "2.4s"})
	check(t, Count, map[int64]string{
		0: "0", 999: "999", 1000: "1 000", 12_345: "12 345", 1_234_567: "1 234 567", -123: "-123", -1234: "-1 234",
	})
	check(t, Bytes, map[int64]string{0: "0 B", 999: "999 B", 1 << 10: "1.00 KiB", 3 << 19: "1.50 MiB", 5 << 30: "5.00 GiB"})
	check(t, func(n int64) string { return Plural(n, "request") },
		map[int64]string{0: "0 requests", 1: "1 request", 1200: "1 200 requests"})
}

func TestLayout(t *testing.T) {
	got := Table([][]string{{"time", "p50", ""}, {"a stage", "1.23µs", "x"}, {"b", "9ns"}})
	const want = "" +
		"time        p50\n" +
		"a stage  1.23µs  x\n" +
		"b           9ns\n"
	if got != want {
		t.Errorf("Table is\n%swant\n%s", got, want)
	}
	check(t, func(s string) string { return Wrap(s, 14) },
		map[string]string{"one two three 12 345 678 four  µµµµ": "one two three\n12 345 678\nfour µµµµ\n"})
}

func TestForeign(t *testing.T) {
	check(t, func(s string) string { return Quote(s, 20) }, map[string]string{ // at most 20 bytes each
		"": `""`, "color": "color", "two words": "two words", "größe": "größe", "a\nb": `"a\nb"`, "a\tb": `"a\tb"`, "\x1b[31m": `"\x1b[31m"`,
		"\x9b31m": `"\x9b31m"`, "a\u009b": `"a\u009b"`, "0123456789abcdefghijklmno": "012345..defghijklmno", "ÄÖÜÄÖÜÄÖÜÄÖÜ": "ÄÖÜ..ÄÖÜÄÖÜ",
	})
	check(t, Printable, map[string]string{"a\x1b[31m\n\tb\x9b ü": "a\\x1b[31m\n\tb\\x9b ü", `"\n" \\n`: `"\n" \\n`})
}
