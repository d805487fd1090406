package stagetest

import (
	"regexp"
	"strings"
	"testing"
)

// Mistakes that students make, as edits of a stage, and what its go test must say first: the
// cause, or the student's own line. With -race in front, only the race detector sees it.
var mistakes = []mutant{
	{"an Unlock forgotten on one path", "stage2_coarselock/store.go",
		"\tdefer s.mu.Unlock()\n", "\tif ops[0].Kind.Writes() {\n\t\tdefer s.mu.Unlock()\n\t}\n",
		"./stage2_coarselock", `stuck: \d+ × \(\*store\)\.apply, stage2_coarselock/store\.go:\d+, waits in Mutex\.Lock`},
	{"one lock held while answers are written", "stage2_coarselock/server.go",
		"\t\tn.Answer(c, s.apply)\n\t\tc.Flush()\n", "\t\ts.mu.Lock()\n\t\tn.Answer(c, s.table.Apply)\n\t\tc.Flush()\n\t\ts.mu.Unlock()\n",
		"./stage2_coarselock", "is a lock held while they are written"},
	{"an Unlock too many", "stage2_coarselock/store.go", "\tdefer s.mu.Unlock()\n", "\tdefer s.mu.Unlock()\n\tdefer s.mu.Unlock()\n",
		"./stage2_coarselock", "unlock of unlocked mutex"},
	{"a Flush forgotten", "stage2_coarselock/server.go", "\t\tc.Flush()\n", "",
		"./stage2_coarselock", "answers were written and not flushed"},
	{"a goroutine that never ends", "stage2_coarselock/server.go", "\tdefer c.Close()\n", "\tdefer c.Close()\n\tgo func() { select {} }()\n",
		"./stage2_coarselock", `goroutines are left: \d+ × serveConn\.func1, stage2_coarselock/server\.go:\d+, waits in select`},
	{"a lock of a copy", "stage2_coarselock/store.go", "func (s *store) apply", "func (s store) apply",
		"./stage2_coarselock", "concurrent map|DATA RACE|increments|half of a batch|answers are violated|holds? .* in total"},
	{"an Unlock forgotten everywhere", "stage4_bucketlock/store.go", "\t\t\ts.buckets[i].mu.Unlock()\n", "\t\t\t_ = i\n",
		"./stage4_bucketlock", `stuck: \d+ × \(\*store\)\.apply, stage4_bucketlock/store\.go:\d+, waits in Mutex\.Lock`},
	{"no Compact", "stage4_bucketlock/store.go", "\theld = slices.Compact(held)", "\theld = slices.Clip(held)",
		"./stage4_bucketlock", `stuck: \d+ × \(\*store\)\.apply, stage4_bucketlock/store\.go:\d+, waits in Mutex\.Lock`},
	{"operations sorted by bucket", "stage4_bucketlock/store.go", "\tcopy(held, of)\n",
		"\tslices.SortFunc(ops, func(a, b wire.Op) int { return s.bucketOf(a.Key) - s.bucketOf(b.Key) })\n\tfor i := range ops {\n\t\tof[i] = s.bucketOf(ops[i].Key)\n\t}\n\tcopy(held, of)\n",
		"./stage4_bucketlock", `put a "1", put b "2", get a.*: answers`},
	{"one lock too few", "stage4_bucketlock/store.go", "\tfor _, i := range held {\n\t\ts.buckets[i].mu.Lock()", "\theld = held[1:]\n\tfor _, i := range held {\n\t\ts.buckets[i].mu.Lock()",
		"./stage4_bucketlock", "concurrent map|increments|half of a batch|answers are violated"},
	{"a negative index", "stage4_bucketlock/store.go", "int(maphash.String(s.seed, key) % uint64(len(s.buckets)))", "int(maphash.String(s.seed, key)) % len(s.buckets)",
		"./stage4_bucketlock", `index out of range \[-\d+\]`},
	{"workers that hold a mutex while they wait and run", "stage3_threadpool/pool.go",
		"\t\t\tfor job := range p.jobs {\n\t\t\t\tjob()\n\t\t\t}\n", "\t\t\tfor {\n\t\t\t\tmu.Lock()\n\t\t\t\tjob, ok := <-p.jobs\n\t\t\t\tif !ok {\n\t\t\t\t\treturn\n\t\t\t\t}\n\t\t\t\tjob()\n\t\t\t\tmu.Unlock()\n\t\t\t}\n",
		"./stage3_threadpool", `stuck: \d+ × newPool\.func1, stage3_threadpool/pool\.go:\d+, waits in Mutex\.Lock`},
	{"a pool that does not wait for the job", "stage3_threadpool/pool.go", "\t\t<-done\n", "",
		"./stage3_threadpool", "."},
}

func TestMistakes(t *testing.T) { try(t, mistakes, 1, mutant.namedFirst) }

// namedFirst checks that the first line of out that says more than which test failed shows
// the mistake.
func (m mutant) namedFirst(t *testing.T, out string) {
	first := ""
	for line := range strings.Lines(out) {
		if first = strings.TrimSpace(line); !strings.HasPrefix(first, "--- FAIL") {
			break
		}
	}
	if !regexp.MustCompile(m.shows).MatchString(first) {
		t.Errorf("the first line is %q, want %q:\n%s", first, m.shows, out)
	}
}
