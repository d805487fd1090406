package testbed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"lockstep/bench/load"
	"lockstep/common/control"
)

// A stuckError means that a server is stuck, and would not drain.
type stuckError struct{ error }

// Guard calls f with a context that ends when a server says that it is stuck. What servers say
// of their faults meanwhile is an error, and comes before an error of f.
func Guard(ctx context.Context, to load.Target, f func(context.Context) error) error {
	before, err := to.Stats(ctx)
	if err != nil {
		return f(ctx)
	}
	guarded, end := context.WithCancelCause(ctx)
	defer end(nil)
	faults := func() (all error) {
		stuck := false
		after, _ := to.Stats(ctx) // nothing of servers that have ended
		for i := range after {
			node := after[i].Sub(before[i])
			if node.Faults != nil {
				all = errors.Join(all, fmt.Errorf("node %d: %s", i, node.Faulted()))
			}
			stuck = stuck || node.Faults["stuck"] != ""
		}
		if stuck {
			all = stuckError{all}
			end(all)
		}
		return all
	}
	var watching sync.WaitGroup
	watching.Go(func() { // ends with guarded
		for guarded.Err() == nil {
			faults()
			control.Pause(guarded, time.Second)
		}
	})
	err = f(guarded)
	end(nil)
	watching.Wait()
	all := faults()
	switch {
	case all == nil || err != nil && strings.Contains(err.Error(), all.Error()):
		return err
	case err == nil:
		return all
	}
	return fmt.Errorf("%w\n%w", all, err)
}
