package lincheck

import (
	"strings"
	"testing"

	"lockstep/common/wire"
)

// What is said of a counterexample, and must be true.
func TestSentence(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`
		1 |--|            put a 1 -> created
		2      |--|       put a 2 -> replaced
		3           |--|  get a -> "1"`, `client 3 read "1" from a, although client 2 had replaced a by "2" before that began.`},
		{`
		1 |--|            put a 1 -> created
		2      |--|       delete a -> deleted
		3           |--|  get a -> "1"`, `client 3 read "1" from a, although client 2 had deleted a before that began.`},
		{`
		1 |--|            put a 1 -> created
		2      |--|       get a -> missing`, `client 2 found no a, although client 1 had created a with "1" before that began.`},
		{`
		1 |--|            put a 1 -> created
		1      |--|       get a -> missing`, `client 1 found no a, although it had created a with "1" before.`},
		{`
		1 |--|            put a 1 -> created
		2      |--|       cas a 1 2 -> mismatch`, `client 2 found a not to be "1", although client 1 had created a with "1" before that began.`},
		{`
		1 |--|            put a 1 -> created
		2      |--|       delete a -> deleted
		3           |--|  cas a none 2 -> mismatch`, `client 3 found a to exist, although client 2 had deleted a before that began.`},
		{`
		1 |--|            put a 1 -> created
		2      |--|       delete a -> deleted
		3           |--|  get a -> too large`, `client 3 found something in a, although client 2 had deleted a before that began.`},
		{`
		1 |--|            put a 0 -> created
		2      |--|       cas a 0 1 -> swapped
		3       |--|      cas a 0 2 -> swapped`, `client 2 and client 3 both swapped "0" in a for another value: only one can have.`},
		{`
		2      |--|       cas a none 1 -> swapped
		3       |--|      put a 2 -> created`, `client 2 and client 3 both created a: only one can have.`},
		{`
		1 |--|            put a 0 -> created
		2      |--|       delete a -> deleted
		3       |--|      delete a -> deleted`, `client 2 and client 3 both deleted a: only one can have.`},
		{`
		1 |--|            get a -> "7"`, `client 1 read "7" from a, where nobody had written that.`},
		{`
		1 |--|            get a -> "7"
		2      |--|       put a 7 -> created`, `client 1 read "7" from a, where nobody had written that.`},
		{`
		1 |--|            put a 1 -> created; put b 1 -> created
		2  |--|           get a -> "1"; get b -> missing`,
			`client 2 saw what a request of client 1 wrote to a, but not what the same request wrote to b.`},
		{`
		1 |--|            put a 0 -> created; put b 0 -> created
		2      |--|       put a 1 -> replaced; put b 1 -> replaced
		3       |--|      get b -> "0"; get a -> "1"`,
			`client 3 saw what a request of client 2 wrote to a, but not what the same request wrote to b.`},
		{`
		1 |--|            put a 1 -> created; put b 1 -> created
		2  |--|           put b 2 -> replaced; put a 2 -> created`,
			`client 2 saw what a request of client 1 wrote to b, but not what the same request wrote to a.`},
		{`
		1 |--|            put a 1 -> created; put b 1 -> created
		2      |--|       delete b -> deleted
		3           |--|  get a -> "1"; get b -> missing; get c -> "9"`,
			`client 3 read "9" from c, where nobody had written that.`},
		{`
		1 |----|          put a 1 -> created; put a 2 -> replaced
		2  |--|           get a -> "1"`,
			`client 2 read "1" from a, which a request of client 1 wrote, but did not leave there.`},
		{`
		1 |--|            put b 1 -> created
		1      |--|       cas b 2 3 -> mismatch; put a 1 -> aborted
		2           |--|  get a -> "1"`, `client 2 read "1" from a, where nobody had written that.`},
		{`
		1 |----|            put a 1 -> created; put b 1 -> created; put c 1 -> created
		2   |----|          put b 2 -> replaced; put a 2 -> replaced
		3           |--|    get a -> "1"; get b -> "2"; get c -> missing`,
			`client 3 saw what a request of client 1 wrote to a, but not what the same request wrote to c.`},
		{`
		1 |--|            put a 1 -> created
		2      |--|       cas a 2 3 -> mismatch; put b 1 -> created`,
			`A compare of this request failed, so that nothing of it was done, and b is answered created all the same.`},
		// Nothing is said where it would take more than a glance to see that it is true.
		{`
		1 |--|            put a 1 -> created; delete b -> missing
		2  |--|           get a -> missing
		2      |--|       get a -> missing`, ``},
		{`
		1 |--|            get a -> created`, ``},
		{`
		1 |--|            get a -> missing; get a -> "1"
		2 |--|            put a 1 -> created`, ``},
	} {
		verdict, x := Check(t.Context(), history(t, test.text))
		if verdict != Violated {
			t.Errorf("%v, want violated:%s", verdict, test.text)
		} else if x.why != test.want {
			t.Errorf("got  %s\nwant %s\nof\n%v", x.why, test.want, x)
		}
	}
}

func TestTimeline(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown outcome", `
		1 |--|              put a 1 -> created
		1 |--|              put b 1 -> created
		2      |>           put a 2 -> ?
		10       |-----|    get a -> "2"
		1           |-----| get a -> "1"
		1                 |------| get a -> "1"
		3                                |---|  put a 3 -> replaced`, `
No order explains these 2 calls, whether or not those drawn |..| took effect:

client 1   |..|                    put a "1" -> created
client 2         |..............>  put a "2" -> ?
client 10           |--|           get a -> "2"
client 1                  |--|     get a -> "1"

client 1 read "1" from a, although client 10 had read "2" from a before that
began.
`},
		{"what is at the same time, but not what is before", `
		1 |--|                     put a 1 -> created
		1      |--|                put a 2 -> replaced
		1           |--|           put a 3 -> replaced; get a -> "3"
		2           |--|           put a 4 -> replaced; put b "" -> created
		2                |--|      get a -> "1"`, `
No order explains these 2 calls, whether or not those drawn |..| took effect:

client 1  |..|              put a "1" -> created
client 1        |--|        { put a "3" -> replaced
                              get a -> "3" }
client 2        |..|        { put a "4" -> replaced
                              put b "" -> created }
client 2              |--|  get a -> "1"

Other calls on these keys, not shown and no help either: 1.
`},
		{"long values",
			"1 |--|       put " + strings.Repeat("k", 250) + " " + strings.Repeat("v", 100) + "1 -> created\n" +
				"1      |--|  put " + strings.Repeat("k", 250) + " " + strings.Repeat("v", 100) + "2 -> created", `
No order explains these 2 calls:

client 1  |--|        put "kkkkk..kkkkkkkkk" "vvvvv..vvvvvvvv1" -> created
client 1        |--|  put "kkkkk..kkkkkkkkk" "vvvvv..vvvvvvvv2" -> created

client 1 created "kkkkkkk..kkkkkkkkkkkkk" with "vvvvvvv..vvvvvvvvvvvv2",
although it had created "kkkkkkk..kkkkkkkkkkkkk" with "vvvvvvv..vvvvvvvvvvvv1"
before.
`},
		{"a large batch", "1 |--|  get a -> created" + strings.Repeat("; get a -> missing", 20), `
Nothing explains this call:

client 1  |--|  { get a -> created
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  get a -> missing
                  and 5 more }
`},
		{"results without operations", `
		1 |--|                     get a -> missing; get b -> ?`, `
Nothing explains this call:

client 1  |--|  { get a -> ?
                  get b -> ? }
                results: 1, operations: 2
`},
	} {
		_, x := Check(t.Context(), history(t, test.text))
		if got := x.String(); got != strings.TrimPrefix(test.want, "\n") {
			t.Errorf("%s: got\n%s\nwant%s", test.name, got, test.want)
		}
	}
}

// Whatever is drawn fits a line, and is printable.
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
	for n := range len(calls) {
		x := &Counterexample{Calls: calls[:n+1], Context: calls[n+1:], why: strings.Repeat("word ", 50)}
		for line := range strings.Lines(x.String()) {
			line = strings.TrimSuffix(line, "\n")
			if len(line) > lineWidth || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%d columns in %q", len(line), line)
			}
		}
	}
}
