// Package text makes numbers, tables and foreign strings fit to print: figures of
// three digits with their units, counts that agree with their nouns, columns that line
// up, lines that fit a terminal, and no control characters.
package text

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Sig3 writes v with three significant digits: 0.0123, 1.23, 123, 123 000.
func Sig3(v float64) string { return Sig(v, 3) }

// Sig writes v with so many significant digits, at least one.
func Sig(v float64, digits int) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	// %e rounds to the digits first, so that 9.996 becomes 10.0 and not 10.00.
	_, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', digits-1, 64), "e")
	e, _ := strconv.Atoi(exponent)
	if e >= digits {
		unit := math.Pow10(e - digits + 1)
		return Count(int64(math.Round(v/unit)) * int64(unit))
	}
	return strconv.FormatFloat(v, 'f', digits-1-e, 64)
}

// Duration writes d with three significant digits and its unit: 1.23ms. Nanoseconds
// are whole.
func Duration(d time.Duration) string { return DurationSig(d, 3) }

// DurationSig writes d with so many significant digits and its unit.
func DurationSig(d time.Duration, digits int) string {
	v, unit := float64(d), "ns"
	for _, larger := range []string{"µs", "ms", "s"} {
		if math.Abs(v) < 1000-0.5*math.Pow10(3-digits) {
			break
		}
		v, unit = v/1000, larger
	}
	if unit == "ns" {
		return strconv.Itoa(int(d)) + unit
	}
	return Sig(v, digits) + unit
}

// Bytes writes a size with three significant digits and its unit: 1.50 MiB. Sizes
// below 1 KiB are whole.
func Bytes(n int64) string {
	v, unit := float64(n), "B"
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if math.Abs(v) < 1000 {
			break
		}
		v, unit = v/1024, larger
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return Sig3(v) + " " + unit
}

// ShortCount writes n in full below a million, and in millions from there on: 12 345, 1.23 M.
func ShortCount(n int64) string {
	if n < 1_000_000 {
		return Count(n)
	}
	return Sig3(float64(n)/1e6) + " M"
}

// Count writes n with its digits in groups of three: 12 345.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}

// Plural counts things whose plural ends in s: 1 request, 2 requests.
func Plural(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return Count(n) + " " + noun
}
