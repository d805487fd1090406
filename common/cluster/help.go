package cluster

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/common/text"
)

// A FlagGroup is a part of a help text: flags of one purpose.
type FlagGroup struct {
	Title string
	Names string // of the flags, with blanks between; "*" stands for all that no group before names
}

// WriteFlags writes the flags of fs, group by group, in lines of at most 80 columns. It
// returns how many flags are in no group. A flag without a usage is internal, and does not count.
func WriteFlags(w io.Writer, fs *flag.FlagSet, groups []FlagGroup) (left int64) {
	var rest []*flag.Flag
	fs.VisitAll(func(f *flag.Flag) {
		if f.Usage != "" {
			rest = append(rest, f)
		}
	})
	for _, g := range groups {
		title := "\n" + g.Title + ":\n"
		for name := range strings.FieldsSeq(g.Names) {
			rest = slices.DeleteFunc(rest, func(f *flag.Flag) bool {
				if name != f.Name && name != "*" {
					return false
				}
				io.WriteString(w, title)
				title = "" // for the first flag only
				writeFlag(w, f)
				return true
			})
		}
	}
	return int64(len(rest))
}

// writeFlag writes what goes behind a flag, what it does, and its default.
func writeFlag(w io.Writer, f *flag.Flag) {
	const indent = 22
	arg, usage := flag.UnquoteUsage(f)
	_, notNumber := strconv.ParseFloat(f.DefValue, 64)
	_, notTime := time.ParseDuration(f.DefValue)
	switch {
	case arg != "value":
	case notNumber == nil:
		arg = "N"
	case notTime == nil:
		arg = "TIME"
	default:
		arg = f.Name
	}
	if f.DefValue != "" && f.DefValue != "false" {
		usage += " (default " + f.DefValue + ")"
	}
	head := strings.TrimSpace("  -" + f.Name + " " + strings.ToUpper(arg))
	if len(head) > indent-4 {
		head += "\n" + strings.Repeat(" ", indent)
	}
	lines := strings.TrimSuffix(text.Wrap(usage, text.Columns-indent), "\n")
	fmt.Fprintf(w, "  %-*s%s\n", indent-2, head, strings.ReplaceAll(lines, "\n", "\n"+strings.Repeat(" ", indent)))
}
