package workload

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// newTestWorkload returns the default workload, changed by change.
func newTestWorkload(t testing.TB, change func(*cluster.Workload)) *Workload {
	t.Helper()
	cfg := cluster.Default().Workload
	change(&cfg)
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestKeys(t *testing.T) {
	for want, test := range map[string][2]int{ // keys, number
		"key-0": {1, 0}, "key-9": {10, 9}, "key-09": {11, 9}, "key-017": {1000, 17}, "key-000017": {1_000_000, 17}, "key-999999": {1_000_000, 999_999},
	} {
		w := newTestWorkload(t, func(w *cluster.Workload) { w.Keys = test[0] })
		if got := w.Key(test[1]); got != want {
			t.Errorf("key %d of %d is %q, want %q", test[1], test[0], got, want)
		}
	}
}

// A request of Preload is as large as a batch can be; a compare-and-swap has two values.
func TestPreload(t *testing.T) {
	for size, full := range map[cluster.Size]int{{}: 1024, cluster.Bytes(30): 1024, cluster.Bytes(100): 512, {Min: 32, Max: 1024}: 62, cluster.Bytes(16 << 10): 3} {
		w := newTestWorkload(t, func(w *cluster.Workload) { w.Keys, w.Value = 2*full+1, size })
		stored := make(map[string]bool)
		for first := 0; first < w.Keys; first += w.Full {
			puts := w.Preload(first, w.Full)
			if err := (&wire.Request{Ops: puts}).Validate(); err != nil || w.Full != full {
				t.Fatalf("a request of %d values of %v bytes, want %d: %v", w.Full, size, full, err)
			}
			for _, op := range puts {
				stored[op.Key] = true
				if s, _, err := verify(nil, op.Key, op.Value, size); err != nil || s != 0 || op.Kind != wire.Put {
					t.Fatalf("preload asks for a %v of %q: stamp %d, error %v", op.Kind, op.Value, s, err)
				}
			}
		}
		if len(stored) != w.Keys {
			t.Errorf("values of %v bytes: %d keys preloaded, want %d", size, len(stored), w.Keys)
		}
		puts, swaps := cluster.Mix{Put: 100}, cluster.Mix{CAS: 100}
		for _, test := range []struct {
			batch int
			mix   cluster.Mix
			fits  bool
		}{{full, puts, true}, {full + 1, puts, full == wire.MaxOps}, {full, swaps, size.Max == 0}, {1, swaps, true}} {
			cfg := w.Workload
			cfg.Batch, cfg.Mix = test.batch, test.mix
			if _, err := New(cfg); (err == nil) != test.fits || err != nil && !strings.HasPrefix(err.Error(), "workload.batch: ") {
				t.Errorf("values of %v bytes: %+v: error %v", size, test, err)
			}
		}
	}
}

// The same seed, round and worker give the same requests; another of any of them does not.
func TestSourceReproduces(t *testing.T) {
	stream := func(seed, round uint64, worker int) (requests string) {
		w := newTestWorkload(t, func(w *cluster.Workload) {
			w.Seed, w.Dist, w.Mix = seed, "hotspot:20,80", cluster.Mix{Get: 40, Put: 30, Delete: 20, CAS: 10}
		})
		w.Round = round
		s := w.Source(worker)
		for range 300 {
			op := s.Next(1)[0]
			requests += fmt.Sprintln(op.Kind, op.Key)
		}
		return requests
	}
	if same := stream(7, 1, 2); same != stream(7, 1, 2) || same == stream(8, 1, 2) || same == stream(7, 2, 2) || same == stream(7, 1, 3) {
		t.Error("the same seed, round and worker give other requests the second time, or others the same")
	}
}

func TestSourceMix(t *testing.T) {
	w := newTestWorkload(t, func(w *cluster.Workload) { w.Mix, w.Batch = cluster.Mix{Get: 40, Put: 30, Delete: 20, CAS: 10}, 10 })
	const draws = 30_000
	s, kinds, last := w.Source(0), make(map[wire.OpKind]int), uint64(0)
	for range draws / w.Batch {
		for i, op := range s.Next(s.Batch) {
			kinds[op.Kind]++
			if op.Kind == wire.Put || op.Kind == wire.CompareAndSwap {
				// After the whole request was drawn, so that values do not share memory.
				got, _, err := verify(nil, op.Key, op.Value, w.Value)
				if err != nil || got != s.stamps[i] {
					t.Fatalf("a %v of %q with stamp %d, want %d; error %v", op.Kind, op.Value, got, s.stamps[i], err)
				}
				if last++; got != newStamp(1, last) { // writer 0 is the preload
					t.Fatalf("value %d is %q", last, op.Value)
				}
			} else if op.Value != nil || op.Old != nil {
				t.Fatalf("a %v carries a value", op.Kind)
			}
		}
	}
	for kind, percent := range map[wire.OpKind]float64{wire.Get: 40, wire.Put: 30, wire.Delete: 20, wire.CompareAndSwap: 10} {
		if got := 100 * float64(kinds[kind]) / draws; math.Abs(got-percent) > 0.8 {
			t.Errorf("%.1f %% of the operations are a %v, want %v", got, kind, percent)
		}
	}
}

// With one worker every swap succeeds, and with several most do.
func TestCompareAndSwap(t *testing.T) {
	for _, batch := range []int{1, 5} {
		w := newTestWorkload(t, func(w *cluster.Workload) {
			w.Keys, w.Batch, w.Value.Max = 50, batch, 30*batch // a range, of the batch of 5
			w.Mix = cluster.Mix{Get: 20, Put: 20, Delete: 20, CAS: 40}
		})
		apply := benchtest.Locked(nil)
		apply(w.Preload(0, w.Keys))
		run := func(worker int) (sum Answers) {
			s := w.Source(worker)
			for range 500 {
				ops := slices.Clone(s.Next(s.Batch))
				for i := range ops { // whose values the next request changes
					ops[i].Value = bytes.Clone(ops[i].Value)
				}
				sum.Add(s.Check(apply(ops)))
			}
			return sum
		}
		if sum := run(0); sum.Wrong > 0 || sum.Mismatches > 0 || sum.OK != int64(500*batch) {
			t.Errorf("batch %d, one worker: %+v, want all ok", batch, sum)
		}
		var wg sync.WaitGroup
		for worker := range 4 {
			wg.Go(func() {
				if sum := run(worker); sum.Wrong > 0 || sum.Mismatches > sum.OK/2 {
					t.Errorf("batch %d, one of four workers: %+v, want none wrong, and few mismatches", batch, sum)
				}
			})
		}
		wg.Wait()
	}
}

func TestCheck(t *testing.T) {
	good := appendValue(nil, "key-0", newStamp(9, 9), cluster.Bytes(30))
	get, put, del, cas := cluster.Mix{Get: 100}, cluster.Mix{Put: 100}, cluster.Mix{Delete: 100}, cluster.Mix{CAS: 100}
	type statuses []wire.Status
	for _, test := range []struct {
		mix     cluster.Mix
		batch   int
		want    string   // what an operation is counted as
		answers statuses // each of which is given to all operations
		value   []byte
	}{
		{get, 1, "ok", statuses{wire.Found}, good},
		{get, 1, "wrong", statuses{wire.Found}, good[:29]},
		{get, 1, "wrong", statuses{wire.Found, 0, wire.TooLarge, wire.Created}, nil},
		{get, 1, "miss", statuses{wire.Missing}, nil},
		{get, 1, "", statuses{wire.Unknown, wire.NotRun}, nil},
		{get, 2, "wrong", statuses{wire.Aborted}, nil},
		{put, 1, "ok", statuses{wire.Created, wire.Replaced}, nil},
		{put, 1, "wrong", statuses{wire.Missing}, nil},
		{del, 1, "ok", statuses{wire.Deleted}, nil},
		{del, 1, "miss", statuses{wire.Missing}, nil},
		{del, 1, "wrong", statuses{wire.Found}, good},
		{cas, 1, "ok", statuses{wire.Swapped}, nil},
		{cas, 1, "mismatch", statuses{wire.Mismatch}, nil},
		{cas, 1, "wrong", statuses{wire.Aborted, wire.Missing}, nil},
		{cas, 2, "mismatch", statuses{wire.Aborted}, nil},
	} {
		s := newTestWorkload(t, func(w *cluster.Workload) { w.Mix, w.Batch, w.Keys = test.mix, test.batch, 1 }).Source(0)
		sent := int64(0)
		for _, op := range s.Next(s.Batch) {
			sent += int64(len(op.Key) + len(op.Value) + len(op.Old))
		}
		if r := s.Check(make([]wire.Result, test.batch+1)); r.Wrong != 1 || r.FirstWrong == "" {
			t.Errorf("an answer too many: %d wrong, %q", r.Wrong, r.FirstWrong)
		}
		n := int64(test.batch)
		want := map[string][4]int64{"": {}, "ok": {n, 0, 0, 0}, "miss": {n, n, 0, 0}, "mismatch": {n, 0, n, 0}, "wrong": {0, 0, 0, n}}[test.want]
		for _, status := range test.answers {
			r := s.Check(slices.Repeat([]wire.Result{{Status: status, Value: test.value}}, test.batch))
			if want := sent + n*int64(len(test.value)); r.Bytes != want && r.OK > 0 || r.OK == 0 && r.Bytes != 0 {
				t.Errorf("%v, batch %d, answered %v: %d bytes in %d operations, want %d", test.mix, test.batch, status, r.Bytes, r.OK, want)
			}
			if got := [4]int64{r.OK, r.Misses, r.Mismatches, r.Wrong}; got != want || (r.Wrong > 0) != (r.FirstWrong != "") {
				t.Errorf("%v, batch %d, answered %v: ok, misses, mismatches, wrong = %v (%s), want %q", test.mix, test.batch, status, got, r.FirstWrong, test.want)
			}
		}
	}
}

func newFlags(c *cluster.Config) *flag.FlagSet {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	Flags(c, fs)
	return fs
}

// Every property has a rule with a meaning, is accepted at its bounds and refused past them: here by
// flag, as package cluster shows that a file gives the same.
func TestBounds(t *testing.T) {
	bounds := map[string][2]string{ // allowed | refused
		"connections": {"1|1e1|100000", "0|100001|-1|1.5|many"},
		"ops":         {"1|1000000000", "0|1000000001"},
		"keys":        {"1|100000000", "0|100000001"},
		"value":       {"0|16384|0..16384|16..1024|7..7|1e1", "-1|16385|0..16385|-1..5|1024..16|..|1..|..1|1..2..3|1.5|NaN"},
		"duration":    {"0s|24h0m0s", "-1ns|24h0m0.000000001s|1|NaN"},
		"dist": {"uniform|zipf:1e-300|zipf:10|hotspot:1e-300,0|hotspot:100,100",
			"zipf|zipf:0|zipf:10.0000001|zipf:1,2|uniform:1|hotspot:20|hotspot:0,1|hotspot:100.0000001,1|hotspot:1,-0.0000001|hotspot:1,100.0000001|zipf:Inf|hotspot:NaN,1"},
		"mix": {"get=100|put:12,cas:88|get=60,put=40,delete=0,cas=0",
			"get=60,put=30|get=50,get=50|get=100,scan=0||get|get=101,put=-1|put=101,delete=-1|delete=101,cas=-1|cas=101,get=-1|" +
				"get=4611686018427388004,put=4611686018427387904,delete=4611686018427387904,cas=4611686018427387904"}, // 100 in 64 bits
		"batch":   {"1|1024", "0|1025"},
		"depth":   {"1|1024", "0|1025"},
		"rate":    {"0|-0|0.001|1e6", "0.0009999999999|1000000.0000001|-0.001|-1|1e999|NaN|Inf"},
		"arrival": {"constant|poisson", "Poisson|poisson "},
		"conn":    {"persistent|per-request", "persistent,per-request"},
		"seed":    {"0|18446744073709551615", "-1|18446744073709551616|1.5"},
	}
	rules := Rules()
	var help strings.Builder
	cluster.WriteHelp(&help, rules)
	benchtest.CheckWidth(t, help.String(), 80)
	for name, lists := range bounds {
		path := "workload." + name
		for i, list := range lists {
			for value := range strings.SplitSeq(list, "|") {
				c := cluster.Default()
				err := newFlags(&c).Parse([]string{"-" + name, value})
				if (err == nil) != (i == 0) || err != nil && (!strings.Contains(err.Error(), path+": ") || !strings.HasSuffix(err.Error(), rules[path].Allowed)) {
					t.Errorf("%s: %q: %v, want it allowed: %v, or the property and what is", path, value, err, i == 0)
				}
			}
		}
		delete(rules, path)
	}
	for path := range rules {
		t.Errorf("the bounds of %s are not tested", path)
	}
}

// A mix is written in two ways, and -c is -connections.
func TestFlags(t *testing.T) {
	for given, want := range map[string]string{
		"-c=5": "get=60,put=40 5", "-connections=6": "get=60,put=40 6", "-mix=get=100": "get=100 8",
		"-mix=put:12,cas:88": "get=0,put=12,cas=88 8", "-mix=get=1,put=2,delete=3,cas=94": "get=1,put=2,delete=3,cas=94 8",
	} {
		c := cluster.Default()
		err := newFlags(&c).Parse([]string{given})
		if got := fmt.Sprint(c.Workload.Mix, " ", c.Workload.Connections); err != nil || got != want {
			t.Errorf("%s: a mix and connections of %s, error %v, want %s", given, got, err, want)
		}
	}
}

func TestVerify(t *testing.T) {
	const key = "key-017"
	stamps := []stamp{0, newStamp(1, 1), newStamp(3, 42), newStamp(90, 123456), newStamp(1<<27-1, 1<<numberBits-1)}
	for n := range 70 {
		size := cluster.Bytes(n)
		for _, s := range stamps {
			value := appendValue(nil, key, s, size)
			got, _, err := verify(nil, key, value, size)
			if err != nil {
				t.Fatalf("verify of %q: %v", value, err)
			}
			// The stamp that was read writes the same value, also where it could not be read whole.
			if again := appendValue(nil, key, got, size); string(again) != string(value) {
				t.Fatalf("stamp %d of %q writes %q", got, value, again)
			}
			if n >= 40 && got != s {
				t.Errorf("stamp of %q is %d, want %d", value, got, s)
			}
			for i := range value {
				bad := bytes.Clone(value)
				bad[i] ^= 1
				// Without filler, another digit in the stamp is another value.
				if _, _, err := verify(nil, key, bad, size); err == nil && n > 45 {
					t.Fatalf("verify accepts %q", bad)
				}
			}
		}
	}
}

func TestVerifyErrors(t *testing.T) {
	const key = "key-017"
	size, sizes := cluster.Bytes(60), cluster.Size{Min: 101, Max: 200}
	value := appendValue(nil, key, newStamp(3, 42), size)
	other := appendValue(nil, key, newStamp(4, 42), size)
	ranged := appendValue(nil, key, newStamp(3, 42), sizes)
	for _, test := range []struct {
		name  string
		bad   []byte
		sizes cluster.Size
	}{
		{"nil", nil, size},
		{"too long", append(value, 'a'), size},
		{"of another key", appendValue(nil, "key-018", newStamp(3, 42), size), size},
		{"half and half", slices.Concat(value[:40], other[40:]), size},
		{"a leading zero", bytes.Replace(value, []byte("#42 "), []byte("#042"), 1), size},
		{"of a range, cut", ranged[:len(ranged)-1], sizes},
		{"of a range, cut in the stamp", ranged[:14], sizes},
		{"too short for the range", []byte("key-017 "), cluster.Size{Min: 9, Max: 36}},
		{"too long for the range", []byte("key-017 "), cluster.Size{Min: 2, Max: 7}},
	} {
		if _, _, err := verify(nil, key, test.bad, test.sizes); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: verify of %q has the error %v, want one with the key", test.name, test.bad, err)
		}
	}
}

// The stamp determines the size of a value in a range, and all sizes are equally likely, also
// those that do not hold key and stamp: such a value is verified as far as it goes.
func TestValueRange(t *testing.T) {
	const key = "key-017"
	for _, sizes := range []cluster.Size{{Min: 16, Max: 271}, {Min: 0, Max: 36}} {
		counts := make([]int, sizes.Max-sizes.Min+1)
		for number := range uint64(3_000) {
			s := newStamp(12, number)
			value := appendValue([]byte("before"), key, s, sizes)[len("before"):]
			counts[len(value)-sizes.Min]++
			want := s
			if len(value) < len(appendText(nil, key, s)) {
				want = unknown
			}
			if got, _, err := verify(nil, key, value, sizes); err != nil || got != want {
				t.Fatalf("verify of %q: stamp %d, error %v, want %d", value, got, err, want)
			}
			if n := len(value); n > 0 {
				value[n-1] ^= 64
				if _, _, err := verify(nil, key, value, sizes); err == nil {
					t.Fatalf("verify accepts %q", value)
				}
			}
		}
		if sum, limit := chiSquare(counts, func(int) float64 { return 1 }); sum > limit {
			t.Errorf("chi-square of the sizes %v is %.1f, want at most %.1f", sizes, sum, limit)
		}
	}
}

func TestDistributions(t *testing.T) {
	power := func(theta float64) func(int) float64 {
		return func(rank int) float64 { return math.Pow(float64(rank+1), -theta) }
	}
	steps := func(hot int, inside, outside float64) func(int) float64 {
		return func(rank int) float64 { return map[bool]float64{true: inside, false: outside}[rank < hot] }
	}
	for _, test := range []struct {
		spec   string
		keys   int
		weight func(rank int) float64 // in proportion to how often the rank is drawn, from 0
	}{
		{"uniform", 1000, power(0)},
		{"zipf:0.9", 987, power(0.9)}, // has a factor in common with the first step of scatter
		{"zipf:0.99", 1000, power(0.99)},
		{"zipf:1", 1000, power(1)},
		{"zipf:10", 3, power(10)},
		{"zipf:0.99", 1, power(0.99)},
		{"hotspot:20,80", 1000, steps(200, 0.8/200, 0.2/800)},
		{"hotspot:0.01,90", 1000, steps(1, 0.9, 0.1/999)}, // one key at least
		{"hotspot:100,50", 1000, power(0)},
	} {
		counts := countRanks(newDistribution(test.spec, test.keys), test.keys)
		if sum, limit := chiSquare(counts, test.weight); sum > limit {
			t.Errorf("%s of %d keys: chi-square is %.1f, want at most %.1f", test.spec, test.keys, sum, limit)
		}
	}
}

// countRanks counts how often each rank is drawn, which scatter put on a key.
func countRanks(draw distribution, keys int) []int {
	onKey := make([]int, keys)
	r := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		onKey[draw(r)]++
	}
	rank, counts := 0, make([]int, keys)
	key := scatter(func(*rand.Rand) int { return rank }, keys)
	for rank = range keys {
		k := key(nil)
		counts[rank], onKey[k] = onKey[k], 0
	}
	return counts
}

// chiSquare compares counts with the exact distribution. It joins ranks until at least ten
// draws are expected. One right generator in 10 000 is above the limit (Wilson and
// Hilferty's approximation).
func chiSquare(counts []int, weight func(int) float64) (sum, limit float64) {
	draws, total := 0.0, 0.0
	for rank, n := range counts {
		draws += float64(n)
		total += weight(rank)
	}
	freedom := -1.0
	observed, expected := 0.0, 0.0
	for rank, n := range counts {
		observed += float64(n)
		expected += draws * weight(rank) / total
		if expected >= 10 || rank == len(counts)-1 && expected > 0 {
			sum += (observed - expected) * (observed - expected) / expected
			freedom++
			observed, expected = 0, 0
		}
	}
	if freedom == 0 {
		return sum, 0
	}
	return sum, freedom * math.Pow(1-2/(9*freedom)+3.719*math.Sqrt(2/(9*freedom)), 3)
}
