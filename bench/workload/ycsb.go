package workload

import "lockstep/common/cluster"

// YCSB has the core workloads of YCSB (Cooper et al., Benchmarking cloud serving systems with
// YCSB, SoCC 2010) that a hash table can serve: d reads what was inserted last, and e scans
// ranges of keys. An update is a put. A read-modify-write is a compare-and-swap, which the
// server executes as one atomic step; YCSB's client reads and then writes.
var YCSB = map[string]cluster.Mix{
	"a": {Get: 50, Put: 50},
	"b": {Get: 95, Put: 5},
	"c": {Get: 100},
	"f": {Get: 50, CAS: 50},
}

// YCSBDist is the distribution of keys in these workloads.
const YCSBDist = "zipf:0.99"
