// Stage 3 is a hash table whose requests are executed by a fixed pool of workers
// behind a bounded queue, with the same one lock around the table as stage 2.
//
// Runs at the same time: reading and writing, for every client; decoding, the
// table and encoding, for at most as many requests as there are workers.
//
// Serialized: what happens inside the table, as before.
//
// It costs: two hand-overs a turn, from the connection's goroutine to a worker
// and back. It does not save goroutines: each connection still has its own,
// which waits for bytes that are slow to come, so that no worker has to. The
// pool is not for speed. It bounds what is in progress, and when the queue is
// full it says Busy at once instead of being late for everybody.
//
// Still wrong: all workers queue at one lock. Stage 4 gives them many.
package main
