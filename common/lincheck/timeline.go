package lincheck

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lockstep/common/text"
	"lockstep/common/wire"
)

const (
	barsWidth = 30
	maxRows   = 12 // calls drawn; the last ones, if a counterexample has more
	maxOps    = 16 // operations of a batch drawn
	maxText   = 24 // bytes of a key or a value drawn
	minText   = 6  // likewise, on a line that is too long
)

// String draws the counterexample as a timeline with a row for each call. From left to
// right it shows the order in which calls started and ended, not how long they took. No
// line has more than 80 columns.
func (x *Counterexample) String() string {
	head := "No order explains " + text.Plural(int64(len(x.Calls)), "call")
	if len(x.Context) > 0 {
		head += " |--|, whether or not the others |..| took effect"
	}
	var rows []row
	for _, c := range x.Calls[max(0, len(x.Calls)-maxRows):] {
		rows = append(rows, row{c, "-"})
	}
	for _, c := range x.Context[:min(len(x.Context), maxRows-len(rows))] {
		rows = append(rows, row{c, "."})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.Start, b.Start) })

	names := 0
	var times []int64 // at which calls start or end, a column each
	for _, r := range rows {
		names = max(names, len(r.client()))
		times = append(times, r.Start, r.End)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	wide := min(3, max(1, barsWidth/len(times)))
	column := func(time int64) int { i, _ := slices.BinarySearch(times, time); return i * wide }
	bars := (len(times)-1)*wide + 1
	var b strings.Builder
	b.WriteString(text.Wrap(head+":", text.Columns) + "\n")
	for _, r := range rows {
		label := fmt.Sprintf("%-*s  %-*s  ", names, r.client(), bars, r.bar(column))
		for _, line := range r.operations(text.Columns - len(label)) {
			b.WriteString(text.Quote(label+line, text.Columns) + "\n")
			label = strings.Repeat(" ", len(label))
		}
	}
	if hidden := len(x.Calls) + len(x.Context) + x.others - len(rows); hidden > 0 {
		fmt.Fprintf(&b, "\nNot shown: %s on these keys.\n", text.Plural(int64(hidden), "call"))
	}
	return b.String()
}

// A row is a call as it is drawn, its bar made of line.
type row struct {
	Call
	line string
}

func (r row) client() string { return fmt.Sprintf("client %d", r.Client) }

func (r row) bar(column func(time int64) int) string {
	from, to := column(r.Start), column(r.End)
	end := "|"
	if r.End == Never {
		end = ">"
	}
	return strings.Repeat(" ", from) + "|" + strings.Repeat(r.line, to-from-1) + end
}

// operations describes a call, one operation a line, a batch in braces. Keys and values
// are shortened as far as needed to fit a line into width.
func (r row) operations(width int) (lines []string) {
	for i := range r.Ops[:min(len(r.Ops), maxOps)] {
		line := ""
		for limit := maxText; limit >= minText; limit -= 3 {
			if line = r.operation(i, limit); len(line) <= width-len("{  }") {
				break
			}
		}
		lines = append(lines, line)
	}
	if hidden := len(r.Ops) - maxOps; hidden > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", hidden))
	}
	if r.Results != nil && len(r.Results) != len(r.Ops) {
		lines = append(lines, fmt.Sprintf("(%d answered of %d)", len(r.Results), len(r.Ops)))
	}
	if len(lines) == 1 {
		return lines
	}
	return strings.Split("{ "+strings.Join(lines, "\n  ")+" }", "\n")
}

func (r row) operation(i, limit int) string {
	answer := "?"
	if len(r.Results) == len(r.Ops) {
		if answer = r.Results[i].Status.String(); r.Results[i].Status == wire.Found {
			answer = text.Quote(strconv.QuoteToASCII(string(r.Results[i].Value)), limit)
		}
	}
	return r.Ops[i].Text(limit) + " -> " + answer
}
