// Stage 2 is a hash table served by a goroutine for each connection, with one
// lock around the table.
//
// Runs at the same time: reading, decoding, encoding and writing, for as many
// clients as there are.
//
// Serialized: what happens inside the table, one request at a time.
//
// It costs: a goroutine and its stack for each connection, and a lock that all
// of them want. How long a request waits for it is the sum of what the others do
// under it.
//
// Still wrong: nothing bounds the work in progress. When requests arrive faster
// than the table can take them, all are accepted, all wait, and all are late.
// Stage 3 says no in time.
package main
