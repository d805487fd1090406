package main

// A pool bounds the jobs in progress. Each runs on the goroutine that asks for it; further
// ones wait, and their number is bounded too.
type pool struct {
	places  chan struct{} // holds a value for each job that is not done: workers + queue at most
	running chan struct{} // holds a value for each job that runs: workers at most
}

func newPool(workers, queue int) *pool {
	return &pool{places: make(chan struct{}, workers+queue), running: make(chan struct{}, workers)}
}

// job returns a function, run, that calls do and returns true when that is done. It returns
// false at once if as many jobs run and wait as may.
func (p *pool) job(do func()) (run func() bool) {
	return func() bool {
		select {
		case p.places <- struct{}{}:
		default:
			return false
		}
		defer func() { <-p.places }()
		p.running <- struct{}{}
		defer func() { <-p.running }()
		do()
		return true
	}
}

// close has nothing to end: the caller of a job waits for it.
func (p *pool) close() {}
