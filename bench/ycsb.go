package main

import (
	"flag"
	"fmt"

	"lockstep/bench/workload"
)

func (o *options) ycsbFlag(fs *flag.FlagSet) {
	fs.StringVar(&o.letter, "workload", "", "the mix of YCSB's workload of this `letter`: a (get=50,put=50), b (get=95,put=5), c (get=100)\n"+
		"or f (get=50,cas=50), over keys as in zipf:0.99 unless -dist says otherwise; not with -mix")
}

// useYCSB replaces the mix and the distribution by those of -workload, if it is given.
func (o *options) useYCSB() error {
	if o.letter == "" {
		return nil
	}
	w, ok := workload.YCSB[o.letter]
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
