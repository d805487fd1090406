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

// job returns a function, run, that has a worker call do and returns true when that is
// done. It returns false at once if all workers are busy and the queue is full. A job
// gives its place back before run returns, so that a worker that has just finished counts
// as free: it may not wait for the next job yet. One goroutine at a time may call run.
func (p *pool) job(do func()) (run func() bool) {
	done := make(chan struct{}, 1)
	job := func() { do(); <-p.places; done <- struct{}{} }
	return func() bool {
		select {
		case p.places <- struct{}{}:
		default:
			return false
		}
		p.jobs <- job // does not block: job has a place
		<-done
		return true
	}
}

// close ends the workers once all jobs are done. After it, no job may be run.
func (p *pool) close() {
	close(p.jobs)
	p.workers.Wait()
}
