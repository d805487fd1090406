package lincheck

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"lockstep/common/wire"
)

// The timeline shows the calls of the counterexample, those that wrote what they read, and
// how many others there are.
func TestTimeline(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string // lines, up to blanks and the lengths of bars
	}{
		{"an unknown outcome, and gets that agree", `
			1 |--|               put a 1 -> created
			1 |--|               put b 1 -> created
			2      |>            put a 2 -> ?
			10       |-----|     get a -> "2"
			1                 |-----|  get a -> "1"
			3                           |---|  put a 3 -> replaced`, []string{
			`client 1  |..| put a "1" -> created`,
			`client 2 |..............> put a "2" -> ?`,
			`client 10 |-----| get a -> "2"`,
			`client 1 |-----| get a -> "1"`}},
		{"batches, and what came before", `
			1 |--|                     put a 1 -> created
			1      |--|                put a 2 -> replaced
			1           |--|           put a 3 -> replaced; get a -> "3"
			2           |--|           put a 4 -> replaced; put b "" -> created
			2                |--|      get a -> "1"`, []string{
			`|..| put a "1" -> created`, `{ put a "3" -> replaced`, `get a -> "3" }`,
			`{ put a "4" -> replaced`, `put b "" -> created }`,
			`client 2 |--| get a -> "1"`, `Not shown: 1 call on these keys.`}},
		{"a large batch", "1 |--|  get a -> created" + strings.Repeat("; get a -> missing", 20), []string{
			`{ get a -> created`, `and 5 more }`}},
		{"too few results", "1 |--| get a -> missing; get b -> ?", []string{
			`{ get a -> ?`, `get b -> ?`, `(1 answered of 2) }`}},
		{"absent and empty values", `
			1 |--|       cas a none "" -> swapped
			1      |--|  cas a "" 1 -> swapped
			2           |--|  get a -> ""`, []string{
			`client 1 |--| cas a "" to "1" -> swapped`, `client 2 |--| get a -> ""`}},
	} {
		_, x := Check(t.Context(), history(t, test.text))
		got := squeeze(x.String())
		for _, want := range test.want {
			if !strings.Contains(got, squeeze(want)) {
				t.Errorf("%s: the timeline lacks %q:\n%v", test.name, want, x)
			}
		}
	}
}

// squeeze brings all blanks and all bars of a timeline to the same length.
func squeeze(text string) string {
	text = regexp.MustCompile(`  +|--+|\.\.+`).ReplaceAllStringFunc(text, func(long string) string { return long[:1] })
	return strings.ReplaceAll(text, "\n ", "\n")
}

// Every line fits the width and can be printed, and long values keep both ends.
func TestWidth(t *testing.T) {
	text := strings.Repeat("\x00\xff\"\u00fc ", 50)
	calls := []Call{{Client: -1 << 63, Start: -5, End: Never, Ops: []wire.Op{{Kind: wire.Put, Key: text}}}}
	for i := range int64(30) {
		op := wire.Op{Kind: wire.CompareAndSwap, Key: text[i:], Old: []byte(text), Value: []byte(text[i:])}
		calls = append(calls, Call{
			Client: int(i) << (2 * i), Start: 3 * i, End: 3*i + 2 + 40*(i%3),
			Ops: []wire.Op{op, op}, Results: []wire.Result{{Status: wire.Mismatch}, {Status: wire.Found, Value: []byte(text)}},
		})
	}
	for n := 0; n < len(calls); n += 10 {
		x := &Counterexample{Calls: calls[:n+1], Context: calls[n+1:], others: n}
		for line := range strings.Lines(x.String()) {
			line = strings.TrimSuffix(line, "\n")
			if utf8.RuneCountInString(line) > 80 || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("%d columns in %q", utf8.RuneCountInString(line), line)
			}
		}
	}
	long := history(t, "1 |--|  get first"+strings.Repeat("k", 100)+`last -> "head`+strings.Repeat("v", 100)+`tail"`)
	if got := (&Counterexample{Calls: long}).String(); !strings.Contains(got, "get first") || !strings.Contains(got, `last -> "head`) || !strings.Contains(got, `tail"`) {
		t.Errorf("a long key and a long value lack an end:\n%s", got)
	}
}
