package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/text"
	"lockstep/common/wire"
)

func handFlags(*options, *flag.FlagSet) {}

// hand sends one request: put, get or delete. Of get, the value alone is on standard output.
func hand(ctx context.Context, o *options) error {
	key := o.args[0]
	op := wire.Op{Kind: map[string]wire.OpKind{"put": wire.Put, "get": wire.Get, "delete": wire.Delete}[o.command], Key: key}
	if op.Kind == wire.Put {
		var err error
		if op.Value, err = o.value(ctx); err != nil {
			return err
		}
	}
	if err := (&wire.Request{Ops: []wire.Op{op}}).Validate(); err != nil {
		return usageErrorf("%w", err)
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cl := client.New(o.cfg)
	defer cl.Close()
	start := time.Now()
	results, err := cl.Do(ctx, op)
	took := time.Since(start)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in %v: %w", patience, err)
	}
	if err != nil {
		return o.advise(err)
	}
	owner := o.cfg.Owner(key)
	story := fmt.Sprintf("%s: %s, node %d (%s), %s with the connection",
		text.Quote(key, 4*wire.MaxKey), results[0].Status, owner, o.cfg.Nodes[owner].Addr, text.Duration(took))
	switch {
	case op.Kind != wire.Get:
		_, err = fmt.Fprintln(o.stdout, story)
		return err
	case results[0].Status != wire.Found:
		return errors.New(story)
	}
	value := results[0].Value
	if isScreen(o.stdout) { // whose control a value must not take
		value = []byte(text.Quote(string(value), 4*wire.MaxValue) + "\n")
	}
	if _, err = o.stdout.Write(value); err == nil {
		fmt.Fprintln(o.stderr, story)
	}
	return err
}

// value returns the value to be put: an argument or, without one, what comes through a pipe.
func (o *options) value(ctx context.Context) ([]byte, error) {
	if len(o.args) > 1 {
		return []byte(o.args[1]), nil
	}
	if isScreen(os.Stdin) {
		return nil, usageErrorf("put needs a VALUE after the KEY, or one from a file or a pipe: bench put KEY < FILE")
	}
	var value []byte
	err := interruptible(ctx, func() (err error) {
		value, err = io.ReadAll(io.LimitReader(os.Stdin, wire.MaxValue+1))
		return err
	})
	switch {
	case err != nil:
		return nil, err // and not value, which may still be read
	case len(value) > wire.MaxValue:
		return nil, usageErrorf("the value is longer than %d bytes", wire.MaxValue)
	}
	return value, nil
}

// isScreen reports whether a stream is a terminal, or at least neither a file nor a pipe.
func isScreen(stream any) bool {
	f, _ := stream.(*os.File)
	info, err := f.Stat() // an error, if f is nil
	return err == nil && info.Mode()&os.ModeCharDevice != 0
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
