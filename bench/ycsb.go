package main

import (
	"flag"
	"fmt"

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
var ycsb = map[string]ycsbWorkload{
	"a": {cluster.Mix{Get: 50, Put: 50}, "zipf:0.99"},
	"b": {cluster.Mix{Get: 95, Put: 5}, "zipf:0.99"},
	"c": {cluster.Mix{Get: 100}, "zipf:0.99"},
	"f": {cluster.Mix{Get: 50, CAS: 50}, "zipf:0.99"},
}

func (o *options) ycsbFlag(fs *flag.FlagSet) {
	fs.StringVar(&o.letter, "workload", "", "the mix of YCSB's workload of this `letter`: a (get=50,put=50), b (get=95,put=5), c (get=100)\n"+
		"or f (get=50,cas=50), over keys as in zipf:0.99 unless -dist says otherwise; not with -mix")
}

// useYCSB replaces the mix and the distribution by those of -workload, if it is given.
func (o *options) useYCSB() error {
	if o.letter == "" {
		return nil
	}
	w, ok := ycsb[o.letter]
	switch {
	case !ok:
		return fmt.Errorf("-workload: %q is not a, b, c or f", o.letter)
	case o.given["mix"]:
		return fmt.Errorf("-workload %s is a mix, %v: give it or -mix, not both", o.letter, w.Mix)
	}
	o.cfg.Workload.Mix = w.Mix
	if !o.given["dist"] {
		o.cfg.Workload.Dist = w.Dist
	}
	return nil
}
