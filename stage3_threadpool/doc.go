// Stage 3 is a hash table whose requests are executed by a fixed pool of workers
// behind a bounded queue, with the same single lock around the table as stage 2.
//
// Runs at the same time: reading and writing, for every client; decoding, execution
// and encoding, for at most as many connections as there are workers.
//
// Serialized: execution inside the table, as before.
//
// Cost: two hand-overs a turn, from the connection's goroutine to a worker and
// back. Each connection still has its own goroutine, which waits for slow bytes so
// that no worker has to. The pool is not there for speed: it bounds the work in
// progress, and when the queue is full it answers Busy at once instead of making
// every client wait longer.
//
// Still wrong: all workers queue at one lock. Stage 4 gives them many.
package main
