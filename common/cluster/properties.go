package cluster

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/common/wire"
)

// A property is one line of the table: a name, a place in a Config, what may
// stand there, and what it means. It is a flag.Value.
type property struct {
	path string // in properties.json: "server.workers"
	value
	doc string
}

// A value is a place in a Config, read and written as text.
type value struct {
	number  bool                   // JSON writes it as a number, not as a string
	either  bool                   // or as a string where it is no number
	allowed string                 // what it may be, to stand after "is not": "in 1..4096"
	get     func() string          // its text
	set     func(text string) bool // false, and no change, if the text is not allowed
}

// properties is the table, bound to c. What it holds of lists is what c has now.
func (c *Config) properties() []property {
	s, w := &c.Server, &c.Workload
	return append(c.addresses(), []property{
		{"server.workers", whole(&s.Workers, 1, 4096), "goroutines that execute requests (stages 3 and 4)"},
		{"server.queue", whole(&s.Queue, 0, 1_000_000), "requests that may wait for a worker, before Busy is the answer"},
		{"server.buckets", whole(&s.Buckets, 1, 1_000_000), "tables, each behind its own lock (stage 4)"},
		{"server.work", work(&s.Work), "how long an operation sleeps, or computes (spin), in the table"},
		{"server.max_connections", whole(&s.MaxConnections, 1, 1_000_000), "connections open at the same time"},
		{"server.idle_timeout", span(&s.IdleTimeout, time.Millisecond, 24*time.Hour), "how long a connection may be silent between requests"},
		{"server.frame_timeout", span(&s.FrameTimeout, time.Millisecond, time.Hour), "how long a request may take to arrive, once begun"},
		{"server.write_timeout", span(&s.WriteTimeout, time.Millisecond, time.Hour), "how long a client may take to read answers"},
		{"server.drain_timeout", span(&s.DrainTimeout, time.Millisecond, time.Hour), "how long a server may take to stop"},

		{"workload.connections", whole(&w.Connections, 1, 100_000), "connections of a client process"},
		{"workload.ops", whole(&w.Ops, 1, 1_000_000_000), "operations in all, shared by the connections"},
		{"workload.keys", whole(&w.Keys, 1, 100_000_000), "different keys"},
		{"workload.value", size(&w.Value), "bytes in a value, or a range, from which each value draws"},
		{"workload.mix.get", whole(&w.Mix.Get, 0, 100), "percent of gets; the flag for all four: -mix get=60,put=40"},
		{"workload.mix.put", whole(&w.Mix.Put, 0, 100), "percent of puts"},
		{"workload.mix.delete", whole(&w.Mix.Delete, 0, 100), "percent of deletes"},
		{"workload.mix.cas", whole(&w.Mix.CAS, 0, 100), "percent of compare-and-swaps; a mix adds up to 100, and leaves out what is 0"},
		{"workload.duration", span(&w.Duration, 0, 24*time.Hour), "length of the run; 0s: until ops are done"},
		{"workload.dist", dist(&w.Dist), "keys: all alike; key k as 1/k^THETA; KEYS % of them in OPS % of the ops"},
		{"workload.batch", whole(&w.Batch, 1, wire.MaxOps), "operations in a request"},
		{"workload.depth", whole(&w.Depth, 1, 1024), "requests in flight on a connection"},
		{"workload.rate", rate(&w.Rate), "requests due a second, in all (open loop); 0: as fast as answers come"},
		{"workload.arrival", word(&w.Arrival, "constant", "poisson"), "gaps between requests that come at a rate"},
		{"workload.conn", word(&w.Conn, "persistent", "per-request"), "connections kept, or a new one for each request"},
		{"workload.seed", seed(&w.Seed), "the same seed draws the same requests"},

		{"secret", secret(&c.Secret), "needed off loopback; the same everywhere; LOCKSTEP_SECRET overrides it"},
	}...)
}

// addresses is the part of the table that grows with the lists.
func (c *Config) addresses() []property {
	var list []property
	for i := range c.Nodes {
		at, n := fmt.Sprintf("nodes[%d].", i), &c.Nodes[i]
		list = append(list,
			property{at + "addr", address(&n.Addr), "where a node serves; the next one is nodes[1]"},
			property{at + "control", address(&n.Control), "where a node answers barrier and stats questions"})
	}
	for i := range c.Clients {
		at := fmt.Sprintf("clients[%d].", i)
		list = append(list, property{at + "control", address(&c.Clients[i].Control), "the same, of a client process"})
	}
	return list
}

// mix is the whole Mix as one property: its flag, and the check of its sum.
func (c *Config) mix() property {
	v := held(&c.Workload.Mix, "get=N,put=N,delete=N,cas=N adding up to 100", parseMix)
	return property{"workload.mix", v, "percent of each operation"}
}

// String returns the value's text. A flag.Value must not mind being zero.
func (p property) String() string {
	if p.get == nil {
		return ""
	}
	return p.get()
}

// Set stores the value that text stands for, or says why it does not.
func (p property) Set(text string) error {
	if p.set(text) {
		return nil
	}
	if p.path == "secret" {
		text = "its value"
	}
	return fmt.Errorf("%s: %s is not %s", p.path, show(text), p.allowed)
}

// show makes text of any origin fit for a message: short, on one line.
func show(text string) string {
	if len(text) > 60 {
		text = text[:60] + "..."
	}
	if quoted := strconv.Quote(text); text == "" || len(quoted) != len(text)+2 {
		return quoted
	}
	return text
}

// ServerFlags defines a flag for each property of c.Server, named as the last part
// of its path. Its errors are those of the file.
//
// The file is named by a flag too, so parse twice: Parse, then Load into the same
// Config, then Parse again, and the flags override the file.
func (c *Config) ServerFlags(fs *flag.FlagSet) { c.flags(fs, "server.") }

// WorkloadFlags does for c.Workload what ServerFlags does for c.Server. -c is
// -connections, and -mix takes a whole mix: "get=60,put=40".
func (c *Config) WorkloadFlags(fs *flag.FlagSet) { c.flags(fs, "workload.") }

func (c *Config) flags(fs *flag.FlagSet, section string) {
	for _, p := range append(c.properties(), c.mix()) {
		name, ok := strings.CutPrefix(p.path, section)
		if !ok || strings.Contains(name, ".") {
			continue
		}
		usage := p.doc + "; " + p.allowed
		if name == "connections" {
			fs.Var(p, "c", usage)
			usage = "the same as -c"
		}
		fs.Var(p, name, usage)
	}
}

// WriteHelp writes every property to w: its name, default, range and meaning.
func WriteHelp(w io.Writer) {
	fmt.Fprint(w, "The properties of ", DefaultPath, ": default, what is allowed, meaning. What the\n",
		"file leaves out keeps its default. A flag is named as the last part of a server\n",
		"or workload property, and overrides the file.\n\n")
	c := Default()
	for _, p := range c.properties() {
		fmt.Fprintf(w, "%-23s %-15s %s\n    %s\n", p.path, show(p.String()), p.allowed, p.doc)
	}
}

// held is the value at p; parse undoes fmt.Sprint.
func held[T any](p *T, allowed string, parse func(string) (T, bool)) value {
	number := false
	switch any(*p).(type) {
	case int, uint64, float64:
		number = true
	}
	return value{number: number, allowed: allowed, get: func() string { return fmt.Sprint(*p) }, set: func(text string) bool {
		v, ok := parse(text)
		if ok {
			*p = v
		}
		return ok
	}}
}

// within is the value at p, in lo..hi, both included.
func within[T cmp.Ordered](p *T, lo, hi T, parse func(string) (T, error)) value {
	return held(p, fmt.Sprintf("in %v..%v", lo, hi), func(text string) (T, bool) {
		v, err := parse(text)
		return v, err == nil && lo <= v && v <= hi
	})
}

func whole(p *int, lo, hi int) value                    { return within(p, lo, hi, strconv.Atoi) }
func span(p *time.Duration, lo, hi time.Duration) value { return within(p, lo, hi, time.ParseDuration) }

func seed(p *uint64) value {
	return within(p, 0, math.MaxUint64, func(text string) (uint64, error) { return strconv.ParseUint(text, 10, 64) })
}

// rate has a least value so that the gap between two requests fits a Duration.
func rate(p *float64) value {
	return held(p, "0, or in 0.001..1e+06", func(text string) (float64, bool) {
		r, err := strconv.ParseFloat(text, 64)
		zero := strings.Trim(text, "+-0.") == "" // 1e-999 is none, though ParseFloat takes it for one
		return r, err == nil && (zero || 0.001 <= r && r <= 1e6)
	})
}

func size(p *Size) value {
	const most = wire.MaxValue
	v := held(p, fmt.Sprintf("in 0..%d, or a range such as 16..1024", most), func(text string) (Size, bool) {
		low, high, ranged := strings.Cut(text, "..")
		if !ranged {
			high = low
		}
		least, errLeast := strconv.Atoi(low)
		greatest, errGreatest := strconv.Atoi(high)
		return Size{least, greatest}, errLeast == nil && errGreatest == nil && 0 <= least && least <= greatest && greatest <= most
	})
	v.number, v.either = true, true
	return v
}

func work(p *Work) value {
	return held(p, `in 0s..1m0s, or as "spin 1ms"`, func(text string) (Work, bool) {
		text, spin := strings.CutPrefix(text, "spin ")
		d, err := time.ParseDuration(text)
		return Work{spin, d}, err == nil && 0 <= d && d <= time.Minute
	})
}

// as is the string at p, one of those that ok accepts.
func as(p *string, allowed string, ok func(string) bool) value {
	return held(p, allowed, func(text string) (string, bool) { return text, ok(text) })
}

func word(p *string, words ...string) value {
	return as(p, strings.Join(words, " or "), func(text string) bool { return slices.Contains(words, text) })
}

func secret(p *string) value {
	return as(p, fmt.Sprintf("at least %d bytes long", minSecret), func(text string) bool {
		return text == "" || len(text) >= minSecret && utf8.ValidString(text)
	})
}

func address(p *string) value {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%"
	return as(p, "HOST:PORT with a port in 1..65535", func(text string) bool {
		host, port, err := net.SplitHostPort(text)
		n, _ := strconv.Atoi(port)
		return err == nil && 1 <= n && n <= 65535 && port == strconv.Itoa(n) &&
			len(host) <= 253 && strings.Trim(host, letters) == ""
	})
}

func dist(p *string) value {
	return as(p, "uniform, zipf:THETA or hotspot:KEYS,OPS", func(text string) bool {
		_, _, _, ok := ParseDist(text)
		return ok
	})
}

// ParseDist takes a Workload's Dist apart. It is one of
//
//	uniform           every key alike
//	zipf:THETA        key k in proportion to 1/k^THETA; 0 < THETA <= 10
//	hotspot:KEYS,OPS  KEYS % of the keys get OPS % of the operations, 0 < KEYS <= 100,
//	                  0 <= OPS <= 100
//
// or not ok; a and b are its numbers.
func ParseDist(text string) (name string, a, b float64, ok bool) {
	name, numbers, _ := strings.Cut(text, ":")
	first, second, two := strings.Cut(numbers, ",")
	a, errA := strconv.ParseFloat(first, 64)
	b, errB := strconv.ParseFloat(second, 64)
	switch name {
	case "uniform":
		ok = text == name
	case "zipf":
		ok = errA == nil && 0 < a && a <= 10 && !two
	case "hotspot":
		ok = errA == nil && errB == nil && 0 < a && a <= 100 && 0 <= b && b <= 100
	}
	return name, a, b, ok
}

func parseMix(text string) (Mix, bool) {
	var m Mix
	places := map[string]*int{"get": &m.Get, "put": &m.Put, "delete": &m.Delete, "cas": &m.CAS}
	for part := range strings.SplitSeq(strings.ReplaceAll(text, ":", "="), ",") {
		name, percent, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(percent)
		if places[name] == nil || err != nil || n < 0 || n > 100 {
			return Mix{}, false
		}
		*places[name] = n
		delete(places, name) // once is enough
	}
	return m, m.Get+m.Put+m.Delete+m.CAS == 100
}
