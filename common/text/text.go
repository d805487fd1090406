// Package text makes numbers, tables and foreign strings fit to print: figures of
// three digits with their units, counts that agree with their nouns, columns that line
// up, lines that fit a terminal, and no control characters.
package text

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Sig3 writes v with three significant digits: 0.0123, 1.23, 123, 123 000.
func Sig3(v float64) string { return Sig(v, 3) }

// Sig writes v with the given number of significant digits, at least one.
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

// DurationSig writes d with the given number of significant digits and its unit.
func DurationSig(d time.Duration, digits int) string {
	return scale(int64(d), digits, 1000, 1000-0.5*math.Pow10(3-digits), "ns", "µs", "ms", "s")
}

// Bytes writes a size with three significant digits and its unit: 1.50 MiB. Sizes
// below 1 KiB are whole.
func Bytes(n int64) string { return scale(n, 3, 1024, 1000, " B", " KiB", " MiB", " GiB", " TiB") }

// scale writes n in the first of the units in which it is below limit, or else in the last.
// Each is step times the one before it; the first are counted whole.
func scale(n int64, digits int, step, limit float64, units ...string) string {
	v, i := float64(n), 0
	for ; math.Abs(v) >= limit && i < len(units)-1; i++ {
		v /= step
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + units[0]
	}
	return Sig(v, digits) + units[i]
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

// Columns is the width of a terminal, for text that is wrapped.
const Columns = 80

// Table writes rows below each other, in columns two blanks apart: the first, which
// holds names, aligned to the left, the others, which hold figures, to the right.
func Table(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line += cell + fill
			} else {
				line += "  " + fill + cell
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

var groups = regexp.MustCompile(`(\d) (\d)`)

// Wrap breaks text between words into lines of at most width columns, each with a
// newline at its end. The groups of a number are one word.
func Wrap(text string, width int) string {
	var b strings.Builder
	column := 0
	text = groups.ReplaceAllString(text, "$1\x00$2")
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
		case column+1+n > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return strings.ReplaceAll(b.String(), "\x00", " ") + "\n"
}

// Quote makes a string of any origin fit for a message on one line of a terminal: as
// it is if every rune of it can be printed, and in Go's quotes otherwise or if it is
// empty. What is longer than limit bytes is cut in the middle, since what tells strings
// apart mostly stands at one of their ends.
func Quote(s string, limit int) string {
	cut := func(s string) string {
		if len(s) <= limit {
			return s
		}
		head, tail := s[:limit/3], s[len(s)-(limit-limit/3-2):]
		return strings.ToValidUTF8(head, "") + ".." + strings.ToValidUTF8(tail, "") // without the rest of a rune that is cut in two
	}
	if s != "" && Printable(s) == s && !strings.ContainsAny(s, "\n\t") {
		return cut(s)
	}
	return cut(strconv.Quote(s))
}

// Printable writes what cannot be printed in s as Go does in a string, since it could take
// control of a terminal. Newlines and tabs stay: the stacks of a crash have them.
func Printable(s string) string {
	quoted := strconv.Quote(s)
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}
