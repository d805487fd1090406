package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/text"
	"lockstep/common/wire"
)

func handFlags(*options, *flag.FlagSet) {}

// hand sends one request: put, get or delete. Of a get, only the value is on standard output.
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
	if isScreen(o.stdout) { // which a value must not control
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

// advise adds to an error what to do if the servers do not listen.
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

// status prints a line for each node: what it is, since when, and what it has and does. A node
// that does not answer has its line too, and the error says why.
func status(ctx context.Context, o *options) error {
	rows, errs := make([][]string, len(o.cfg.Nodes)), make([]error, len(o.cfg.Nodes))
	var asking sync.WaitGroup
	for i := range rows {
		asking.Go(func() { rows[i], errs[i] = o.nodeStatus(ctx, i) }) // 7 s at most
	}
	asking.Wait()
	rows = slices.Insert(rows, 0, []string{"node", "stage", "up", "keys", "clients", "requests/s", "refused"})
	_, err := fmt.Fprint(o.stdout, text.Table(rows), "Requests/s are those of the last second.\n")
	return o.advise(errors.Join(append(errs, err)...))
}

// nodeStatus asks a node for its statistics twice, a second apart, and returns its row.
func (o *options) nodeStatus(ctx context.Context, i int) (row []string, err error) {
	row = []string{fmt.Sprintf("%d %s", i, o.cfg.Nodes[i].Addr)}
	before, _ := client.Stats(ctx, o.cfg, i)
	control.Pause(ctx, time.Second)
	s, err := client.Stats(ctx, o.cfg, i)
	if err != nil {
		return append(row, "does not answer"), err
	}
	last := s.Sub(before)
	rate := text.ShortCount(int64(float64(last.Requests) / max(last.Uptime.Seconds(), 1e-9)))
	switch {
	case !s.Serving:
		rate = "not serving" // it waits for other nodes, or stops
	case s.Incarnation != before.Incarnation:
		rate += " since its start"
	}
	return append(row, text.Quote(s.Stage, 30), text.Duration(s.Uptime), text.ShortCount(s.Keys), text.ShortCount(s.Open), rate, text.ShortCount(s.Refusals)), nil
}
