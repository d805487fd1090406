package main

import "sync"

// A pool runs jobs on a fixed number of workers. Each worker runs one job at a time;
// further jobs wait in a queue of bounded length.
type pool struct {
	places  chan struct{} // holds a value for each job that is not done: workers + queue at most
	jobs    chan func()   // waiting for a worker; has room for all places
	workers sync.WaitGroup
}

// newPool starts the workers. They end at close.
func newPool(workers, queue int) *pool {
	places := workers + queue
	p := &pool{places: make(chan struct{}, places), jobs: make(chan func(), places)}
	for range workers {
		p.workers.Go(func() {
			for job := range p.jobs {
				job()
			}
		})
	}
	return p
}

// run has a worker do job and returns true when it is done. It returns false at once
// if all workers are busy and the queue is full. A job gives its place back before run
// returns, so that a worker that has just finished counts as free: it may not wait for
// the next job yet.
func (p *pool) run(job func()) bool {
	select {
	case p.places <- struct{}{}:
	default:
		return false
	}
	done := make(chan struct{})
	p.jobs <- func() { job(); <-p.places; close(done) } // does not block: job has a place
	<-done
	return true
}

// close ends the workers once all jobs are done. After it, run must not be called.
func (p *pool) close() {
	close(p.jobs)
	p.workers.Wait()
}
