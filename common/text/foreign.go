package text

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Quote makes a string of any origin fit for a message on one line of a terminal: as
// it is if every rune of it can be printed, and in Go's quotes otherwise or if it is
// empty. What is longer than limit bytes is cut in the middle, since what tells strings
// apart mostly stands at one of their ends.
func Quote(s string, limit int) string {
	cut := func(s string) string {
		if len(s) <= limit {
			return s
		}
		head, tail := limit/3, len(s)-(limit-limit/3-2)
		for head > 0 && !utf8.RuneStart(s[head]) {
			head--
		}
		for tail < len(s) && !utf8.RuneStart(s[tail]) {
			tail++
		}
		return s[:head] + ".." + s[tail:]
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
