package main

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// three writes v with three significant digits: 0.0123, 1.23, 123, 123 000.
func three(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	// %e rounds to the digits first, so that 9.996 becomes 10.0 and not 10.00.
	_, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', 2, 64), "e")
	e, _ := strconv.Atoi(exponent)
	if e > 2 {
		unit := math.Pow10(e - 2)
		return count(int64(math.Round(v/unit)) * int64(unit))
	}
	return strconv.FormatFloat(v, 'f', 2-e, 64)
}

// span writes a time with three digits and its unit: 1.23ms. Nanoseconds are whole.
func span(d time.Duration) string {
	v, unit := float64(d), "ns"
	for _, larger := range []string{"µs", "ms", "s"} {
		if math.Abs(v) < 999.5 {
			break
		}
		v, unit = v/1000, larger
	}
	if unit == "ns" {
		return strconv.Itoa(int(d)) + unit
	}
	return three(v) + unit
}

// count writes n with its digits in groups: 12 345.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}

// plural counts things: 1 request, 2 requests.
func plural(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return count(n) + " " + thing
}

// bar is a bar of this share, from 0 to 1, of the width, to an eighth of a column, and
// blank from there on.
func bar(share float64, width int) string {
	eighths := int(math.Round(share * float64(8*width)))
	b := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		b += string([]rune("▏▎▍▌▋▊▉")[part-1])
	}
	return b + strings.Repeat(" ", width-utf8.RuneCountInString(b))
}

// grid writes rows below each other in columns: the first to the left, which holds
// names, the others to the right, which hold figures.
func grid(rows [][]string) string {
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

// wrap breaks text between words into lines of at most width columns. The groups of
// a number are one word.
func wrap(text string, width int) string {
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
