// Faulty is the kind of stage that a student writes: one lock around the table, and the
// fault that LOCKSTEP_FAULT names, if any. It holds a connection to LOCKSTEP_TELL from
// its start to its end.
package main

import (
	"context"
	"net"
	"os"
	"slices"
	"sync"

	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

var fault = os.Getenv("LOCKSTEP_FAULT")

func main() {
	if addr := os.Getenv("LOCKSTEP_TELL"); addr != "" {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		defer nc.Close()
	}
	node.Main(serve)
}

func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	s := &store{table: n.NewTable()}
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if err != nil {
			return err
		}
		conns.Go(func() {
			defer c.Close()
			for c.Ready() {
				n.Answer(c, s.apply)
				c.Flush()
			}
		})
	}
}

type store struct {
	mu       sync.Mutex // guards what follows
	table    *table.Table
	requests int
}

func (s *store) apply(ops []wire.Op) []wire.Result {
	s.mu.Lock()
	if fault == "stuck" && s.requests == 30 {
		return s.table.Apply(ops) // and keeps the lock
	}
	defer s.mu.Unlock()
	s.requests++
	results := s.table.Apply(ops)
	switch {
	case fault == "wrong" && results[0].Status == wire.Found: // answers a value that was never stored
		results[0].Value = append(slices.Clone(results[0].Value[:len(results[0].Value)-1]), '!')
	case fault == "panic" && s.requests%10 == 0:
		results[s.requests-942].Value = nil
	case fault == "invalid" && s.requests%10 == 0:
		s.table.Apply(make([]wire.Op, 1))
	case fault == "mortal" && s.requests == 30:
		go panic("request 30")
	}
	return results
}
