package table

import (
	"fmt"
	"strings"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// A request of one operation on a key that is there. A Delete is followed by the Put that
// creates the key again.
func BenchmarkApply(b *testing.B) {
	for _, keys := range []int{1_000, 1_000_000} {
		var all strings.Builder // keys are parts of one string, as in a request
		for i := range keys {
			fmt.Fprintf(&all, "k%09d", i)
		}
		key := func(i int) string { return all.String()[10*i : 10*i+10] }
		table, value := New(cluster.Work{}, nil), string(make([]byte, 30))
		for i := range keys {
			table.Apply([]wire.Op{put(key(i), value)})
		}
		for _, kind := range []wire.OpKind{wire.Get, wire.Put, wire.Delete} {
			b.Run(fmt.Sprintf("op=%v/keys=%d", kind, keys), func(b *testing.B) {
				b.ReportAllocs()
				ops := []wire.Op{put("", value)}
				for at := 0; b.Loop(); at = (at + 7919) % keys {
					ops[0].Kind, ops[0].Key = kind, key(at)
					if table.Apply(ops); kind == wire.Delete {
						ops[0].Kind = wire.Put
						table.Apply(ops)
					}
				}
			})
		}
	}
}
