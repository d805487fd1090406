package text

import (
	"testing"
	"time"
)

func TestSig3(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1.00", 0.0123: "0.0123", 0.9996: "1.00", 1.234: "1.23", 9.996: "10.0", 12.34: "12.3",
		99.96: "100", 123.4: "123", 999.6: "1 000", 1234: "1 230", 68_123: "68 100", 1_234_567: "1 230 000", -2.5: "-2.50",
	} {
		if got := Sig3(v); got != want {
			t.Errorf("Sig3(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0ns", 1: "1ns", 999: "999ns", 1000: "1.00µs", 1234: "1.23µs", 99_960: "100µs",
		999_499: "999µs", 999_600: "1.00ms", 12_345_678: "12.3ms", time.Second: "1.00s", 90 * time.Second: "90.0s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%d ns) = %q, want %q", int64(d), got, want)
		}
	}
}

func TestTwoDigits(t *testing.T) {
	for v, want := range map[float64]string{0.0123: "0.012", 9.96: "10", 996: "1 000", 2849: "2 800", 22_300: "22 000"} {
		if got := Sig(v, 2); got != want {
			t.Errorf("Sig(%v, 2) = %q, want %q", v, got, want)
		}
	}
	for d, want := range map[time.Duration]string{2123: "2.1µs", 996_000: "1.0ms", 254_000_000: "250ms", 2_420_000_000: "2.4s"} {
		if got := DurationSig(d, 2); got != want {
			t.Errorf("DurationSig(%d ns, 2) = %q, want %q", int64(d), got, want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1 000", 12_345: "12 345", 1_234_567: "1 234 567", -123: "-123", -1234: "-1 234",
	} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	got := Table([][]string{{"time", "p50", ""}, {"a stage", "1.23µs", "x"}, {"b", "9ns"}})
	const want = "" +
		"time        p50\n" +
		"a stage  1.23µs  x\n" +
		"b           9ns\n"
	if got != want {
		t.Errorf("Table is\n%swant\n%s", got, want)
	}
}

func TestWrap(t *testing.T) {
	got := Wrap("one two three 12 345 678 four  µµµµ", 14)
	const want = "one two three\n12 345 678\nfour µµµµ\n"
	if got != want {
		t.Errorf("Wrap is\n%swant\n%s", got, want)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1 << 10: "1.00 KiB", 3 << 19: "1.50 MiB", 5 << 30: "5.00 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int64]string{0: "0 requests", 1: "1 request", 1200: "1 200 requests"} {
		if got := Plural(n, "request"); got != want {
			t.Errorf("Plural(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{
		"": `""`, "color": "color", "two words": "two words", "größe": "größe", "a\nb": `"a\nb"`, "\x1b[31m": `"\x1b[31m"`,
		"\x9b31m": `"\x9b31m"`, "a\u009b": `"a\u009b"`, "0123456789abcdefghijklmno": "012345..defghijklmno", "ÄÖÜÄÖÜÄÖÜÄÖÜ": "ÄÖÜ..ÄÖÜÄÖÜ",
	} {
		if got := Quote(s, 20); got != want || len(got) > 20 {
			t.Errorf("Quote(%q, 20) = %s, want %s", s, got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got, want := Printable("a\x1b[31m\nb\x9b ü"), "a\ufffd[31m\nb\ufffd ü"; got != want {
		t.Errorf("Printable = %q, want %q", got, want)
	}
}
