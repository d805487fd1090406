package lincheck_test

import (
	"context"
	"fmt"

	"lockstep/common/lincheck"
	"lockstep/common/wire"
)

// A server locks one key at a time, so another batch can take effect in the middle of a
// batch. Client 3 sees a state that neither order of the two batches leaves.
func ExampleCheck() {
	put := func(key, value string) wire.Op {
		return wire.Op{Kind: wire.Put, Key: key, Value: []byte(value)}
	}
	get := func(key string) wire.Op { return wire.Op{Kind: wire.Get, Key: key} }
	created, replaced := wire.Result{Status: wire.Created}, wire.Result{Status: wire.Replaced}
	found := func(value string) wire.Result { return wire.Result{Status: wire.Found, Value: []byte(value)} }

	history := []lincheck.Call{
		{Client: 1, Start: 1, End: 2, Ops: []wire.Op{put("alice", "10"), put("bob", "10")},
			Results: []wire.Result{created, created}},
		{Client: 1, Start: 3, End: 6, Ops: []wire.Op{put("alice", "20"), put("bob", "20")},
			Results: []wire.Result{replaced, replaced}},
		{Client: 2, Start: 4, End: 5, Ops: []wire.Op{put("alice", "30"), put("bob", "30")},
			Results: []wire.Result{replaced, replaced}},
		{Client: 3, Start: 7, End: 8, Ops: []wire.Op{get("alice"), get("bob")},
			Results: []wire.Result{found("30"), found("20")}},
	}
	verdict, why := lincheck.Check(context.Background(), history)
	fmt.Println(verdict)
	fmt.Println(why)
	// Output:
	// violated
	// No order explains 1 call |--|, whether or not the others |..| took effect:
	//
	// client 1  |........|        { put alice "20" -> replaced
	//                               put bob "20" -> replaced }
	// client 2     |..|           { put alice "30" -> replaced
	//                               put bob "30" -> replaced }
	// client 3              |--|  { get alice -> "30"
	//                               get bob -> "20" }
	//
	// Not shown: 1 call on these keys.
}
