package main

import (
	"strings"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
)

// parseCommand reads the flags of a command.
func parseCommand(t *testing.T, name string, args ...string) (*options, error) {
	t.Helper()
	t.Setenv("LOCKSTEP_SECRET", "")
	for _, c := range commands {
		if c.name == name {
			o := &options{stdout: new(benchtest.Buffer)}
			return o, o.parse(c, args)
		}
	}
	t.Fatalf("there is no command %q", name)
	return nil, nil
}

func TestYCSB(t *testing.T) {
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
		for _, command := range []string{"run", "compare"} {
			o, err := parseCommand(t, command, strings.Fields(test.args)...)
			if w := o.cfg.Workload; err != nil || w.Mix != test.mix || w.Dist != test.dist {
				t.Errorf("%s %s: %v, %s, error %v, want %v, %s", command, test.args, w.Mix, w.Dist, err, test.mix, test.dist)
			}
		}
	}
	for args, want := range map[string]string{
		"-workload e":                     `-workload: "e" is not a, b, c or f`,
		"-workload g":                     `-workload: "g" is not a, b, c or f`,
		"-workload a -mix get=50,put=50":  "-workload a is a mix, get=50,put=50: give it or -mix, but not both",
		"-mix get=50,put=50 -workload=aa": `"aa" is not a, b, c or f`,
	} {
		code, _, stderr := bench(t, append([]string{"compare"}, strings.Fields(args)...)...)
		if code != exitUsage || !strings.Contains(stderr, want) {
			t.Errorf("compare %s: exit code %d, stderr %q, want 2 and %q", args, code, stderr, want)
		}
	}
}
