package node

import (
	"fmt"
	"net"
	"testing"
	"time"

	"lockstep/common/wire"
)

// An endless connection reads the same request again and again, and loses what is written.
type endless struct {
	net.Conn
	request []byte
	at      int // of the next byte
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.request[e.at:])
	e.at = (e.at + n) % len(e.request)
	return n, nil
}

func (*endless) Write(p []byte) (int, error)      { return len(p), nil }
func (*endless) SetReadDeadline(time.Time) error  { return nil }
func (*endless) SetWriteDeadline(time.Time) error { return nil }
func (*endless) RemoteAddr() net.Addr             { return nil }

// What a request costs a server, without locks and the network: 6 of 10 operations are
// gets, the others puts of 30 bytes.
//
//	go test ./common/node -bench Answer
func BenchmarkAnswer(b *testing.B) {
	for _, n := range []int{1, 64} {
		b.Run(fmt.Sprintf("ops=%d", n), func(b *testing.B) {
			var ops []wire.Op
			for i := range n {
				op := wire.Op{Kind: wire.Get, Key: fmt.Sprintf("key-%06d", i)}
				if i%10 > 5 {
					op.Kind, op.Value = wire.Put, make([]byte, 30)
				}
				ops = append(ops, op)
			}
			nd, _ := newNode(nil)
			frame, err := wire.AppendRequest(nil, &wire.Request{Ops: ops})
			if err != nil {
				b.Fatal(err)
			}
			c := nd.greet(b.Context(), &endless{request: frame})
			t := nd.NewTable()
			b.ReportAllocs()
			for b.Loop() {
				c.Ready()
				nd.Answer(c, t.Apply)
				c.Flush()
			}
		})
	}
}
