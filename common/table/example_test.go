package table_test

import (
	"fmt"

	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A batch moves money: both accounts change, or neither does.
func ExampleTable_Apply() {
	accounts := table.New(cluster.Work{}, nil)
	accounts.Apply([]wire.Op{
		{Kind: wire.Put, Key: "alice", Value: []byte("100")},
		{Kind: wire.Put, Key: "bob", Value: []byte("50")},
	})
	move := []wire.Op{
		{Kind: wire.CompareAndSwap, Key: "alice", Old: []byte("100"), Value: []byte("70")},
		{Kind: wire.CompareAndSwap, Key: "bob", Old: []byte("50"), Value: []byte("80")},
	}
	for range 2 { // the second time, alice does not have 100 any more
		for i, result := range accounts.Apply(move) {
			fmt.Println(move[i].Key, result.Status)
		}
	}
	bob := accounts.Apply([]wire.Op{{Kind: wire.Get, Key: "bob"}})
	fmt.Printf("bob has %s\n", bob[0].Value)
	// Output:
	// alice swapped
	// bob swapped
	// alice mismatch
	// bob mismatch
	// bob has 80
}
