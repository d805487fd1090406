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
	Names string // of the flags, with blanks between; "*" stands for all that no group names
}

// WriteFlags writes the flags of fs, group by group, in lines of at most 80 columns. It
// returns how many flags are in no group. A flag without a usage is internal, and does not count.
func WriteFlags(w io.Writer, fs *flag.FlagSet, groups []FlagGroup) (left int64) {
	var named []string
	for _, g := range groups {
		named = append(named, strings.Fields(g.Names)...)
	}
	var others []*flag.Flag
	fs.VisitAll(func(f *flag.Flag) {
		if f.Usage != "" && !slices.Contains(named, f.Name) {
			others = append(others, f)
		}
	})
	for _, g := range groups {
		var flags []*flag.Flag
		for _, name := range strings.Fields(g.Names) {
			if f := fs.Lookup(name); f != nil {
				flags = append(flags, f)
			} else if name == "*" {
				flags = append(flags, others...)
				others = nil
			}
		}
		if flags != nil {
			fmt.Fprintf(w, "\n%s:\n", g.Title)
		}
		for _, f := range flags {
			writeFlag(w, f)
		}
	}
	return int64(len(others))
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
