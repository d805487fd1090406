package lincheck

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lockstep/common/wire"
)

const (
	lineWidth = 80
	barsWidth = 30
	maxRows   = 12 // calls that are drawn; of a counterexample that is not small, the last
	maxOps    = 16 // operations of a batch that are
	maxText   = 24 // bytes of a key or value, in quotes
)

// String draws a counterexample as a timeline: a row for each call, and from left to
// right the order in which calls started and ended, not how long that took. No line has
// more than 80 columns.
func (x *Counterexample) String() string {
	var b strings.Builder
	if len(x.Calls) == 1 {
		b.WriteString("Nothing explains this call")
	} else {
		fmt.Fprintf(&b, "No order explains these %d calls", len(x.Calls))
	}
	if len(x.Context) > 0 {
		b.WriteString(", whether or not those drawn |..| took effect")
	}
	b.WriteString(":\n\n")
	calls := x.Calls
	if hidden := len(calls) - maxRows; hidden > 0 {
		fmt.Fprintf(&b, "(%d of them before these)\n", hidden)
		calls = calls[hidden:]
	}
	context := x.Context[:min(len(x.Context), maxRows-len(calls))]
	var rows []row
	for i, c := range slices.Concat(calls, context) {
		rows = append(rows, row{c, i >= len(calls)})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.Start, b.Start) })

	column := columns(rows)
	names, bars := 0, 0
	for _, r := range rows {
		names, bars = max(names, len(client(r.Call))), max(bars, column[r.End]+1)
	}
	for _, r := range rows {
		head := fmt.Sprintf("%-*s  %-*s  ", names, client(r.Call), bars, r.bar(column))
		for _, text := range operations(r.Call, lineWidth-len(head)) {
			line := head + text
			if len(line) > lineWidth {
				line = line[:lineWidth-3] + "..."
			}
			b.WriteString(line + "\n")
			head = strings.Repeat(" ", len(head))
		}
	}
	if x.others > 0 {
		fmt.Fprintf(&b, "\nOther calls on these keys, not shown and no help either: %d.\n", x.others)
	}
	if x.why != "" {
		b.WriteString("\n" + wrap(x.why))
	}
	return b.String()
}

type row struct {
	Call
	context bool
}

// columns gives each start and end a column.
func columns(rows []row) map[int64]int {
	var times []int64
	for _, r := range rows {
		times = append(times, r.Start, r.End)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	column := make(map[int64]int)
	for i, time := range times {
		column[time] = i * min(3, max(1, barsWidth/len(times)))
	}
	return column
}

func (r row) bar(column map[int64]int) string {
	from, to := column[r.Start], column[r.End]
	line, end := "-", "|"
	if r.context {
		line = "."
	}
	if r.End == Never {
		end = ">"
	}
	return strings.Repeat(" ", from) + "|" + strings.Repeat(line, to-from-1) + end
}

func client(c Call) string { return fmt.Sprintf("client %d", c.Client) }

// operations describes a call, an operation a line. Keys and values give up their
// middles as far as it takes to fit in width.
func operations(c Call, width int) (lines []string) {
	for i, op := range c.Ops[:min(len(c.Ops), maxOps)] {
		line := ""
		for limit := maxText; limit >= 6; limit -= 3 {
			line = describe(op, limit) + " -> " + outcome(c, i, limit)
			if len(line) <= width-4 {
				break
			}
		}
		if len(c.Ops) > 1 {
			line = "  " + line
		}
		lines = append(lines, line)
	}
	if hidden := len(c.Ops) - maxOps; hidden > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", hidden))
	}
	if len(c.Ops) > 1 { // in braces
		lines[0] = "{" + lines[0][1:]
		lines[len(lines)-1] += " }"
	}
	if c.Results != nil && len(c.Results) != len(c.Ops) {
		lines = append(lines, fmt.Sprintf("results: %d, operations: %d", len(c.Results), len(c.Ops)))
	}
	return lines
}

func describe(op wire.Op, limit int) string {
	words := op.Kind.String() + " " + name(op.Key, limit)
	switch {
	case op.Kind == wire.Put:
		words += " " + quote(op.Value, limit)
	case op.Kind == wire.CompareAndSwap && op.Absent:
		words += " none to " + quote(op.Value, limit)
	case op.Kind == wire.CompareAndSwap:
		words += " " + quote(op.Old, limit) + " to " + quote(op.Value, limit)
	}
	return words
}

func outcome(c Call, i, limit int) string {
	switch {
	case len(c.Results) != len(c.Ops):
		return "?"
	case c.Results[i].Status == wire.Found:
		return quote(c.Results[i].Value, limit)
	default:
		return c.Results[i].Status.String()
	}
}

// name is a key, in quotes if it could be mistaken for something else.
func name(key string, limit int) string {
	quoted := quote([]byte(key), limit)
	if quoted == `"`+key+`"` && !strings.ContainsAny(key, " ,.>{}?") {
		return key
	}
	return quoted
}

// quote is a value in quotes, of at most limit bytes. What makes values unique mostly
// stands at one of their ends.
func quote(value []byte, limit int) string {
	q := strconv.QuoteToASCII(string(value))
	if len(q) <= limit {
		return q
	}
	return q[:limit/3] + ".." + q[len(q)-(limit-limit/3-2):]
}

// wrap breaks a text into lines.
func wrap(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.SplitSeq(text, " ") {
		if column > 0 && column+1+len(word) > lineWidth {
			b.WriteByte('\n')
			column = 0
		} else if column > 0 {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}
