package workload

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
)

func newFlags(c *cluster.Config) *flag.FlagSet {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	Flags(c, fs)
	return fs
}

// Every property is accepted at its bounds and refused past them, from a file and by flag.
func TestBounds(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	bounds := map[string][2]string{ // allowed | refused
		"connections": {"1|1e1|100000", "0|100001|-1|1.5|many"},
		"ops":         {"1|1000000000", "0|1000000001"},
		"keys":        {"1|100000000", "0|100000001"},
		"value":       {"0|16384|0..16384|16..1024|7..7|1e1", "-1|16385|0..16385|-1..5|1024..16|..|1..|..1|1..2..3|1.5|NaN"},
		"mix": {`{"get": 100, "cas": 0}|{"put": 1, "delete": 99}`, `{"get": 101, "put": -1}|{"put": 101, "delete": -1}|{"delete": 101, "cas": -1}|{"cas": 101, "get": -1}|{"get": 99}|{}|` +
			`{"get": 4611686018427388004, "put": 4611686018427387904, "delete": 4611686018427387904, "cas": 4611686018427387904}`},
		"duration": {"0s|24h0m0s", "-1ns|24h0m0.000000001s|1|NaN"},
		"dist": {"uniform|zipf:1e-300|zipf:10|hotspot:1e-300,0|hotspot:100,100",
			"zipf|zipf:0|zipf:10.0000001|zipf:1,2|uniform:1|hotspot:20|hotspot:0,1|hotspot:100.0000001,1|hotspot:1,-0.0000001|hotspot:1,100.0000001|zipf:Inf|hotspot:NaN,1"},
		"batch":   {"1|1024", "0|1025"},
		"depth":   {"1|1024", "0|1025"},
		"rate":    {"0|-0|0.001|1e6", "0.0009999999999|1000000.0000001|-0.001|-1|1e999|NaN|Inf"},
		"arrival": {"constant|poisson", "Poisson|poisson "},
		"conn":    {"persistent|per-request", "persistent,per-request"},
		"seed":    {"0|18446744073709551615", "-1|18446744073709551616|1.5"},
	}
	path := filepath.Join(t.TempDir(), "properties.json")
	rules := Rules()
	for name, lists := range bounds {
		rule := rules["workload."+name]
		for _, value := range strings.Split(lists[0]+"|"+lists[1], "|") {
			allowed := strings.Contains("|"+lists[0]+"|", "|"+value+"|")
			field := fmt.Sprintf("%q: %s", name, value)
			isMix := name == "mix" // whose flag TestFlags has
			if isMix {
				field = `"mix": ` + value
			} else if strings.Trim(value, "0123456789e.-") != "" || strings.Contains(value, "..") || name == "duration" {
				field = fmt.Sprintf("%q: %q", name, value)
			}
			if err := os.WriteFile(path, []byte(`{"workload": {`+field+`}}`), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := cluster.Load(path, rules)
			errs := []error{err}
			if !isMix {
				c := cluster.Default()
				errs = append(errs, newFlags(&c).Parse([]string{"-" + name, value}))
			}
			for _, err := range errs {
				if allowed && err != nil {
					t.Errorf("%s: %v, want it allowed", field, err)
				}
				if !allowed && (err == nil || !strings.Contains(err.Error(), "workload."+name+": ") || !strings.HasSuffix(err.Error(), rule.Allowed)) {
					t.Errorf("%s: %v, want an error with the property and what is allowed", field, err)
				}
			}
		}
		delete(rules, "workload."+name)
	}
	for name := range rules {
		t.Errorf("the bounds of %s are not tested", name)
	}
}

func TestFlags(t *testing.T) {
	for given, want := range map[string]cluster.Mix{
		"get=100":                      {Get: 100},
		"put:12,cas:88":                {Put: 12, CAS: 88},
		"get=1,put=2,delete=3,cas=94":  {Get: 1, Put: 2, Delete: 3, CAS: 94},
		"get=60,put=30":                {},
		"get=60,put=60":                {},
		"get=50,get=50":                {},
		"get=200,put=-100":             {},
		"get=100,scan=0":               {},
		"":                             {},
		"get":                          {},
		"get=60,put=40,delete=0,cas=0": {Get: 60, Put: 40},
	} {
		c := cluster.Default()
		c.Workload.Mix = cluster.Mix{}
		err := newFlags(&c).Parse([]string{"-mix", given})
		if c.Workload.Mix != want || (err == nil) != (want != cluster.Mix{}) {
			t.Errorf("-mix %s is %v, error %v, want %v", given, c.Workload.Mix, err, want)
		}
		if err != nil && !strings.HasSuffix(err.Error(), " is not "+mixForm) {
			t.Errorf("-mix %s: %v, want what is allowed", given, err)
		}
	}
	c := cluster.Default()
	fs := newFlags(&c)
	for _, name := range []string{"c", "connections"} { // the same
		if err := fs.Parse([]string{"-" + name, "77"}); err != nil || c.Workload.Connections != 77 {
			t.Errorf("-%s 77: %d connections, error %v", name, c.Workload.Connections, err)
		}
		c.Workload.Connections = 1
	}
	if got := fs.Lookup("mix").DefValue; got != "get=60,put=40" {
		t.Errorf("the default of -mix is %q", got)
	}
	c.Workload.Mix.CAS = 1
	if err := c.Validate(Rules()); err == nil || !strings.HasPrefix(err.Error(), "workload.mix: ") {
		t.Errorf("a sum of 101: error %v, want one of workload.mix", err)
	}
}

// The defaults are allowed, and every value of the workload has a rule with a meaning.
func TestRules(t *testing.T) {
	if err := cluster.Default().Validate(Rules()); err != nil {
		t.Error(err)
	}
	var help strings.Builder
	cluster.WriteHelp(&help, Rules())
	for path, r := range Rules() {
		if !strings.Contains(help.String(), "\n"+path+" ") || r.Doc == "" {
			t.Errorf("%s is not explained", path)
		}
	}
	benchtest.CheckWidth(t, help.String(), 80)
}
