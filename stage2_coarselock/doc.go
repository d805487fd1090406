// Stage 2 is a hash table served by a goroutine for each connection, with one
// lock around the table.
//
// Runs at the same time: reading, decoding, encoding and writing, for all clients.
//
// Serialized: execution inside the table, one request at a time.
//
// Cost: a goroutine and its stack for each connection, and a lock that all of them
// need. A request waits for as long as the requests before it hold the lock.
//
// Still wrong: nothing bounds the work in progress. When requests arrive faster
// than the table can execute them, all are accepted, all wait, and all are late.
// Stage 3 refuses some of them in time.
package main
