package main

import (
	"strings"
	"testing"

	"lockstep/common/cluster"
)

func TestYCSB(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	for _, test := range []struct {
		args string
		mix  cluster.Mix
		dist string
	}{
		{"-workload a", cluster.Mix{Get: 50, Put: 50}, "zipf:0.99"},
		{"-workload b", cluster.Mix{Get: 95, Put: 5}, "zipf:0.99"},
		{"-workload c", cluster.Mix{Get: 100}, "zipf:0.99"},
		{"-workload f", cluster.Mix{Get: 50, CAS: 50}, "zipf:0.99"},
		{"-workload a -dist uniform", cluster.Mix{Get: 50, Put: 50}, "uniform"},
		{"-dist hotspot:10,90 -workload c", cluster.Mix{Get: 100}, "hotspot:10,90"},
		{"-mix get=100", cluster.Mix{Get: 100}, "uniform"},
	} {
		var o options
		err := o.parse(command{name: "compare", flags: compareFlags}, strings.Fields(test.args))
		if w := o.cfg.Workload; err != nil || w.Mix != test.mix || w.Dist != test.dist {
			t.Errorf("%s: %v, %s, error %v, want %v, %s", test.args, w.Mix, w.Dist, err, test.mix, test.dist)
		}
	}
}
