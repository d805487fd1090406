// Mistaken is the stage that a learner might write: one lock, and the mistake that
// LOCKSTEP_MISTAKE names, or none. It dials LOCKSTEP_TELL and says there what it does,
// and the end of that connection is its own.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"

	"lockstep/common/node"
	"lockstep/common/table"
	"lockstep/common/wire"
)

var mistake = os.Getenv("LOCKSTEP_MISTAKE")

func main() {
	tell("started")
	switch last := os.Args[len(os.Args)-1]; {
	case mistake == "late", mistake == "absent" && last == "1": // never serves
		fmt.Fprintln(os.Stderr, "I will be with you shortly")
		io.Copy(io.Discard, os.Stdin)
	case mistake == "dead": // at the start
		fmt.Fprintln(os.Stderr, "not today")
		os.Exit(7)
	case mistake == "stubborn": // goes on when it is told to stop
		args := slices.DeleteFunc(slices.Clone(os.Args), func(arg string) bool { return arg == "-child" })
		node.Run(args, os.Stdin, os.Stdout, os.Stderr, serve)
	default:
		node.Main(serve)
	}
}

func serve(ctx context.Context, ln net.Listener, n *node.Node) error {
	s := &store{table: n.NewTable()}
	var conns sync.WaitGroup
	defer conns.Wait()
	for {
		c, err := n.Accept(ctx, ln)
		if c == nil {
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
	defer s.mu.Unlock()
	if s.requests++; s.requests == 100 { // the keys have been stored
		tell("busy")
	}
	results := s.table.Apply(ops)
	switch {
	case mistake == "wrong" && results[0].Status == wire.Found: // answers what was never stored
		results[0].Value = append(slices.Clone(results[0].Value[:len(results[0].Value)-1]), '!')
	case mistake == "rude": // answers a put as if it were a get
		results[0].Status = wire.Missing
	case mistake == "forgetful" && s.requests > 20 && ops[0].Kind == wire.Put:
		s.table.Apply([]wire.Op{{Kind: wire.Delete, Key: ops[0].Key}})
	case mistake == "mortal" && s.requests == 30:
		go panic("I cannot go on")
	}
	return results
}

var told net.Conn

func tell(what string) {
	if addr := os.Getenv("LOCKSTEP_TELL"); addr != "" && told == nil {
		var err error
		if told, err = net.Dial("tcp", addr); err != nil {
			panic(err)
		}
	}
	if told != nil {
		fmt.Fprintln(told, what)
	}
}
