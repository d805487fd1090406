package workload

import (
	"lockstep/common/cluster"
)

// A ycsbWorkload is a mix of operations over keys that are chosen in a way.
type ycsbWorkload struct {
	Mix  cluster.Mix
	Dist string
}

// ycsb has the core workloads of YCSB (Cooper et al., Benchmarking cloud serving systems
// with YCSB, SoCC 2010) that a hash table can answer; d reads what was inserted last, and
// e scans ranges of keys. An update is a put; a read-modify-write is a compare-and-swap,
// which the server executes as one atomic step where YCSB's client reads and then writes.
var YCSB = map[string]ycsbWorkload{
	"a": {cluster.Mix{Get: 50, Put: 50}, "zipf:0.99"},
	"b": {cluster.Mix{Get: 95, Put: 5}, "zipf:0.99"},
	"c": {cluster.Mix{Get: 100}, "zipf:0.99"},
	"f": {cluster.Mix{Get: 50, CAS: 50}, "zipf:0.99"},
}
