// Stage 1 is a hash table served by a single goroutine: it accepts a client,
// answers it until it leaves, and accepts the next.
//
// Runs at the same time: nothing.
//
// Serialized: everything, so nothing needs a lock and nothing can race.
//
// Cost: when one client waits, all clients wait. A client that thinks between two
// requests, or sends half of one, stops the server for all others until it goes
// on, leaves, or runs into a deadline.
//
// Still wrong: one client at a time. Stage 2 serves them all.
package main
