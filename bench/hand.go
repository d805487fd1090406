package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/text"
	"lockstep/common/wire"
)

func handFlags(*options, *flag.FlagSet) {}

// hand sends one request: put, get or delete.
func hand(ctx context.Context, o *options) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	key := o.args[0]
	op := wire.Op{Kind: map[string]wire.OpKind{"put": wire.Put, "get": wire.Get, "delete": wire.Delete}[o.command], Key: key}
	if op.Kind == wire.Put {
		op.Value = []byte(o.args[1])
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
		return o.advise(fmt.Errorf("%s %s: %w", o.command, text.Quote(key, 4*wire.MaxKey), err))
	}
	value := ""
	if results[0].Status == wire.Found {
		value = text.Quote(string(results[0].Value), 4*wire.MaxValue) + "\n"
	}
	owner := o.cfg.Owner(key)
	_, err = fmt.Fprintf(o.stdout, "%s%s: %s, node %d (%s), %s with the connection\n",
		value, text.Quote(key, 4*wire.MaxKey), results[0].Status, owner, o.cfg.Nodes[owner].Addr, text.Duration(took))
	return err
}

// advise adds to an error what to do, if the servers do not listen.
func (o *options) advise(err error) error {
	var dial *net.OpError
	if !errors.As(err, &dial) || dial.Op != "dial" {
		return err
	}
	start := "go run ./stage4_bucketlock"
	if o.config != cluster.DefaultPath {
		start += " -config " + o.config
	}
	if len(o.cfg.Nodes) > 1 {
		start += " -node NUMBER"
	}
	return fmt.Errorf("%w\n(is the server running? %s starts it)", err, start)
}
