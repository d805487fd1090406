package main

import (
	"flag"
	"fmt"

	"lockstep/common/cluster"
)

// The core workloads of YCSB (Cooper et al., Benchmarking cloud serving systems with
// YCSB, SoCC 2010) that a hash table can answer, as mixes of its operations.
//
// An update is a put. A read-modify-write of f is one compare-and-swap: the server
// compares and writes in one atomic step, where YCSB's client reads, and then writes over
// whatever has been written since. What it expects is the value that this process saw
// last, so that there are as many requests as f has operations; where another process
// has written since, it is counted as a mismatch.
var ycsb = map[string]cluster.Mix{
	"a": {Get: 50, Put: 50},
	"b": {Get: 95, Put: 5},
	"c": {Get: 100},
	"f": {Get: 50, CAS: 50},
}

// notYCSB are those that it cannot answer, and why.
var notYCSB = map[string]string{
	"d": "d inserts new records and reads the latest, and here the keys are given: all are stored before the load",
	"e": "e scans ranges of keys, and a hash table keeps no order",
}

// ycsbDist is how YCSB chooses records in those workloads.
const ycsbDist = "zipf:0.99"

func (o *options) ycsbFlag(fs *flag.FlagSet) {
	fs.StringVar(&o.ycsb, "workload", "", "the mix of YCSB's workload of this `letter`: a (get=50,put=50), b (get=95,put=5), c (get=100) or\n"+
		"f (get=50,cas=50), over keys as in "+ycsbDist+" unless -dist says otherwise; not with -mix")
}

// useYCSB puts the workload of YCSB in the place of the file's mix and distribution, if
// one is asked for.
func (o *options) useYCSB() error {
	if o.ycsb == "" {
		return nil
	}
	mix, ok := ycsb[o.ycsb]
	switch why := notYCSB[o.ycsb]; {
	case why != "":
		return fmt.Errorf("-workload: %s; a, b, c and f are known", why)
	case !ok:
		return fmt.Errorf("-workload: %q is not a, b, c or f", o.ycsb)
	case o.given["mix"]:
		return fmt.Errorf("-workload %s is a mix, %v: give it or -mix, not both", o.ycsb, mix)
	}
	o.cfg.Workload.Mix = mix
	if !o.given["dist"] {
		o.cfg.Workload.Dist = ycsbDist
	}
	return nil
}
