package main

import (
	"sync"
	"time"
)

// maxWait is how long a job may wait for a worker.
const maxWait = 20 * time.Millisecond

// A pool runs jobs on a fixed number of workers. Each worker runs one job at a time;
// further jobs wait in a queue of bounded length, and for a bounded time.
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
// done. It returns false at once if all workers are busy and the queue is full, and when its
// turn comes if that is later than maxWait: by then the caller has better things to do than
// to wait for an answer, and the jobs behind it are still in time. One goroutine at a time may
// call run.
func (p *pool) job(do func()) (run func() bool) {
	var asked time.Time
	done := make(chan bool, 1)
	job := func() {
		inTime := time.Since(asked) <= maxWait
		if inTime {
			do()
		}
		<-p.places
		done <- inTime
	}
	return func() bool {
		select {
		case p.places <- struct{}{}:
		default:
			return false
		}
		asked = time.Now()
		p.jobs <- job // does not block: job has a place
		return <-done
	}
}

// close ends the workers once all jobs are done. After it, no job may be run.
func (p *pool) close() {
	close(p.jobs)
	p.workers.Wait()
}
