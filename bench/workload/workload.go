// Package workload makes the requests of a load: their operations, keys and values, from the
// properties of the workload. It also judges whether an answer can be right.
package workload

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// A Workload determines the requests: which operations, on which keys, with which values.
// Safe for concurrent use, with a Source for each worker. Each set of servers needs its own
// Workload, which remembers what is stored there.
type Workload struct {
	cluster.Workload
	pick    distribution
	kinds   []wire.OpKind // 100, of which one is drawn for each operation
	Once    bool          // do not send a request again that is answered Busy
	Sampled bool          // keep samples of what came of the requests
	Round   uint64        // from 0; each has its own requests
	Full    int           // how many puts fit a request
	base    int64         // 10^digits: base + i without its first digit has the width of all keys

	// seen has for each key the stamp of the value that a worker last read or stored; it is
	// nil unless the mix has CompareAndSwaps, which need it. All workers share it: a stamp
	// that only one worker knows is nearly always out of date, and every swap would answer
	// Mismatch. What other processes store is only known after a get.
	seen []atomic.Uint64
}

// New returns the workload that w describes, or an error that names the property. Each
// property of w must keep its rule.
func New(w cluster.Workload) (*Workload, error) {
	wl := &Workload{Workload: w, pick: newDistribution(w.Dist, w.Keys), base: 10}
	for ; wl.base < int64(w.Keys); wl.base *= 10 {
	}
	of := func(kind wire.OpKind, share int) []wire.OpKind { return slices.Repeat([]wire.OpKind{kind}, share) }
	wl.kinds = slices.Concat(of(wire.Get, w.Mix.Get), of(wire.Put, w.Mix.Put), of(wire.Delete, w.Mix.Delete), of(wire.CompareAndSwap, w.Mix.CAS))
	values := w.Value.Max
	if w.Mix.CAS > 0 {
		values *= 2 // the old and the new
		wl.seen = make([]atomic.Uint64, w.Keys)
	}
	if w.Depth > 1 && w.Conn == "per-request" {
		return nil, fmt.Errorf("workload.depth: %d requests in flight need a connection that is kept: set workload.conn to persistent", w.Depth)
	}
	const overhead = 20 // bytes at most that gob adds to an operation or a result
	if frame := w.Batch * (len(wl.Key(0)) + values + overhead); frame > wire.MaxFrame {
		return nil, fmt.Errorf("workload.batch: %d operations with values of %v bytes make a request of "+
			"%d bytes: a frame holds %d", w.Batch, w.Value, frame, wire.MaxFrame)
	}
	wl.Full = min(wire.MaxOps, wire.MaxFrame/(len(wl.Key(0))+w.Value.Max+overhead))
	return wl, nil
}

// Key returns the name of key i, such as key-017 of up to 1000 keys. All have the same length.
func (w *Workload) Key(i int) string {
	var digits [20]byte
	return "key-" + string(strconv.AppendInt(digits[:0], w.base+int64(i), 10)[1:])
}

// Preload returns puts of the first values of up to n keys, from key number first on. A load
// begins when all keys are stored, so that a miss is an error unless there are deletes.
func (w *Workload) Preload(first, n int) (puts []wire.Op) {
	n = max(0, min(n, w.Keys-first))
	puts, values := make([]wire.Op, 0, n), make([]byte, 0, n*w.Value.Max)
	for i := first; i < first+n; i++ {
		key, start := w.Key(i), len(values)
		values = appendValue(values, key, 0, w.Value)
		puts = append(puts, wire.Op{Kind: wire.Put, Key: key, Value: values[start:]})
	}
	return puts
}

// A Source is the stream of one worker's requests. It depends only on the workload, the
// round and the worker, except that the values a CompareAndSwap expects depend on earlier
// answers. Not safe for concurrent use.
type Source struct {
	*Workload
	rand   *rand.Rand
	writer uint64 // the worker's number plus 1: writer 0 is the preload
	stored uint64 // how many values so far

	// The current request.
	ops    []wire.Op
	keys   []int   // their keys' numbers
	stamps []stamp // of the value that each leaves under its key if a write is applied, or if a get finds nothing
	text   []byte  // their values

	scratch []byte
}

// Source returns the requests of a worker, numbered from 0. Workers need different numbers,
// also across client processes.
func (w *Workload) Source(worker int) *Source {
	return &Source{Workload: w, rand: rand.New(rand.NewPCG(w.Seed, w.Round<<40|uint64(worker))), writer: uint64(worker) + 1}
}

// Next returns the next request, of n operations. It is valid, with its values, until the
// next call of Next: each request in flight needs its own Source.
func (s *Source) Next(n int) []wire.Op {
	s.ops, s.keys, s.stamps, s.text = s.ops[:0], s.keys[:0], s.stamps[:0], s.text[:0]
	for range n {
		kind, number := s.kinds[s.rand.IntN(100)], s.pick(s.rand)
		op, left := wire.Op{Kind: kind, Key: s.Key(number)}, absent
		if kind == wire.Put || kind == wire.CompareAndSwap {
			s.stored++
			left = newStamp(s.writer, s.stored)
			op.Value = s.value(op.Key, left)
		}
		if kind == wire.CompareAndSwap {
			// as it was before the whole request, because the server compares with that
			if last := stamp(s.seen[number].Load()); last != absent {
				op.Old = s.value(op.Key, last)
			}
			op.Absent = op.Old == nil
		}
		s.ops, s.keys, s.stamps = append(s.ops, op), append(s.keys, number), append(s.stamps, left)
	}
	return s.ops
}

// value appends a value to text and returns it. Earlier values remain valid when text grows.
func (s *Source) value(key string, st stamp) []byte {
	start := len(s.text)
	s.text = appendValue(s.text, key, st, s.Value)
	return s.text[start:len(s.text):len(s.text)]
}

// Answers counts the answers to operations.
type Answers struct {
	OK         int64  `json:"ok"`         // right answers; misses and mismatches are answers
	Bytes      int64  `json:"bytes"`      // of OK: keys and values, sent and received
	Misses     int64  `json:"misses"`     // of OK: a get or delete of a key that had no value
	Mismatches int64  `json:"mismatches"` // of OK: a compare that failed, and the rest of its request
	Wrong      int64  `json:"wrong"`      // answers that no correct server gives
	FirstWrong string `json:"first_wrong,omitempty"`
}

// Add adds b to a.
func (a *Answers) Add(b Answers) {
	a.OK += b.OK
	a.Bytes += b.Bytes
	a.Misses += b.Misses
	a.Mismatches += b.Mismatches
	a.Wrong += b.Wrong
	a.FirstWrong = cmp.Or(a.FirstWrong, b.FirstWrong)
}

// FoundWrong counts an answer that no correct server gives.
func (a *Answers) FoundWrong(err error) { a.Add(Answers{Wrong: 1, FirstWrong: err.Error()}) }

// Check verifies the answers to the source's last request and remembers the values that they
// show. Operations without an answer, Unknown and NotRun, are not counted.
func (s *Source) Check(results []wire.Result) (a Answers) {
	if len(results) != len(s.ops) {
		return Answers{Wrong: 1, FirstWrong: fmt.Sprintf("%d answers to %d operations", len(results), len(s.ops))}
	}
	for i, answer := range results {
		op, left := &s.ops[i], s.stamps[i]
		switch kind, status := op.Kind, answer.Status; {
		case status == wire.Unknown, status == wire.NotRun:
			continue
		case kind == wire.Get && status == wire.Found:
			var err error
			if left, s.scratch, err = verify(s.scratch, op.Key, answer.Value, s.Value); err != nil {
				a.FoundWrong(err)
				continue
			}
		case (kind == wire.Get || kind == wire.Delete) && status == wire.Missing:
			a.Misses++
		case kind == wire.CompareAndSwap && status == wire.Mismatch,
			s.Mix.CAS > 0 && s.Batch > 1 && status == wire.Aborted:
			a.Mismatches++
			left = unknown
		case kind == wire.Put && (status == wire.Created || status == wire.Replaced),
			kind == wire.Delete && status == wire.Deleted,
			kind == wire.CompareAndSwap && status == wire.Swapped:
		default:
			a.FoundWrong(fmt.Errorf("%s: %q answered to a %s", op.Key, status, kind))
			continue
		}
		a.OK++
		a.Bytes += int64(len(op.Key) + len(op.Value) + len(op.Old) + len(answer.Value))
		if s.seen != nil && left != unknown {
			s.seen[s.keys[i]].Store(uint64(left))
		}
	}
	return a
}

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
		"workload.duration":    cluster.In(0, 24*time.Hour, "length of the run; 0s: until ops are done"),
		"workload.dist":        cluster.Where("uniform, zipf:THETA or hotspot:KEYS,OPS", "keys: all alike; key k as 1/k^THETA; KEYS % of them in OPS % of the ops", isDist),
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
	return min(m.Get, m.Put, m.Delete, m.CAS) >= 0 && max(m.Get, m.Put, m.Delete, m.CAS) <= 100 && m.Get+m.Put+m.Delete+m.CAS == 100
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

// A stamp says which writer stored a value, and which of that writer's values it is. Key,
// stamp and sizes determine a value. Writer 0 is the preload, so the zero stamp is that of the
// value that each key has at first.
type stamp uint64 // writer << numberBits | number

const (
	numberBits       = 37
	absent     stamp = 1<<64 - 1 // the key has no value
	unknown    stamp = 1<<64 - 2 // the value was not read, or is too short to hold its stamp
)

func newStamp(writer, number uint64) stamp { return stamp(writer<<numberBits | number) }

// appendValue appends a value to b: the key, the stamp, and filler that depends on both, so
// that parts of two values never make a third:
//
//	key-017 by 3 #42 nkdpobcafhihg
//
// If sizes is a range, the value's size is a hash of its key and stamp, and each size is as
// likely as the others. A value that is too small for key and stamp ends early.
func appendValue(b []byte, key string, s stamp, sizes cluster.Size) []byte {
	start := len(b)
	b = appendText(b, key, s)
	x := uint64(crc32.ChecksumIEEE(b[start:]))
	// A checksum of consecutive numbers is not random enough to draw sizes from.
	size := sizes.Min + int(rand.NewPCG(x, x).Uint64()%uint64(sizes.Max-sizes.Min+1))
	for len(b)-start < size {
		x = x*6364136223846793005 + 1442695040888963407 // Knuth, TAOCP 2, 3.3.4
		// eight letters at once, a to p; 16 KiB take about 2 µs
		letters := 0x6161616161616161 + (x^x>>32)&0x0f0f0f0f0f0f0f0f
		b = binary.LittleEndian.AppendUint64(b, letters)
	}
	return b[:start+size]
}

// appendText appends what a value begins with. It ends with a space, so no such text is
// the beginning of another.
func appendText(b []byte, key string, s stamp) []byte {
	b = append(append(b, key...), " by "...)
	b = append(strconv.AppendUint(b, uint64(s>>numberBits), 10), " #"...)
	return append(strconv.AppendUint(b, uint64(s&(1<<numberBits-1)), 10), ' ')
}

// verify returns the stamp of a value read from key, or an error if no workload with values of
// these sizes stores it there. It writes the value again from its own stamp and compares all of
// it. Of a value that ends within its stamp, a range of sizes leaves open which size is right:
// the stamp is unknown, and any size in the range is right. scratch is overwritten and returned
// for the next call.
func verify(scratch []byte, key string, value []byte, sizes cluster.Size) (stamp, []byte, error) {
	s := readStamp(key, value)
	scratch = appendText(scratch[:0], key, s)
	if n := len(value); sizes.Min < sizes.Max && sizes.Min <= n && n <= sizes.Max && n < len(scratch) {
		s, scratch = unknown, scratch[:n]
	} else {
		scratch = appendValue(scratch[:0], key, s, sizes)
	}
	if bytes.Equal(value, scratch) {
		return s, scratch, nil
	}
	return 0, scratch, fmt.Errorf("%s: read %d bytes, %.60q, want %d bytes such as %.60q", key, len(value), value, len(scratch), scratch)
}

// readStamp reads the stamp where appendValue writes it. It checks nothing and takes missing
// numbers for 0, because verify compares the whole value.
func readStamp(key string, value []byte) stamp {
	text := value[min(len(key)+len(" by "), len(value)):]
	next := func() (n uint64) {
		for ; len(text) > 0 && '0' <= text[0] && text[0] <= '9'; text = text[1:] {
			n = 10*n + uint64(text[0]-'0')
		}
		text = text[min(len(" #"), len(text)):]
		return n
	}
	writer := next()
	return newStamp(writer, next())
}
