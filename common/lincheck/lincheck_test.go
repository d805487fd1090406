package lincheck

import (
	"context"
	"fmt"
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
// A call starts and ends at the columns where its bar does.
func history(t *testing.T, text string) (calls []Call) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.TrimSpace(line) == "" {
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
	switch op.Kind {
	case wire.Put:
		op.Value = []byte(words[2])
	case wire.CompareAndSwap:
		op.Value = []byte(words[3])
		if op.Absent = words[2] == "none"; !op.Absent {
			op.Old = []byte(words[2])
		}
	}
	for _, value := range []*[]byte{&op.Value, &op.Old} {
		if string(*value) == `""` {
			*value = nil
		}
	}
	return op
}

func resultOf(t *testing.T, word string) wire.Result {
	t.Helper()
	if word[0] == '"' {
		return wire.Result{Status: wire.Found, Value: []byte(strings.Trim(word, `"`))}
	}
	for s := wire.Found; s <= wire.NotRun; s++ {
		if s.String() == word {
			return wire.Result{Status: s}
		}
	}
	t.Fatalf("no status %q", word)
	return wire.Result{}
}

// Each pair is the same but for one line.
var planted = []struct{ name, right, wrong string }{
	// Every kind of operation, and every answer.
	{"get", `
		1 |--|       put a 1 -> created
		1      |--|  get a -> "1"`, `
		1 |--|       put a 1 -> created
		1      |--|  get a -> "2"`},
	{"get nothing", `
		1 |--|  get a -> missing`, `
		1 |--|  get a -> "1"`},
	{"get what is there", `
		1 |--|       put a 1 -> created
		1      |--|  get a -> "1"`, `
		1 |--|       put a 1 -> created
		1      |--|  get a -> missing`},
	{"get an empty value", `
		1 |--|       put a "" -> created
		1      |--|  get a -> ""`, `
		1 |--|       put a "" -> created
		1      |--|  get a -> missing`},
	{"get a value that is too large", `
		1 |--|       put a 1 -> created
		1      |--|  get a -> too large`, `
		1 |--|       put b 1 -> created
		1      |--|  get a -> too large`},
	{"put the first", `
		1 |--|  put a 1 -> created`, `
		1 |--|  put a 1 -> replaced`},
	{"put the second", `
		1 |--|       put a 1 -> created
		1      |--|  put a 2 -> replaced`, `
		1 |--|       put a 1 -> created
		1      |--|  put a 2 -> created`},
	{"delete", `
		1 |--|       put a 1 -> created
		1      |--|  delete a -> deleted`, `
		1 |--|       put a 1 -> created
		1      |--|  delete a -> missing`},
	{"delete nothing", `
		1 |--|  delete a -> missing`, `
		1 |--|  delete a -> deleted`},
	{"delete and get", `
		1 |--|            put a 1 -> created
		1      |--|       delete a -> deleted
		1           |--|  get a -> missing`, `
		1 |--|            put a 1 -> created
		1      |--|       delete a -> deleted
		1           |--|  get a -> "1"`},
	{"swap", `
		1 |--|       put a 1 -> created
		1      |--|  cas a 1 2 -> swapped`, `
		1 |--|       put a 1 -> created
		1      |--|  cas a 2 1 -> swapped`},
	{"no swap", `
		1 |--|       put a 1 -> created
		1      |--|  cas a 2 3 -> mismatch`, `
		1 |--|       put a 1 -> created
		1      |--|  cas a 1 3 -> mismatch`},
	{"a swap stores", `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> swapped
		1           |--|  get a -> "2"`, `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> swapped
		1           |--|  get a -> "1"`},
	{"a mismatch does not", `
		1 |--|            put a 1 -> created
		1      |--|       cas a 3 2 -> mismatch
		1           |--|  get a -> "1"`, `
		1 |--|            put a 1 -> created
		1      |--|       cas a 3 2 -> mismatch
		1           |--|  get a -> "2"`},
	{"insert", `
		1 |--|       cas a none 1 -> swapped
		1      |--|  get a -> "1"`, `
		1 |--|       cas a 0 1 -> swapped
		1      |--|  get a -> "1"`},
	{"insert once", `
		1 |--|       cas a none 1 -> swapped
		1      |--|  cas a none 2 -> mismatch`, `
		1 |--|       cas a none 1 -> swapped
		1      |--|  cas a none 2 -> swapped`},
	{"an empty value is one", `
		1 |--|       put a "" -> created
		1      |--|  cas a "" 1 -> swapped`, `
		1 |--|       put a "" -> created
		1      |--|  cas a none 1 -> swapped`},
	{"nothing is no empty value", `
		1 |--|  cas a "" 1 -> mismatch`, `
		1 |--|  cas a "" 1 -> swapped`},

	// Batches.
	{"operations of a batch see their predecessors", `
		1 |--|  get a -> missing; put a 1 -> created; get a -> "1"; delete a -> deleted; get a -> missing`, `
		1 |--|  get a -> missing; put a 1 -> created; get a -> missing; delete a -> deleted; get a -> missing`},
	{"half a batch", `
		1 |--------|   put a 1 -> created; put b 1 -> created
		2   |--|       get a -> "1"; get b -> "1"`, `
		1 |--------|   put a 1 -> created; put b 1 -> created
		2   |--|       get a -> "1"; get b -> missing`},
	{"half a batch, in two gets", `
		1 |------------|   put a 1 -> created; put b 1 -> created
		2   |--|           get a -> "1"
		2        |--|      get b -> "1"`, `
		1 |------------|   put a 1 -> created; put b 1 -> created
		2   |--|           get a -> "1"
		2        |--|      get b -> missing`},
	{"two batches in opposite order", `
		1 |--------|        put a 1 -> created; put b 1 -> created
		2   |------|        put b 2 -> replaced; put a 2 -> replaced
		3            |--|   get a -> "2"; get b -> "2"`, `
		1 |--------|        put a 1 -> created; put b 1 -> created
		2   |------|        put b 2 -> replaced; put a 2 -> replaced
		3            |--|   get a -> "1"; get b -> "2"`},
	{"two swaps of a batch, both of what was before", `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> swapped; cas a 1 3 -> swapped
		1           |--|  get a -> "3"`, `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> swapped; cas a 2 3 -> swapped
		1           |--|  get a -> "3"`},
	{"a chain of swaps fails", `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> aborted; cas a 2 3 -> mismatch`, `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> swapped; cas a 2 3 -> mismatch`},
	{"a put before a swap", `
		1 |--|            put a 1 -> created
		1      |--|       put a 5 -> replaced; cas a 1 2 -> swapped`, `
		1 |--|            put a 1 -> created
		1      |--|       put a 5 -> replaced; cas a 5 2 -> swapped`},
	{"an aborted put", `
		1 |--|            put a 1 -> created
		1      |--|       put b 1 -> aborted; cas a 2 3 -> mismatch
		1           |--|  get b -> missing`, `
		1 |--|            put a 1 -> created
		1      |--|       put b 1 -> aborted; cas a 2 3 -> mismatch
		1           |--|  get b -> "1"`},
	{"aborted for a reason", `
		1 |--|            put a 1 -> created
		1      |--|       get a -> aborted; cas a 2 3 -> mismatch`, `
		1 |--|            put a 1 -> created
		1      |--|       get a -> aborted; cas a 1 3 -> aborted`},
	{"aborted alone", `
		1 |--|  get a -> missing`, `
		1 |--|  get a -> aborted`},
	{"all is aborted", `
		1 |--|            put a 1 -> created
		1      |--|       get a -> aborted; cas a 2 3 -> mismatch`, `
		1 |--|            put a 1 -> created
		1      |--|       get a -> "1"; cas a 2 3 -> mismatch`},
	{"who mismatched", `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> aborted; cas b 1 2 -> mismatch`, `
		1 |--|            put a 1 -> created
		1      |--|       cas a 1 2 -> mismatch; cas b 1 2 -> mismatch`},
	{"who did not", `
		1 |--|            put a 1 -> created
		1      |--|       cas a 0 2 -> mismatch; cas b 1 2 -> mismatch`, `
		1 |--|            put a 1 -> created
		1      |--|       cas a 0 2 -> aborted; cas b 1 2 -> mismatch`},
	{"keys tied by a chain of batches", `
		1 |-------------|  put a 1 -> created
		2 |-------------|  put b 1 -> created
		3     |--|         get a -> "1"; get b -> missing
		4      |---|       get b -> "1"; get a -> "1"`, `
		1 |-------------|  put a 1 -> created
		2 |-------------|  put b 1 -> created
		3     |--|         get a -> "1"; get b -> missing
		4      |---|       get b -> "1"; get a -> missing`},

	// Time.
	{"stale read", `
		1 |--|            put a 1 -> created
		1      |--|       put a 2 -> replaced
		2           |--|  get a -> "2"`, `
		1 |--|            put a 1 -> created
		1      |--|       put a 2 -> replaced
		2           |--|  get a -> "1"`},
	{"a read meets a write", `
		1 |--|            put a 1 -> created
		1      |------|   put a 2 -> replaced
		2           |--|  get a -> "1"`, `
		1 |--|            put a 1 -> created
		1      |--|       put a 2 -> replaced
		2           |--|  get a -> "1"`},
	{"two ends at one time are no order", `
		1 |--|            put a 1 -> created
		1      |----|     put a 2 -> replaced
		2           |--|  get a -> "1"`, `
		1 |--|            put a 1 -> created
		1      |---|      put a 2 -> replaced
		2           |--|  get a -> "1"`},
	{"new, then old", `
		1 |--|                put a 1 -> created
		1      |-----------|  put a 2 -> replaced
		2        |--|         get a -> "2"
		2             |--|    get a -> "2"`, `
		1 |--|                put a 1 -> created
		1      |-----------|  put a 2 -> replaced
		2        |--|         get a -> "2"
		2             |--|    get a -> "1"`},
	{"lost update", `
		1 |--|                put a 0 -> created
		1      |----|         cas a 0 1 -> swapped
		2        |----|       cas a 0 2 -> mismatch
		2              |--|   get a -> "1"`, `
		1 |--|                put a 0 -> created
		1      |----|         cas a 0 1 -> swapped
		2        |----|       cas a 0 2 -> swapped
		2              |--|   get a -> "1"`},
	{"lost put", `
		1 |--|                put a 0 -> created
		1      |----|         put a 1 -> replaced
		2        |----|       put a 2 -> replaced
		2              |--|   get a -> "1"`, `
		1 |--|                put a 0 -> created
		1      |----|         put a 1 -> replaced
		2        |----|       put a 2 -> replaced
		2              |--|   get a -> "0"`},
	{"a write after its end", `
		1 |--|                 put a 1 -> created
		2      |--|            get a -> "1"
		2           |--|       get a -> "1"`, `
		1 |--|                 put a 1 -> created
		2      |--|            get a -> missing
		2           |--|       get a -> "1"`},
	{"a write before its start", `
		1      |--|            put a 1 -> created
		2 |-----|              get a -> "1"`, `
		1      |--|            put a 1 -> created
		2 |--|                 get a -> "1"`},
	// A put that was sent again, after another client's: why a client may not.
	{"a put applied twice", `
		1 |--|                      put a 1 -> created
		2      |--|                 put a 2 -> replaced
		3           |--|            get a -> "2"
		3                |--|       get a -> "2"`, `
		1 |--|                      put a 1 -> created
		2      |--|                 put a 2 -> replaced
		3           |--|            get a -> "2"
		3                |--|       get a -> "1"`},
	{"at the same time, in one order", `
		1 |-----|              put a 1 -> created
		2   |------|           put a 2 -> replaced
		3             |--|     get a -> "2"`, `
		1 |-----|              put a 1 -> created
		2   |------|           put a 2 -> replaced
		3             |--|     get a -> missing`},
	{"at the same time, in the other", `
		1 |-----|              put a 1 -> replaced
		2   |------|           put a 2 -> created
		3             |--|     get a -> "1"`, `
		1 |-----|              put a 1 -> replaced
		2   |------|           put a 2 -> created
		3             |--|     get a -> "2"`},
	{"two readers agree", `
		1 |--------------------|  put a 1 -> created
		2 |--------------------|  put a 2 -> replaced
		3     |--|                get a -> "1"
		4          |--|           get a -> "2"
		3               |--|      get a -> "2"`, `
		1 |--------------------|  put a 1 -> created
		2 |--------------------|  put a 2 -> replaced
		3     |--|                get a -> "1"
		4          |--|           get a -> "2"
		3               |--|      get a -> "1"`},

	// Unknown outcomes.
	{"an unknown write, never", `
		1 |>                    put a 1 -> ?
		2      |--|             get a -> missing
		2           |--|        put a 2 -> created
		2                |--|   get a -> "2"`, `
		1 |>                    put a 1 -> ?
		2      |--|             get a -> missing
		2           |--|        put a 2 -> created
		2                |--|   get a -> missing`},
	{"an unknown write, late", `
		1 |>               put a 1 -> ?
		2      |--|        get a -> missing
		2           |--|   get a -> "1"`, `
		1 |>               put a 1 -> ?
		2      |--|        get a -> missing
		2           |--|   get a -> "2"`},
	{"an unknown write, then not", `
		1 |>               put a 1 -> ?
		2      |--|        get a -> "1"
		2           |--|   get a -> "1"`, `
		1 |>               put a 1 -> ?
		2      |--|        get a -> "1"
		2           |--|   get a -> missing`},
	{"an unknown write, before its start", `
		1    |>            put a 1 -> ?
		2  |--|            get a -> "1"`, `
		1        |>        put a 1 -> ?
		2  |--|            get a -> "1"`},
	{"an unknown write, twice", `
		1 |>                      put a 1 -> ?
		2      |--|               get a -> "1"
		2           |--|          put a 2 -> replaced
		2                |--|     get a -> "2"`, `
		1 |>                      put a 1 -> ?
		2      |--|               get a -> "1"
		2           |--|          put a 2 -> replaced
		2                |--|     get a -> "1"`},
	{"two unknown writes", `
		1 |>                      put a 1 -> ?
		1     |>                  put a 2 -> ?
		2      |--|               get a -> "2"
		2           |--|          get a -> "1"`, `
		1 |>                      put a 1 -> ?
		1     |>                  put b 2 -> ?
		2      |--|               get a -> "2"
		2           |--|          get a -> "1"`},
	{"an unknown swap", `
		1 |--|             put a 1 -> created
		1     |>           cas a 1 2 -> ?
		2      |--|        get a -> "2"`, `
		1 |--|             put a 1 -> created
		1     |>           cas a 3 2 -> ?
		2      |--|        get a -> "2"`},
	{"an unknown insert", `
		1 |--|             put b 1 -> created
		1     |>           cas a none 2 -> ?
		2      |--|        get a -> "2"`, `
		1 |--|             put a 1 -> created
		1     |>           cas a none 2 -> ?
		2      |--|        get a -> "2"`},
	{"an unknown delete", `
		1 |--|             put a 1 -> created
		1     |>           delete a -> ?
		2      |--|        get a -> "1"
		2           |--|   get a -> missing`, `
		1 |--|             put a 1 -> created
		1     |>           delete b -> ?
		2      |--|        get a -> "1"
		2           |--|   get a -> missing`},
	{"half an unknown batch", `
		1 |>               put a 1 -> ?; put b 1 -> ?
		2      |--|        get a -> "1"
		2           |--|   get b -> "1"`, `
		1 |>               put a 1 -> ?; put b 1 -> ?
		2      |--|        get a -> "1"
		2           |--|   get b -> missing`},
	{"an unknown batch that a key of its own prevents", `
		1 |--|             put a 0 -> created
		1     |>           cas b none 1 -> ?; put a 1 -> ?
		2      |--|        get a -> "1"`, `
		1 |--|             put a 0 -> created
		1     |>           cas b 0 1 -> ?; put a 1 -> ?
		2      |--|        get a -> "1"`},

	// Answers that no table gives.
	{"as many results as operations", `
		1 |--|  get a -> missing; get b -> missing`, `
		1 |--|  get a -> missing; get b -> ?`},
	{"the answer to another kind", `
		1 |--|  get a -> missing`, `
		1 |--|  get a -> created`},
	{"an answer in parts", `
		1 |--|  put a 1 -> created; put b 1 -> created`, `
		1 |--|  put a 1 -> created; put b 1 -> unknown`},
	{"an answer not run in part", `
		1 |--|  put a 1 -> created; put b 1 -> created`, `
		1 |--|  put a 1 -> created; put b 1 -> not run`},
}

func TestPlanted(t *testing.T) {
	for _, test := range planted {
		t.Run(test.name, func(t *testing.T) {
			if got := judge(t, history(t, test.right)); got != Linearizable {
				t.Errorf("%v, want linearizable:%s", got, test.right)
			}
			if got := judge(t, history(t, test.wrong)); got != Violated {
				t.Errorf("%v, want violated:%s", got, test.wrong)
			}
			right, wrong := strings.Split(test.right, "\n"), strings.Split(test.wrong, "\n")
			differ := 0
			for i := range max(len(right), len(wrong)) {
				if i >= len(right) || i >= len(wrong) || right[i] != wrong[i] {
					differ++
				}
			}
			if differ != 1 {
				t.Errorf("right and wrong differ in %d lines, want 1", differ)
			}
		})
	}
}

// Outcomes as the client reports them.
func TestOutcomes(t *testing.T) {
	const after = `
		2      |--|        get a -> "1"
		2           |--|   get a -> "1"`
	for _, test := range []struct {
		name, text string
		want       Verdict
	}{
		{"put, unknown", "1 |--|  put a 1 -> unknown" + after, Linearizable},
		{"put, unknown, that was given up", "1 |--|  put a 1 -> unknown" + strings.Replace(after, `"1"`, "missing", 1), Linearizable},
		{"put, no answer, that was given up", "1 |--|  put a 1 -> ?" + strings.Replace(after, `"1"`, "missing", 1), Linearizable},
		{"put, not run", "1 |--|  put a 1 -> not run" + after, Violated},
		{"batch, unknown", "1 |--|  put a 1 -> unknown; put b 1 -> unknown" + after, Linearizable},
		{"batch, not run", "1 |--|  put a 1 -> not run; put b 1 -> not run" + after, Violated},
		{"not run, and never answered", "1 |>  put a 1 -> not run" + after, Violated},
		{"get, unknown", "1 |--|  get a -> unknown", Linearizable},
		{"get, not run", "1 |--|  get a -> not run", Linearizable},
		{"get, no answer", "1 |>  get a -> ?; get b -> ?", Linearizable},
		{"no calls", "", Linearizable},
	} {
		if got, x := Check(t.Context(), history(t, test.text)); got != test.want {
			t.Errorf("%s: %v, want %v\n%v", test.name, got, test.want, x)
		}
	}
}

// Reads that nobody answered must not tie keys together, nor calls that did not run.
func TestGroups(t *testing.T) {
	for _, test := range []struct {
		text string
		want int
	}{
		{"1 |--|  get a -> missing\n1 |--|  get b -> missing", 2},
		{"1 |--|  get a -> missing; get b -> missing\n1 |--|  get b -> missing; get c -> missing\n1 |--| get d -> missing", 2},
		{"1 |--|  get a -> missing; get b -> missing\n1 |--|  get c -> missing; get d -> missing\n1 |--| get d -> missing; get a -> missing", 1},
		{"1 |--|  get a -> missing\n1 |--|  get b -> missing\n1 |>  get a -> ?; get b -> ?", 2},
		{"1 |--|  get a -> missing\n1 |--|  get b -> missing\n1 |--|  put a 1 -> not run; get b -> not run", 2},
		{"1 |--|  get a -> missing\n1 |--|  get b -> missing\n1 |>  put a 1 -> ?; get b -> ?", 1},
	} {
		if got := len(split(history(t, test.text))); got != test.want {
			t.Errorf("%d groups, want %d:\n%s", got, test.want, test.text)
		}
	}
}

func TestPanics(t *testing.T) {
	get := []wire.Op{{Kind: wire.Get, Key: "a"}}
	missing := []wire.Result{{Status: wire.Missing}}
	for name, call := range map[string]Call{
		"no operations":     {Start: 1, End: 2},
		"ends as it starts": {Ops: get, Results: missing, Start: 1, End: 1},
		"ends before":       {Ops: get, Results: missing, Start: 2, End: 1},
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

// Check leaves its argument alone, and does not need it in order.
func TestOrderOfCalls(t *testing.T) {
	calls := history(t, planted[len(planted)/2].wrong)
	slices.Reverse(calls)
	before := fmt.Sprint(calls)
	got, x := Check(t.Context(), calls)
	if got != Violated {
		t.Errorf("%v in reverse, want violated", got)
	}
	if after := fmt.Sprint(calls); after != before {
		t.Errorf("calls are now %s, want %s", after, before)
	}
	if !slices.IsSortedFunc(x.Calls, func(a, b Call) int { return int(a.Start - b.Start) }) {
		t.Errorf("calls of the counterexample out of order: %v", x.Calls)
	}
}

// A context that ends after it was asked a number of times.
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

func TestUndecided(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got, x := Check(ended, history(t, "1 |--|  get a -> \"1\"")); got != Undecided || x != nil {
		t.Errorf("with a context that has ended: %v, %v, want undecided, nil", got, x)
	}

	// 14 puts at one time, and a get that none of them explains.
	text := strings.Repeat("1 |--|       put a 1 -> replaced\n", 13) + "1 |--|  put a 2 -> created\n"
	for i := range 14 {
		text = strings.Replace(text, "put a 1", fmt.Sprintf("put a x%d", i), 1)
	}
	for i := range 14 {
		text += fmt.Sprintf("2 |--|  get a -> \"x%d\"\n", i)
	}
	hard := history(t, text+"2        |--|  get a -> missing")
	left := 10
	if got, _ := Check(countdown{t.Context(), &left}, hard); got != Undecided {
		t.Errorf("with a context that ends in the middle: %v, want undecided", got)
	}
	if left != -1 {
		t.Errorf("asked the context %d times more after it had ended", -1-left)
	}

	calls := split(hard)[0]
	s := newSearch(t.Context(), calls, answered(calls), false)
	s.room = 10000
	if got := s.run(); got != Undecided {
		t.Errorf("without memory: %v, want undecided", got)
	}
	if s.room < -1000 || len(s.visited) > 100 {
		t.Errorf("used up memory and %d bytes, for %d visits", -s.room, len(s.visited))
	}
}

// When the context ends after the verdict, the counterexample is larger, and right.
func TestHasty(t *testing.T) {
	calls := history(t, `
		1 |--|                 put a 1 -> created
		1      |--|            put a 2 -> replaced
		2           |--|       get a -> "2"
		2                |--|  get a -> "1"`)
	left := 1
	got, x := Check(countdown{t.Context(), &left}, calls)
	if got != Violated || len(x.Calls) != 4 {
		t.Fatalf("%v, %v, want violated, all 4 calls", got, x)
	}
	got, x = Check(t.Context(), calls)
	if got != Violated || len(x.Calls) != 2 || len(x.Context) != 2 {
		t.Errorf("%v, %v, want violated, two calls, and the two that wrote what they read", got, x)
	}
}
