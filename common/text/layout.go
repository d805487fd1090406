package text

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

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
