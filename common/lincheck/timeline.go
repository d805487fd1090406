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
	barsWidth = 30 // at most
	maxRows   = 24 // calls that are drawn; of a counterexample that is not small, the last
	maxOps    = 16 // operations of a batch that are
	maxText   = 24 // bytes of a key or value, quoted
)

// String draws a counterexample as a timeline: a row for each call, and from left to
// right the order in which calls started and ended, not how long that took. No line has
// more than 80 columns.
func (x *Counterexample) String() string {
	var b strings.Builder
	if len(x.Calls) == 1 {
		b.WriteString("Nothing explains this call:\n\n")
	} else {
		fmt.Fprintf(&b, "No order explains these %d calls:\n\n", len(x.Calls))
	}
	rows := slices.Concat(x.Calls, x.Context)
	if len(x.Calls) > maxRows {
		rows = slices.Concat(x.Calls[len(x.Calls)-maxRows:], x.Context)
		fmt.Fprintf(&b, "(and %d calls before these)\n", len(x.Calls)-maxRows)
	}
	main := min(len(x.Calls), maxRows) // rows from there on are context
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(rows[i].Start, rows[j].Start) })
	column, width := columns(rows)
	name := 0
	for _, c := range rows {
		name = max(name, len(client(c)))
	}
	for _, i := range order {
		c, line := rows[i], byte('-')
		if i >= main {
			line = '.'
		}
		bar := []byte(strings.Repeat(" ", width))
		from, to := column[c.Start], width-1
		if c.End != Never {
			to = column[c.End]
		}
		for at := from; at <= to; at++ {
			bar[at] = line
		}
		bar[from], bar[to] = '|', '|'
		if c.End == Never {
			bar[to] = '>'
		}
		for j, text := range operations(c, lineWidth-name-width-4) {
			head := fmt.Sprintf("%-*s  %s", name, client(c), bar)
			if j > 0 {
				head = strings.Repeat(" ", len(head))
			}
			b.WriteString(cut(head+"  "+text, lineWidth) + "\n")
		}
	}
	if len(x.Context) > 0 {
		b.WriteString("\n|...|  makes no difference, whether or not it took effect\n")
	}
	if x.others > 0 {
		fmt.Fprintf(&b, "\nOther calls on these keys that are not shown, and make no difference: %d.\n", x.others)
	}
	if x.why != "" {
		b.WriteString("\n" + wrap(x.why))
	}
	return b.String()
}

func client(c Call) string { return fmt.Sprintf("client %d", c.Client) }

// columns gives each start and end its column, and the number of all.
func columns(rows []Call) (column map[int64]int, width int) {
	var times []int64
	endless := false
	for _, c := range rows {
		times = append(times, c.Start)
		if endless = endless || c.End == Never; c.End != Never {
			times = append(times, c.End)
		}
	}
	slices.Sort(times)
	times = slices.Compact(times)
	column = make(map[int64]int)
	room := barsWidth - 4
	for i, time := range times {
		column[time] = i * min(3, max(1, room/len(times)))
		if len(times) > room {
			column[time] = i * room / len(times)
		}
		width = column[time] + 1
	}
	if endless {
		width += 3
	}
	return column, width
}

// operations describes a call, each operation in at most width bytes if it can be.
func operations(c Call, width int) []string {
	var lines []string
	for i, op := range c.Ops {
		if i == maxOps {
			lines = append(lines, fmt.Sprintf("  and %d more", len(c.Ops)-i))
			break
		}
		result := "?"
		if c.Results != nil {
			result = "no answer to it"
		}
		if i < len(c.Results) {
			result = c.Results[i].Status.String()
		}
		line := ""
		for limit := maxText; limit >= 6; limit -= 3 {
			if i < len(c.Results) && c.Results[i].Status == wire.Found {
				result = quote(c.Results[i].Value, limit)
			}
			line = describe(op, limit) + " -> " + result
			if len(line) <= width-2 {
				break
			}
		}
		if len(c.Ops) > 1 {
			line = map[bool]string{true: "{ ", false: "  "}[i == 0] + line
		}
		lines = append(lines, line)
	}
	if len(c.Ops) > 1 {
		lines[len(lines)-1] += " }"
	}
	if extra := len(c.Results) - len(c.Ops); extra > 0 {
		lines = append(lines, fmt.Sprintf("and answers to %d operations more", extra))
	}
	return lines
}

func describe(op wire.Op, limit int) string {
	switch words := op.Kind.String() + " " + key(op.Key, limit); {
	case op.Kind == wire.Put:
		return words + " " + quote(op.Value, limit)
	case op.Kind != wire.CompareAndSwap:
		return words
	case op.Absent:
		return words + " none to " + quote(op.Value, limit)
	default:
		return words + " " + quote(op.Old, limit) + " to " + quote(op.Value, limit)
	}
}

// key is a key as it is if that cannot be mistaken, or else quoted.
func key(name string, limit int) string {
	quoted := quote([]byte(name), limit)
	if quoted == `"`+name+`"` && !strings.ContainsAny(name, " ,.>{}?") {
		return name
	}
	return quoted
}

// quote is a value in quotes, of which the middle is left out if it has more than limit
// bytes: what makes values unique mostly stands at an end.
func quote(value []byte, limit int) string {
	q := strconv.QuoteToASCII(string(value))
	if len(q) <= limit {
		return q
	}
	return q[:limit/3] + ".." + q[len(q)-(limit-limit/3-2):]
}

func cut(line string, width int) string {
	if line = strings.TrimRight(line, " "); len(line) > width {
		line = line[:width-3] + "..."
	}
	return line
}

// wrap breaks a text into lines.
func wrap(text string) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Split(text, " ") {
		switch {
		case column == 0:
		case column+1+len(word) > lineWidth:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
	return b.String()
}
