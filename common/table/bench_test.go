package table

import (
	"fmt"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// A request of one operation, over as many keys.
func BenchmarkApply(b *testing.B) {
	for _, keys := range []int{1_000, 1_000_000} {
		table, ops := New(cluster.Work{}, nil), make([]wire.Op, keys)
		for i := range ops {
			ops[i] = put(fmt.Sprintf("key-%06d", i), "a value of thirty bytes, or so.")
		}
		table.Apply(ops)
		for _, kind := range []wire.OpKind{wire.Get, wire.Put, wire.Delete} {
			b.Run(fmt.Sprintf("op=%v/keys=%d", kind, keys), func(b *testing.B) {
				b.ReportAllocs()
				for at := 0; b.Loop(); at = (at + 7919) % keys {
					op := ops[at : at+1]
					op[0].Kind = kind
					table.Apply(op)
					if kind == wire.Delete {
						op[0].Kind = wire.Put // and create it again
						table.Apply(op)
					}
				}
			})
		}
	}
}
