package lincheck

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"lockstep/common/cluster"
	"lockstep/common/table"
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
		line = strings.TrimSuffix(line, "\n")
		if strings.TrimSpace(line) == "" {
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
	if values := words[2:]; len(values) > 0 {
		op.Absent, op.Old = values[0] == "none", unquote(values[0])
		op.Value = unquote(values[len(values)-1])
	}
	return op
}

func resultOf(t *testing.T, word string) wire.Result {
	if word[0] == '"' {
		return wire.Result{Status: wire.Found, Value: unquote(word)}
	}
	s := wire.Found
	for s.String() != word {
		if s++; s > wire.NotRun {
			t.Fatalf("no status %q", word)
		}
	}
	return wire.Result{Status: s}
}

func unquote(word string) []byte { return []byte(strings.Trim(word, `"`)) }

// Outcomes as the client reports them, before two gets that find a; answers that no table gives;
// and an unknown put that is better kept for later.
func TestOutcomes(t *testing.T) {
	const after = `
		2      |--|        get a -> "1"
		2           |--|   get a -> "1"`
	const kept = `
		1 |--|                  put a 0 -> created
		2      |>               cas a 0 2 -> ?
		3      |>               put a 2 -> ?
		1         |--|          cas a 2 1 -> swapped
		1              |--|     get a -> `
	for text, want := range map[string]Verdict{
		"1 |--|  put a 1 -> unknown" + after:                         Linearizable,
		"1 |--|  put a 1 -> not run" + after:                         Violated,
		"1 |--|  put a 1 -> unknown; put b 1 -> unknown" + after:     Linearizable,
		"1 |>  put a 1 -> not run" + after:                           Violated,
		"1 |--|  put a 1 -> unknown\n1       |--|  get a -> missing": Linearizable,
		"1 |--|  put a 1 -> ?\n1       |--|  get a -> missing":       Linearizable,
		"1 |>  get a -> ?; get b -> ?":                               Linearizable,
		"1 |--|  get a -> missing; get b -> ?":                       Violated,
		"1 |--|  put a 1 -> created; put b 1 -> unknown":             Violated,
		kept + `"2"`: Linearizable,
		kept + `"0"`: Violated,
		"":           Linearizable,
	} {
		if got, x := Check(t.Context(), history(t, text)); got != want {
			t.Errorf("%v, want %v:\n%s\n%v", got, want, text, x)
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
	backward := slices.Clone(calls)
	slices.Reverse(backward)
	given := slices.Clone(backward)
	got, x := Check(t.Context(), given)
	if got != Violated || !reflect.DeepEqual(x.Calls, calls[2:]) || !reflect.DeepEqual(x.Context, calls[:2]) {
		t.Errorf("%v with\n%v\nwant violated, with all four calls", got, x)
	}
	if !reflect.DeepEqual(given, backward) {
		t.Errorf("calls are %v, were %v", given, backward)
	}
}

// A countdown is a context that ends after Err was called left times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// An ended context leaves the verdict open or, after it, the counterexample larger but right.
func TestUndecided(t *testing.T) {
	if got, x := Check(&countdown{t.Context(), 0}, history(t, staleRead)); got != Undecided || x != nil {
		t.Errorf("after the end of the context: %v, %v, want undecided, nil", got, x)
	}
	if got, x := Check(&countdown{t.Context(), 1}, history(t, staleRead)); got != Violated || len(x.Calls) != 4 {
		t.Errorf("after the end of the search: %v, %v, want violated and all 4 calls", got, x)
	}

	// 14 concurrent puts, and a get that none of them explains.
	text := "1 |--|  put a 2 -> created\n2        |--|  get a -> missing\n"
	for i := range 13 {
		text += fmt.Sprintf("1 |--|  put a x%d -> replaced\n2 |--|  get a -> \"x%d\"\n", i, i)
	}
	hard := history(t, text)
	ctx := &countdown{t.Context(), 10}
	if got, _ := Check(ctx, hard); got != Undecided || ctx.left != -1 {
		t.Errorf("with a context that ends during the search: %v, %d calls of Err after it, want undecided, 0", got, -1-ctx.left)
	}

	s := newSearch(t.Context(), split(hard)[0], false, 10000)
	if got := s.run(); got != Undecided || s.room < -1000 || len(s.visited) > 100 {
		t.Errorf("with 10 kB of memory: %v after %d bytes in %d visits, want undecided", got, 10000-s.room, len(s.visited))
	}
}

// The timeline shows the calls of the counterexample and those that wrote what they read.
func TestTimeline(t *testing.T) {
	const unknown = `
		1 |--|               put a 1 -> created
		1 |--|               put b 1 -> created
		2      |>            put a 2 -> ?
		10       |-----|     get a -> "2"
		1                 |-----|  get a -> "1"
		3                           |---|  put a 3 -> replaced`
	for text, want := range map[string]string{
		unknown: `
client 1   |..|                    put a "1" -> created
client 2         |..............>  put a "2" -> ?
client 10           |--|           get a -> "2"
client 1                  |--|     get a -> "1"
`,
		"1 |--|  get a -> created" + strings.Repeat("; get a -> missing", 20): "and 5 more }",
		"1 |--|  get a -> missing; get b -> ?":                                "(1 answered of 2) }",
	} {
		_, x := Check(t.Context(), history(t, text))
		if !strings.Contains(x.String(), want) {
			t.Errorf("the timeline lacks %s\n%v", want, x)
		}
	}
}

// Every line fits the width and can be printed.
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
}

// explained is the definition of linearizable, by brute force: it reports whether an order
// of the calls gives all answers when a real table executes them after those that are done.
// A call without Results may take effect before its End, or not.
func explained(calls []Call, done ...[]wire.Op) bool {
	if !slices.ContainsFunc(calls, answered) {
		return true
	}
	for i, next := range calls {
		rest := slices.Delete(slices.Clone(calls), i, i+1)
		late := func(c Call) bool { return c.End < next.Start } // cannot come after it
		if slices.ContainsFunc(rest, func(c Call) bool { return answered(c) && late(c) }) {
			continue
		}
		after := append(slices.Clip(done), next.Ops)
		if (!answered(next) || same(next.Results, execute(after...))) && explained(slices.DeleteFunc(rest, late), after...) {
			return true
		}
	}
	return false
}

// execute returns how a real table answers the last of some requests.
func execute(requests ...[]wire.Op) (results []wire.Result) {
	t := table.New(cluster.Work{}, nil)
	for _, ops := range requests {
		results = t.Apply(ops)
	}
	return results
}

func same(got, want []wire.Result) bool {
	return slices.EqualFunc(got, want, func(a, b wire.Result) bool {
		differ := a.Status == wire.Found && !bytes.Equal(a.Value, b.Value)
		return a.Status == b.Status && !differ || a.Status == wire.TooLarge && b.Status == wire.Found
	})
}

// A run is a workload of clients of one table.
type run struct {
	calls, keys, clients int  // half of the clients are active on average
	tied                 int  // keys tied together by batches; 1: no batches
	unknown              int  // percentage of calls without an answer
	few                  bool // the values are few, so that calls interfere
}

// record returns the history of a run and its table. A call takes effect at one time
// between its start and its end. Without an answer it may do so much later, or never.
func (r run) record(rng *rand.Rand) ([]Call, *table.Table) {
	shared := table.New(cluster.Work{}, nil)
	calls := make([]Call, r.calls)
	for i := range calls {
		now, most := int64(100*i), int64(50*r.clients)
		c := Call{Client: i, Ops: r.ops(rng, shared, i), Start: now - rng.Int64N(most), End: now + 1 + rng.Int64N(most)}
		if rng.IntN(100) >= r.unknown {
			c.Results = shared.Apply(c.Ops)
		} else if c.Start, c.End = now-rng.Int64N(most*int64(1+r.calls/40)), Never; rng.IntN(2) == 0 {
			shared.Apply(c.Ops)
		}
		calls[i] = c
	}
	return calls, shared
}

func (r run) ops(rng *rand.Rand, shared *table.Table, number int) (ops []wire.Op) {
	group := rng.IntN(r.keys / r.tied)
	for {
		op := wire.Op{Kind: wire.Get, Key: fmt.Sprintf("key%d", group*r.tied+rng.IntN(r.tied))}
		value := fmt.Appendf(nil, "%d.%d", number, len(ops))
		if r.few {
			value = fewValues[rng.IntN(len(fewValues))]
		}
		switch n := rng.IntN(10); {
		case n < 3:
			op.Kind, op.Value = wire.Put, value
		case n < 4:
			op.Kind = wire.Delete
		case n < 5:
			now := shared.Apply([]wire.Op{{Kind: wire.Get, Key: op.Key}})[0]
			op.Kind, op.Value, op.Old = wire.CompareAndSwap, value, now.Value
			op.Absent = now.Status == wire.Missing
		case n < 6: // a mismatch, mostly
			op.Kind, op.Value, op.Old = wire.CompareAndSwap, value, value
			op.Absent = rng.IntN(3) == 0
		}
		ops = append(ops, op)
		if r.tied == 1 || rng.IntN(3) > 0 {
			return ops
		}
	}
}

var fewValues = [][]byte{[]byte("1"), []byte("2"), []byte("3"), {}, nil}

// mutate changes one detail.
func (r run) mutate(rng *rand.Rand, calls []Call) {
	c := &calls[rng.IntN(len(calls))]
	switch rng.IntN(5) {
	case 0, 1:
		if c.Results != nil {
			c.Results[rng.IntN(len(c.Results))] = wire.Result{
				Status: wire.Status(1 + rng.IntN(int(wire.Unknown)-1)), Value: fewValues[rng.IntN(len(fewValues))]}
		}
	case 2:
		by := rng.Int64N(1000) - 500
		c.Start += by
		if c.End != Never {
			c.End += by
		}
	case 3:
		c.Ops[rng.IntN(len(c.Ops))] = r.ops(rng, table.New(cluster.Work{}, nil), 0)[0]
	case 4:
		c.End = c.Start + 1
		if c.Results == nil {
			c.Results = execute(c.Ops)
		}
	}
}

// judge compares Check with the definition, and a counterexample with what its
// documentation promises.
func judge(t *testing.T, calls []Call) Verdict {
	t.Helper()
	got, x := Check(t.Context(), calls)
	if want := map[bool]Verdict{true: Linearizable, false: Violated}[explained(calls)]; got != want || (x != nil) != (got == Violated) {
		t.Fatalf("%v, want %v, with counterexample %v:\n%s", got, want, x, drawn(calls))
	}
	if x == nil {
		return got
	}
	if verdict, _ := Check(t.Context(), slices.Concat(x.Calls, x.Context)); verdict != Violated {
		t.Fatalf("the counterexample\n%v\nis itself %v; of\n%s", x, verdict, drawn(calls))
	}
	answering := func(some []Call) []Call { // all calls, with the answers of some
		all := slices.Clone(calls)
		for i, c := range all {
			if !slices.ContainsFunc(some, func(s Call) bool { return s.Client == c.Client && s.Start == c.Start }) {
				all[i].Results = nil
			}
		}
		return all
	}
	if explained(answering(x.Calls)) {
		t.Fatalf("the counterexample\n%v\nproves nothing about\n%s", x, drawn(calls))
	}
	for i, c := range x.Calls {
		if !explained(answering(slices.Delete(slices.Clone(x.Calls), i, i+1))) {
			t.Fatalf("the counterexample\n%v\ndoes not need client %d; of\n%s", x, c.Client, drawn(calls))
		}
	}
	return got
}

// drawn returns a history as text.
func drawn(calls []Call) string { return fmt.Sprint(&Counterexample{Calls: calls}) }

// Check agrees with brute force on many small histories, and on changed ones.
func TestAgainstBruteForce(t *testing.T) {
	const n = 2000
	verdicts := make(map[Verdict]int)
	for seed := range uint64(n) {
		rng := rand.New(rand.NewPCG(1, seed))
		r := run{calls: 1 + rng.IntN(6), keys: 2, clients: 5, tied: 2, unknown: 25, few: true}
		calls, _ := r.record(rng)
		if verdict, x := Check(t.Context(), calls); verdict != Linearizable {
			t.Fatalf("seed %d: %v, want linearizable:\n%s\n%v", seed, verdict, drawn(calls), x)
		}
		for range 1 + rng.IntN(3) {
			r.mutate(rng, calls)
		}
		verdicts[judge(t, calls)]++
	}
	if verdicts[Linearizable] < n/10 || verdicts[Violated] < n/10 {
		t.Errorf("changed histories: %v, want at least a tenth of %d each", verdicts, n)
	}
}

// Histories of hundreds of calls are decided in about as many moves, and a violation at
// their end or in their middle is found and explained by one or two calls.
func TestRuns(t *testing.T) {
	for _, r := range []run{
		{calls: 2000, keys: 1000, clients: 8, tied: 1, unknown: 5},
		{calls: 2000, keys: 1000, clients: 8, tied: 4, unknown: 1},
		{calls: 500, keys: 4, clients: 3, tied: 4},
		{calls: 500, keys: 1, clients: 8, tied: 1},
		{calls: 1000, keys: 1000, clients: 8, tied: 1000},
	} {
		t.Run(fmt.Sprintf("%+v", r), func(t *testing.T) {
			calls, shared := r.record(rand.New(rand.NewPCG(1, 2)))
			if got, x := Check(t.Context(), calls); got != Linearizable {
				t.Fatalf("%v, want linearizable\n%v", got, x)
			}
			moves := 0
			for _, group := range split(calls) {
				s := newSearch(t.Context(), group, false, roomToSearch)
				s.run()
				moves += s.moves
			}
			if moves > 3*r.calls {
				t.Errorf("%d moves, want at most %d", moves, 3*r.calls)
			}
			if r.tied == r.keys && r.keys > 100 {
				return // a violation among 1000 tied keys takes too long
			}

			end := int64(100 * (r.calls + r.clients)) // of all calls that have one
			put := shared.Apply([]wire.Op{{Kind: wire.Put, Key: "key0", Value: []byte("x")}})[0].Status
			for name, text := range map[string]string{
				"a swap that cannot have happened": `
					2      |>         cas key0 no q -> ?
					3           |--|  get key0 -> "q"`,
				"a lost update": `
					2      |--|       cas key0 x y -> swapped
					3      |--|       cas key0 x z -> swapped`,
			} {
				last := history(t, fmt.Sprintf("1 |--|  put key0 x -> %v%s", put, text))
				for i := range last {
					last[i].Start += end
					last[i].End += min(end, Never-last[i].End)
				}
				if got, x := Check(t.Context(), slices.Concat(calls, last)); got != Violated || len(x.Calls) > 2 {
					t.Errorf("%s: %v, want violated and at most 2 calls\n%v", name, got, x)
				}
			}

			middle := slices.IndexFunc(calls[r.calls/2:], func(c Call) bool { return c.Results != nil && c.Results[0].Status == wire.Found })
			calls[r.calls/2+middle].Results[0].Value = []byte("never written")
			if got, x := Check(t.Context(), calls); got != Violated || len(x.Calls) > 2 {
				t.Errorf("a value that was never written: %v, want violated and at most 2 calls\n%v", got, x)
			}
		})
	}
}

// A cache gives a client an old value, after the client that replaced it was told that it did.
// Is that wrong? It depends on what was promised.
//
// Serializable: there is some order of the calls that explains all answers, here the get
// before the second put. Linearizable: there is one that also keeps each call behind those
// that had ended when it began.
//
//	go test ./common/lincheck -run Specimen -v
func TestSpecimenStaleRead(t *testing.T) {
	const stale = `
			1  |--|                       put color blue -> created
			1        |--|                 put color red -> replaced
			2              |--|           get color -> "blue"`
	for _, c := range []struct {
		name, prediction, history string
		anyTime                   bool // each call may have taken effect before, or after, any other
		want                      Verdict
	}{
		{"linearizable", "no: the get began after the second put had ended", stale, false, Violated},
		{"serializable", "yes: the get comes before the second put, in an order without a clock", stale, true, Linearizable},
		{"at the same time", "yes: the put had not been answered when the get began, and may come second", `
			1  |--|                       put color blue -> created
			1        |--------|           put color red -> replaced
			2              |--|           get color -> "blue"`, false, Linearizable},
		{"back again", "no: once red was seen, blue is an old copy, though the put is not over", `
			1  |--|                       put color blue -> created
			1        |--------------|     put color red -> replaced
			2           |--|              get color -> "red"
			3                 |--|        get color -> "blue"`, false, Violated},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := history(t, c.history)
			for i := range calls {
				if c.anyTime {
					calls[i].Start, calls[i].End = 0, 1
				}
			}
			got, why := Check(t.Context(), calls)
			t.Logf("%s\nprediction: %s\nfound: %v", strings.ReplaceAll(c.history, "\t", ""), c.prediction, got)
			if why != nil {
				t.Logf("%v", why)
			}
			if got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
