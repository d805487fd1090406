package lincheck

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"lockstep/common/wire"
)

// history reads a timeline as Counterexample draws it, a line for each call:
//
//	1  |----|        put a 1 -> created
//	2       |--|     get a -> "1"; delete b -> missing
//	1            |>  put a 2 -> ?
//
// A call starts and ends at the columns where its bar does. Lines marked + or - are left out.
func history(t *testing.T, text string) (calls []Call) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if first := strings.TrimSpace(line); first == "" || first[0] == '+' || first[0] == '-' {
			continue
		}
		from := strings.IndexByte(line, '|')
		to := from + 1 + strings.IndexAny(line[from+1:], "|>")
		c := Call{Start: int64(from), End: int64(to)}
		fmt.Sscan(line[:from], &c.Client)
		if line[to] == '>' {
			c.End = Never
		}
		for part := range strings.SplitSeq(line[to+1:], ";") {
			words, result, _ := strings.Cut(part, "->")
			c.Ops = append(c.Ops, operationOf(strings.Fields(words)))
			if result = strings.TrimSpace(result); result != "?" {
				c.Results = append(c.Results, resultOf(t, result))
			}
		}
		calls = append(calls, c)
	}
	return calls
}

func operationOf(words []string) wire.Op {
	op := wire.Op{Kind: wire.OpKind(1 + slices.Index([]string{"get", "put", "delete", "cas"}, words[0])), Key: words[1]}
	value := func(i int) []byte { return []byte(strings.Trim(words[i], `"`)) }
	switch op.Kind {
	case wire.Put:
		op.Value = value(2)
	case wire.CompareAndSwap:
		op.Absent, op.Old, op.Value = words[2] == "none", value(2), value(3)
	}
	return op
}

func resultOf(t *testing.T, word string) wire.Result {
	t.Helper()
	if word[0] == '"' {
		return wire.Result{Status: wire.Found, Value: []byte(strings.Trim(word, `"`))}
	}
	s := wire.Found
	for s.String() != word {
		if s++; s > wire.NotRun {
			t.Fatalf("no status %q", word)
		}
	}
	return wire.Result{Status: s}
}

// Histories that show the difficulties beyond single answers, which TestAgainstBruteForce
// covers. They are linearizable with the lines marked + and violated with those marked -.
var planted = []struct{ name, text string }{
	// Batches.
	{"swaps of a batch compare with the state before it", `
		  1 |--|            put a 1 -> created
		+ 1      |--|       cas a 1 2 -> swapped; cas a 1 3 -> swapped
		- 1      |--|       cas a 1 2 -> swapped; cas a 2 3 -> swapped
		  1           |--|  get a -> "3"`},
	{"keys tied by a chain of batches", `
		  1 |-------------|  put a 1 -> created
		  2 |-------------|  put b 1 -> created
		  3     |--|         get a -> "1"; get b -> missing
		+ 4      |---|       get b -> "1"; get a -> "1"
		- 4      |---|       get b -> "1"; get a -> missing`},
	// Time.
	{"an end and a start at one time overlap", `
		  1 |--|            put a 1 -> created
		+ 1      |----|     put a 2 -> replaced
		- 1      |---|      put a 2 -> replaced
		  2           |--|  get a -> "1"`},
	// Unknown outcomes.
	{"an unknown write that never takes effect", `
		  1 |>                    put a 1 -> ?
		  2      |--|             get a -> missing
		  2           |--|        put a 2 -> created
		+ 2                |--|   get a -> "2"
		- 2                |--|   get a -> missing`},
	{"an unknown write, seen before its start", `
		+ 1    |>            put a 1 -> ?
		- 1        |>        put a 1 -> ?
		  2  |--|            get a -> "1"`},
	{"an unknown write takes effect once", `
		  1 |>                      put a 1 -> ?
		  2      |--|               get a -> "1"
		  2           |--|          put a 2 -> replaced
		+ 2                |--|     get a -> "2"
		- 2                |--|     get a -> "1"`},
	{"an unknown write that is better kept for later", `
		  1 |--|                       put a 0 -> created
		  2      |>                    cas a 0 2 -> ?
		  3      |>                    put a 2 -> ?
		  1         |--|               cas a 2 1 -> swapped
		+ 1              |--|          get a -> "2"
		- 1              |--|          get a -> "0"`},
	{"half of an unknown batch", `
		  1 |>               put a 1 -> ?; put b 1 -> ?
		  2      |--|        get a -> "1"
		+ 2           |--|   get b -> "1"
		- 2           |--|   get b -> missing`},
	{"an unknown batch whose compare fails", `
		  1 |--|             put a 0 -> created
		+ 1     |>           cas b none 1 -> ?; put a 1 -> ?
		- 1     |>           cas b 0 1 -> ?; put a 1 -> ?
		  2      |--|        get a -> "1"`},
	// Answers that no table gives.
	{"too few results", `
		+ 1 |--|  get a -> missing; get b -> missing
		- 1 |--|  get a -> missing; get b -> ?`},
	{"an unknown outcome in part", `
		+ 1 |--|  put a 1 -> created; put b 1 -> created
		- 1 |--|  put a 1 -> created; put b 1 -> unknown`},
}

func TestPlanted(t *testing.T) {
	for _, test := range planted {
		t.Run(test.name, func(t *testing.T) {
			for mark, want := range map[string]Verdict{"+": Linearizable, "-": Violated} {
				calls := history(t, regexp.MustCompile(`\t[`+mark+`] `).ReplaceAllString(test.text, "\t  "))
				if got := judge(t, calls); got != want {
					t.Errorf("%v with the lines marked %s, want %v:%s", got, mark, want, test.text)
				}
			}
		})
	}
}

// Outcomes as the client reports them, before two gets that find a.
func TestOutcomes(t *testing.T) {
	const after = `
		2      |--|        get a -> "1"
		2           |--|   get a -> "1"`
	for text, want := range map[string]Verdict{
		"1 |--|  put a 1 -> unknown" + after:                         Linearizable,
		"1 |--|  put a 1 -> not run" + after:                         Violated,
		"1 |--|  put a 1 -> unknown; put b 1 -> unknown" + after:     Linearizable,
		"1 |--|  put a 1 -> not run; put b 1 -> not run" + after:     Violated,
		"1 |>  put a 1 -> not run" + after:                           Violated,
		"1 |--|  put a 1 -> unknown\n1       |--|  get a -> missing": Linearizable,
		"1 |--|  put a 1 -> ?\n1       |--|  get a -> missing":       Linearizable,
		"1 |--|  get a -> unknown":                                   Linearizable,
		"1 |--|  get a -> not run":                                   Linearizable,
		"1 |>  get a -> ?; get b -> ?":                               Linearizable,
		"":                                                           Linearizable,
	} {
		if got, x := Check(t.Context(), history(t, text)); got != want {
			t.Errorf("%v, want %v:\n%s\n%v", got, want, text, x)
		}
	}
}

// Gets that were not answered and calls that did not run tie no keys together.
func TestGroups(t *testing.T) {
	for text, want := range map[string]int{
		"1 |--|  get a -> missing\n1 |--|  get b -> missing":                                                              2,
		"1 |--|  get a -> missing; get b -> missing\n1 |--|  get c -> missing; get b -> missing\n1 |--| get d -> missing": 2,
		"1 |--|  get a -> missing\n1 |--|  get b -> missing\n1 |>  get a -> ?; get b -> ?":                                2,
		"1 |--|  get a -> missing\n1 |--|  get b -> missing\n1 |--|  put a 1 -> not run; get b -> not run":                2,
		"1 |--|  get a -> missing\n1 |--|  get b -> missing\n1 |>  put a 1 -> ?; get b -> ?":                              1,
	} {
		if got := len(split(history(t, text))); got != want {
			t.Errorf("%d groups, want %d:\n%s", got, want, text)
		}
	}
}

func TestPanics(t *testing.T) {
	get := []wire.Op{{Kind: wire.Get, Key: "a"}}
	missing := []wire.Result{{Status: wire.Missing}}
	for name, call := range map[string]Call{
		"no operations":     {Start: 1, End: 2},
		"ends as it starts": {Ops: get, Results: missing, Start: 1, End: 1},
		"answered at Never": {Ops: get, Results: missing, Start: 1, End: Never},
		"no kind":           {Ops: []wire.Op{{Key: "a"}}, Results: missing, Start: 1, End: 2},
		"unknown kind":      {Ops: []wire.Op{{Kind: wire.CompareAndSwap + 1, Key: "a"}}, Start: 1, End: Never},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: did not panic", name)
				}
			}()
			Check(t.Context(), []Call{call})
		}()
	}
}

const staleRead = `
	1 |--|                 put a 1 -> created
	1      |--|            put a 2 -> replaced
	2           |--|       get a -> "2"
	2                |--|  get a -> "1"`

// Check accepts calls in any order, does not change them, and returns them in order: here two,
// and the two that wrote what they read.
func TestOrderOfCalls(t *testing.T) {
	calls := history(t, staleRead)
	slices.Reverse(calls)
	before := fmt.Sprint(calls)
	got, x := Check(t.Context(), calls)
	slices.Reverse(calls)
	if got != Violated || !reflect.DeepEqual(x.Calls, calls[2:]) || !reflect.DeepEqual(x.Context, calls[:2]) {
		t.Errorf("%v with\n%v\nwant violated, with all four calls", got, x)
	}
	if slices.Reverse(calls); fmt.Sprint(calls) != before {
		t.Errorf("calls are %v, were %s", calls, before)
	}
}

// A countdown is a context that ends after Err was called left times.
type countdown struct {
	context.Context
	left *int
}

func (c countdown) Err() error {
	if *c.left--; *c.left < 0 {
		return context.Canceled
	}
	return nil
}

// An ended context leaves the verdict open or, after it, the counterexample larger but right.
func TestUndecided(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, x := Check(ended, history(t, staleRead)); got != Undecided || x != nil {
		t.Errorf("after the end of the context: %v, %v, want undecided, nil", got, x)
	}
	left := 1
	if got, x := Check(countdown{t.Context(), &left}, history(t, staleRead)); got != Violated || len(x.Calls) != 4 {
		t.Errorf("after the end of the search: %v, %v, want violated and all 4 calls", got, x)
	}

	// 14 concurrent puts, and a get that none of them explains.
	text := "1 |--|  put a 2 -> created\n2        |--|  get a -> missing\n"
	for i := range 13 {
		text += fmt.Sprintf("1 |--|  put a x%d -> replaced\n2 |--|  get a -> \"x%d\"\n", i, i)
	}
	hard := history(t, text)
	left = 10
	if got, _ := Check(countdown{t.Context(), &left}, hard); got != Undecided || left != -1 {
		t.Errorf("with a context that ends during the search: %v, %d calls of Err after it, want undecided, 0", got, -1-left)
	}

	s := newSearch(t.Context(), split(hard)[0], false, 10000)
	if got := s.run(); got != Undecided || s.room < -1000 || len(s.visited) > 100 {
		t.Errorf("with 10 kB of memory: %v after %d bytes in %d visits, want undecided", got, 10000-s.room, len(s.visited))
	}
}

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
	text := strings.Repeat("\x00\xff\"\u00fc ", 20)
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
				t.Fatalf("%d columns, want at most 80 that can be printed, in %q", utf8.RuneCountInString(line), line)
			}
		}
	}
	long := history(t, "1 |--|  get first"+strings.Repeat("k", 100)+`last -> "head`+strings.Repeat("v", 100)+`tail"`)
	if got := drawn(long); !regexp.MustCompile(`get first.*last -> "head.*tail"`).MatchString(got) {
		t.Errorf("a long key and a long value lack an end:\n%s", got)
	}
}
