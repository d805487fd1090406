// Stage 4 is stage 3 with the table split into buckets, each behind a lock of
// its own (lock striping).
//
// Runs at the same time: what stage 3 does, and requests inside the table too,
// as long as they touch different buckets.
//
// Serialized: requests that share a bucket. One that touches several takes all
// their locks before it begins, in ascending order, so that no two requests can
// each wait for the other, and holds them to the end: it is one atomic step.
//
// It costs: a hash, a sort and more locks for each request. It gains where time
// is spent under a lock: with nothing to do there, one lock was never the
// bottleneck, and many cannot help.
//
// Still wrong: a bucket whose keys everybody wants is one lock again. There is
// no stage 5 here: it is yours to write.
package main
