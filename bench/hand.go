package main

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"lockstep/common/client"
	"lockstep/common/wire"
)

// handTimeout is how long a request by hand is tried.
const handTimeout = 5 * time.Second

func handFlags(*options, *flag.FlagSet) {}

// hand does one request: put, get or delete.
func hand(ctx context.Context, o *options) error {
	ctx, cancel := context.WithTimeout(ctx, handTimeout)
	defer cancel()
	key := o.args[0]
	op := wire.Op{Kind: wire.Get, Key: key}
	switch o.command {
	case "put":
		op.Kind, op.Value = wire.Put, []byte(o.args[1])
	case "delete":
		op.Kind = wire.Delete
	}
	if err := (&wire.Request{Ops: []wire.Op{op}}).Validate(); err != nil {
		return usageErrorf("%w", err)
	}
	cl := client.New(o.cfg)
	defer cl.Close()
	start := time.Now()
	results, err := cl.Do(ctx, op)
	took := time.Since(start)
	if err != nil {
		return fmt.Errorf("%s %s: %w\n(is the server running? go run ./stage4_bucketlock starts one)", o.command, show(key), err)
	}
	if results[0].Status == wire.Found {
		fmt.Fprintln(o.stdout, show(string(results[0].Value)))
	}
	owner := o.cfg.Owner(key)
	_, err = fmt.Fprintf(o.stdout, "%s: %s, node %d (%s), %s with the connection\n",
		show(key), results[0].Status, owner, o.cfg.Nodes[owner].Addr, span(took))
	return err
}

// show makes bytes fit for a terminal: quoted, unless all of them can be printed.
func show(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
