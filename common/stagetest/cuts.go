package stagetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"lockstep/common/client"
	"lockstep/common/faults"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// startProxied is start behind a proxy, and set says what goes wrong with the next
// connection; those after it are sound.
func startProxied(t *testing.T, serve node.Serve) (s *stage, set func(faults.Fault)) {
	t.Helper()
	var mu sync.Mutex // guards next
	var next faults.Fault
	s = startBehind(t, serve, nil, func(addr string) string {
		proxy, err := faults.NewProxy(addr, func(int) (f faults.Fault) {
			mu.Lock()
			defer mu.Unlock()
			f, next = next, f
			return f
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { proxy.Close() })
		return proxy.Addr()
	})
	return s, func(f faults.Fault) {
		mu.Lock()
		defer mu.Unlock()
		next = f
	}
}

// A request and its answer are cut at every byte. A write that was acknowledged is
// there, one that the client says was not run is not, none is applied twice, and the
// client can be used again at once.
func testCuts(t *testing.T, serve node.Serve) {
	s, set := startProxied(t, serve)
	request, err := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{insert("key0000", "value")}})
	if err != nil {
		t.Fatal(err)
	}
	const greeting, answer = 64, 16 // bytes: the answer has fewer
	fates := make(map[wire.Status]int)
	for n, f := range cuts(len(request), greeting+answer) {
		cl := client.New(s.cfg)
		key := fmt.Sprintf("key%04d", n)
		set(f)
		results, err := cl.Do(t.Context(), insert(key, "value"))
		status := results[0].Status
		fates[status]++
		if unknown := errors.Is(err, client.ErrUnknown); unknown != (status == wire.Unknown) || (err == nil) != (status == wire.Swapped) {
			t.Errorf("%+v: the insert is %v, with the error %v", f, status, err)
		}
		value, found, err := cl.Get(t.Context(), key)
		if err != nil || found && string(value) != "value" || status == wire.Swapped && !found || status == wire.NotRun && found {
			t.Errorf("%+v: the insert was %v, and then get says %q, %v, %v", f, status, value, found, err)
		}
		cl.Close()

		set(f)
		cl = client.New(s.cfg)
		if _, again, err := cl.Get(t.Context(), key); err != nil || again != found {
			t.Errorf("%+v: a get that is cut says %v (%v), want %v: reads are repeated", f, again, err, found)
		}
		cl.Close()
	}
	// Until the greeting is whole nothing has been sent, and it is safe to try again.
	// From there on a client cannot tell a request that was lost from an answer.
	if fates[wire.Swapped] < greeting || fates[wire.Unknown] < len(request)-1 || len(fates) != 2 {
		t.Errorf("the cut inserts were %v, want those swapped whose greeting was cut, and the rest unknown", fates)
	}
}

// cuts is every cut of so many bytes of requests and of answers.
func cuts(requests, answers int) (all []faults.Fault) {
	for after := range requests {
		all = append(all, faults.Fault{Kind: faults.Cut, Way: faults.Requests, After: after})
	}
	for after := range answers {
		all = append(all, faults.Fault{Kind: faults.Cut, Way: faults.Answers, After: after})
	}
	return all
}

// An answer that disappears leaves a write unknown when its context ends, and not
// before; the write itself may have been applied, and is not applied later.
func testHole(t *testing.T, serve node.Serve) {
	s, set := startProxied(t, serve)
	set(faults.Fault{Kind: faults.Hole, Way: faults.Answers, After: 64})
	cl := client.New(s.cfg)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	results, err := cl.Do(ctx, put("k", "v"))
	if results[0].Status != wire.Unknown || !errors.Is(err, client.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a put whose answer disappears is %v, with the error %v, want unknown and the deadline", results[0].Status, err)
	}
	if value, found, err := cl.Get(t.Context(), "k"); !found || string(value) != "v" || err != nil {
		t.Errorf("the put was applied, and get says %q, %v, %v", value, found, err)
	}
	if n := cl.Counts().Unknown; n != 1 {
		t.Errorf("%d unknown outcomes counted, want 1", n)
	}
}
