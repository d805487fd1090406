package workload

import (
	"flag"
	"fmt"
	"math"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

const mixForm = "get=N,put=N,delete=N,cas=N with sum 100"

// Rules returns the rules for the properties of the workload, which package cluster uses
// together with its own.
func Rules() cluster.Rules {
	return cluster.Rules{
		"workload.connections": cluster.In(1, 100_000, "connections of a client process"),
		"workload.ops":         cluster.In(1, 1_000_000_000, "operations in all, shared by the connections"),
		"workload.keys":        cluster.In(1, 100_000_000, "different keys"),
		"workload.value":       cluster.Where(fmt.Sprintf("in 0..%d, or a range such as 16..1024", wire.MaxValue), "bytes in a value; with a range, each value draws its own size", isSize),
		"workload.mix":         cluster.Where(mixForm, "percent of each operation; in the file, an object; what it leaves out is 0", addsUp),
		"workload.mix.get":     cluster.In(0, 100, "percent of gets"),
		"workload.mix.put":     cluster.In(0, 100, "percent of puts"),
		"workload.mix.delete":  cluster.In(0, 100, "percent of deletes"),
		"workload.mix.cas":     cluster.In(0, 100, "percent of compare-and-swaps"),
		"workload.duration":    cluster.In(0, 24*time.Hour, "length of the run; 0s: until ops are done"),
		"workload.dist":        cluster.Where("uniform or zipf:THETA", "keys: all alike; key k as 1/k^THETA", isDist),
		"workload.batch":       cluster.In(1, wire.MaxOps, "operations in a request"),
		"workload.depth":       cluster.In(1, 1024, "requests in flight on a connection"),
		"workload.rate":        cluster.Where("0, or in 0.001..1e6", "requests due each second, in all (open loop); 0: as fast as answers come", isRate),
		"workload.arrival":     oneOf("constant", "poisson", "gaps between requests that come at a rate"),
		"workload.conn":        oneOf("persistent", "per-request", "connections are kept, or each request has a new one"),
		"workload.seed":        cluster.In[uint64](0, math.MaxUint64, "the same seed draws the same requests"),
	}
}

func oneOf(a, b, doc string) cluster.Rule {
	return cluster.Where(a+" or "+b, doc, func(word string) bool { return word == a || word == b })
}

func isSize(s cluster.Size) bool { return 0 <= s.Min && s.Min <= s.Max && s.Max <= wire.MaxValue }

func addsUp(m cluster.Mix) bool {
	return min(m.Get, m.Put, m.Delete, m.CAS) >= 0 && m.Get+m.Put+m.Delete+m.CAS == 100
}

// isRate has a lower bound so that the time between two requests fits a time.Duration.
func isRate(r float64) bool { return r == 0 || 0.001 <= r && r <= 1e6 }

func isDist(spec string) bool { return newDistribution(spec, 1) != nil }

// Flags defines a flag for each property of c.Workload. -c is -connections.
func Flags(c *cluster.Config, fs *flag.FlagSet) {
	rules := Rules()
	c.Flags(fs, "workload", rules)
	connections := fs.Lookup("connections")
	fs.Var(connections.Value, "c", connections.Usage)
	connections.Usage = "the same as -c"
}

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
