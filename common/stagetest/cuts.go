package stagetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/faults"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// startProxied is like start, but behind a proxy. A fault that is sent to faulty befalls
// the next connection; other connections have none.
func startProxied(t *testing.T, serve node.Serve) (s *stage, faulty chan<- faults.Fault) {
	t.Helper()
	next := make(chan faults.Fault, 1)
	s = startBehind(t, serve, nil, func(addr string) string {
		proxy, err := faults.NewProxy(addr, func(int) (f faults.Fault) {
			select {
			case f = <-next:
			default:
			}
			return f
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.Close() })
		return proxy.Addr()
	})
	return s, next
}

// A request and its answer are cut at every byte. An acknowledged write was applied, a
// write that was NotRun was not, no write is applied twice, and the client can be used
// again at once.
func testCuts(t *testing.T, serve node.Serve) {
	s, faulty := startProxied(t, serve)
	request, err := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{insert("key0000", "value")}})
	if err != nil {
		t.Fatal(err)
	}
	const greeting, answer = 64, 16 // bytes; the answer has fewer
	fates := make(map[wire.Status]int)
	for n := range len(request) + greeting + answer {
		f := faults.Fault{Kind: faults.Cut, Way: faults.Requests, After: n}
		if n >= len(request) {
			f.Way, f.After = faults.Answers, n-len(request)
		}
		cl := client.New(s.cfg)
		key := fmt.Sprintf("key%04d", n)
		faulty <- f
		results, err := cl.Do(t.Context(), insert(key, "value"))
		status := results[0].Status
		fates[status]++
		if unknown := errors.Is(err, client.ErrUnknown); unknown != (status == wire.Unknown) || (err == nil) != (status == wire.Swapped) {
			t.Errorf("%+v: the insert is %v, with the error %v", f, status, err)
		}
		value, found, err := cl.Get(t.Context(), key)
		if err != nil || found && string(value) != "value" || status == wire.Swapped && !found || status == wire.NotRun && found {
			t.Errorf("%+v: the insert was %v, get returns %q, %v, %v", f, status, value, found, err)
		}
		cl.Close()

		faulty <- f
		cl = client.New(s.cfg)
		if _, again, err := cl.Get(t.Context(), key); err != nil || again != found {
			t.Errorf("%+v: a get that is cut returns %v (%v), want %v: reads are repeated", f, again, err, found)
		}
		cl.Close()
	}
	// Until the greeting is complete nothing has been sent, and it is safe to retry. After
	// that, a client cannot tell a lost request from a lost answer.
	if fates[wire.Swapped] < greeting || fates[wire.Unknown] < len(request)-1 || len(fates) != 2 {
		t.Errorf("the cut inserts were %v, want %d or more swapped, whose greeting was cut, and the others unknown", fates, greeting)
	}
}

// A write whose answer is lost is Unknown when its context ends, and not before. It may
// have been applied, and is not applied later.
func testHole(t *testing.T, serve node.Serve) {
	s, faulty := startProxied(t, serve)
	faulty <- faults.Fault{Kind: faults.Hole, Way: faults.Answers, After: 64}
	cl := client.New(s.cfg)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	results, err := cl.Do(ctx, put("k", "v"))
	if results[0].Status != wire.Unknown || !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a put whose answer is lost is %v, with the error %v, want unknown and the deadline", results[0].Status, err)
	}
	if value, found, err := cl.Get(t.Context(), "k"); !found || string(value) != "v" || err != nil {
		t.Errorf("the put was applied, but get returns %q, %v, %v", value, found, err)
	}
	if n := cl.Counts().Unknown; n != 1 {
		t.Errorf("%d unknown outcomes counted, want 1", n)
	}
}
