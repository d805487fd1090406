package main

import "sync"

// A pool runs jobs on a fixed number of workers. Each worker runs one job at a time;
// further jobs wait in a queue of bounded length.
type pool struct {
	jobs    chan func() // its buffer is the queue
	workers sync.WaitGroup
}

// newPool starts the workers. They end at close.
func newPool(workers, queue int) *pool {
	p := &pool{jobs: make(chan func(), queue)}
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
// if all workers are busy and the queue is full.
func (p *pool) run(job func()) bool {
	done := make(chan struct{})
	select {
	case p.jobs <- func() { job(); close(done) }:
		<-done
		return true
	default:
		return false
	}
}

// close ends the workers once all jobs are done. After it, run must not be called.
func (p *pool) close() {
	close(p.jobs)
	p.workers.Wait()
}
