package lincheck

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

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
		if _, err := fmt.Sscan(line[:from], &c.Client); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if line[to] == '>' {
			c.End = Never
		}
		for part := range strings.SplitSeq(line[to+1:], ";") {
			words, result, _ := strings.Cut(part, "->")
			c.Ops = append(c.Ops, operationOf(t, strings.Fields(words)))
			if result = strings.TrimSpace(result); result != "?" {
				c.Results = append(c.Results, resultOf(t, result))
			}
		}
		calls = append(calls, c)
	}
	return calls
}

func operationOf(t *testing.T, words []string) (op wire.Op) {
	t.Helper()
	for op.Kind = wire.Get; op.Kind.String() != words[0]; op.Kind++ {
		if op.Kind > wire.CompareAndSwap {
			t.Fatalf("no operation %q", words)
		}
	}
	op.Key = words[1]
	if op.Kind.Writes() && op.Kind != wire.Delete {
		op.Value = []byte(words[len(words)-1])
	}
	if op.Kind == wire.CompareAndSwap {
		if op.Absent = words[2] == "none"; !op.Absent {
			op.Old = []byte(words[2])
		}
	}
	op.Value, op.Old = bytes.Trim(op.Value, `"`), bytes.Trim(op.Old, `"`)
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

// Check accepts calls in any order, does not change them, and returns them in order.
func TestOrderOfCalls(t *testing.T) {
	calls := history(t, staleRead)
	slices.Reverse(calls)
	before := fmt.Sprint(calls)
	got, x := Check(t.Context(), calls)
	if after := fmt.Sprint(calls); got != Violated || after != before {
		t.Errorf("%v, want violated; calls are %s, were %s", got, after, before)
	}
	if len(x.Calls) != 2 || len(x.Context) != 2 || x.Calls[0].Start > x.Calls[1].Start {
		t.Errorf("%v, want two calls in order, and the two that wrote what they read", x)
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
