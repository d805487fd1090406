package stagetest

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Mistakes that students make, as edits of a stage, and what its go test must say first: the
// cause, or the student's own line. With -race in front, only the race detector sees it. The
// first always runs: without a Flush, node panics.
var mistakes = []mutant{
	{"a Flush forgotten", "stage2_coarselock/server.go", "\t\tc.Flush()\n", "",
		"./stage2_coarselock", "answers were written and not flushed"},
	{"a goroutine that never ends", "stage2_coarselock/server.go", "\tdefer conns.Wait()\n", "\tdefer conns.Wait()\n\tgo func() { select {} }()\n",
		"./stage2_coarselock", `goroutines are left: 1 × serve\.func1, stage2_coarselock/server\.go:\d+, waits in select`},
	{"a read cache", "stage2_coarselock/store.go", "\treturn s.table.Apply(ops)\n}",
		"\tif results, ok := cache[ops[0].Key]; ok && len(ops) == 1 && ops[0].Kind == wire.Get {\n\t\treturn results\n\t}\n\tresults := s.table.Apply(ops)\n\tif ops[0].Kind == wire.Get {\n\t\tcache[ops[0].Key] = results[:1]\n\t}\n\treturn results\n}\n\nvar cache = make(map[string][]wire.Result)",
		"./stage2_coarselock", "get k.*: answers"},
	{"an Unlock too many", "stage2_coarselock/store.go", "\tdefer s.mu.Unlock()\n", "\tdefer s.mu.Unlock()\n\tdefer s.mu.Unlock()\n",
		"./stage2_coarselock", "unlock of unlocked mutex"},
	{"a negative index", "stage4_bucketlock/store.go", "int(maphash.String(s.seed, key) % uint64(len(s.buckets)))", "int(maphash.String(s.seed, key)) % len(s.buckets)",
		"-failfast=false ./stage4_bucketlock -run Test(Stage|Goals)", `^panicked: index out of range \[-\d+\]`},
	{"a pool that does not wait for the job", "stage3_threadpool/pool.go", "\t\t<-done\n", "",
		"./stage3_threadpool", `a job for each worker: .* done are \[1 0 0 1\], want \[1 0 0 0\]`},
	{"go without Wait", "stage2_coarselock/server.go", "conns.Go(func() { serveConn(n, c, s) })", "go serveConn(n, c, s)",
		"./stage2_coarselock", "serve has returned with|goroutines are left"},
	{"operations sorted by bucket", "stage4_bucketlock/store.go", "\tcopy(held, of)\n",
		"\tslices.SortFunc(ops, func(a, b wire.Op) int { return s.bucketOf(a.Key) - s.bucketOf(b.Key) })\n\tfor i := range ops {\n\t\tof[i] = s.bucketOf(ops[i].Key)\n\t}\n\tcopy(held, of)\n",
		"./stage4_bucketlock", `(put|get|cas) a .*: answers`},
	{"an Unlock forgotten on one path", "stage2_coarselock/store.go",
		"\tdefer s.mu.Unlock()\n", "\tif ops[0].Kind.Writes() {\n\t\tdefer s.mu.Unlock()\n\t}\n",
		"./stage2_coarselock", `stuck: \d+ × \(\*store\)\.apply, stage2_coarselock/store\.go:\d+, waits in Mutex\.Lock`},
	{"one lock held while answers are written", "stage2_coarselock/server.go",
		"\t\tn.Answer(c, s.apply)\n\t\tc.Flush()\n", "\t\ts.mu.Lock()\n\t\tn.Answer(c, s.table.Apply)\n\t\tc.Flush()\n\t\ts.mu.Unlock()\n",
		"./stage2_coarselock", "is a lock held while they are written"},
	{"a lock of a copy", "stage2_coarselock/store.go", "func (s *store) apply", "func (s store) apply",
		"./stage2_coarselock", "concurrent map|DATA RACE|increments|half of a batch|answers are violated|holds? .* in total"},
	{"an Unlock forgotten everywhere", "stage4_bucketlock/store.go", "\t\t\ts.buckets[i].mu.Unlock()\n", "\t\t\t_ = i\n",
		"-failfast=false ./stage4_bucketlock", `stuck: \d+ × \(\*store\)\.apply, stage4_bucketlock/store\.go:\d+, waits in Mutex\.Lock`},
	{"no Compact", "stage4_bucketlock/store.go", "\theld = slices.Compact(held)", "\theld = slices.Clip(held)",
		"./stage4_bucketlock", `stuck: \d+ × \(\*store\)\.apply, stage4_bucketlock/store\.go:\d+, waits in Mutex\.Lock`},
	{"one lock too few", "stage4_bucketlock/store.go", "\tfor _, i := range held {\n\t\ts.buckets[i].mu.Lock()", "\theld = held[1:]\n\tfor _, i := range held {\n\t\ts.buckets[i].mu.Lock()",
		"./stage4_bucketlock", "concurrent map|increments|half of a batch|answers are violated"},
	{"workers that hold a mutex while they wait and run", "stage3_threadpool/pool.go",
		"\tfor range workers {\n\t\tp.workers.Go(func() {\n\t\t\tfor job := range p.jobs {\n\t\t\t\tjob()\n\t\t\t}\n", "\tvar mu sync.Mutex\n\tfor range workers {\n\t\tp.workers.Go(func() {\n\t\t\tfor {\n\t\t\t\tmu.Lock()\n\t\t\t\tjob, ok := <-p.jobs\n\t\t\t\tif !ok {\n\t\t\t\t\treturn\n\t\t\t\t}\n\t\t\t\tjob()\n\t\t\t\tmu.Unlock()\n\t\t\t}\n",
		"./stage3_threadpool", `stuck in TestPool: \d+ × newPool\.func1, stage3_threadpool/pool\.go:\d+, waits in Mutex\.Lock`},
	{"a connection as a job", "stage3_threadpool/server.go",
		"\tturn := p.job(func() { n.Answer(c, s.apply) })\n\tfor c.Ready() {\n\t\tif !turn() {\n\t\t\tn.Refuse(c)\n\t\t}\n\t\tc.Flush()\n\t}\n",
		"\tp.job(func() {\n\t\tfor c.Ready() {\n\t\t\tn.Answer(c, s.apply)\n\t\t\tc.Flush()\n\t\t}\n\t})()\n",
		"./stage3_threadpool", "is a job a whole connection|does not hold a worker"},
	{"Busy while the job runs on", "stage3_threadpool/pool.go", "\t\t<-done\n\t\treturn true\n",
		"\t\tfor range 1 << 22 {\n\t\t\tif len(done) > 0 {\n\t\t\t\t<-done\n\t\t\t\treturn true\n\t\t\t}\n\t\t}\n\t\treturn false\n",
		"./stage3_threadpool -run TestStage", `refused true, found true|stuck: .*stage3_threadpool/pool\.go:\d+`},
	{"a flag in place of a lock", "stage2_coarselock/store.go", "\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n\treturn s.table.Apply(ops)\n}",
		"\tfor busy {\n\t}\n\tbusy = true\n\tdefer func() { busy = false }()\n\treturn s.table.Apply(ops)\n}\n\nvar busy bool",
		"-race ./stage2_coarselock", "DATA RACE"},
	{"readers together, in a path that writes", "stage2_coarselock/store.go", "\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n\treturn s.table.Apply(ops)\n}",
		"\tif len(ops) == 1 && ops[0].Kind == wire.Get {\n\t\trw.RLock()\n\t\tdefer rw.RUnlock()\n\t} else {\n\t\trw.Lock()\n\t\tdefer rw.Unlock()\n\t}\n\treturn s.table.Apply(ops)\n}\n\nvar rw sync.RWMutex",
		"-race ./stage2_coarselock -run TestStage", "DATA RACE"},
	{"one bucket at a time", "stage4_bucketlock/store.go", "\treturn table.Apply(ops, func(i int) *table.Table { return s.buckets[of[i]].table })\n",
		"\tfor _, i := range held[1:] {\n\t\ts.buckets[i].mu.Unlock()\n\t}\n\theld = held[:1]\n\treturn table.Apply(ops, func(i int) *table.Table { return s.buckets[of[i]].table })\n",
		"./stage4_bucketlock", "half of a batch|increments|concurrent map"},
}

func TestMistakes(t *testing.T) { try(t, mistakes, 1, mutant.namedFirst) }

// namedFirst checks that the first line of out that says more than which test failed shows
// the mistake.
func (m mutant) namedFirst(t *testing.T, out string) {
	shown := regexp.MustCompile(`(?s)(\npanic: .*?)\npanic: .*`).ReplaceAllString("\n"+out, "$1") // another goroutine may panic at the same moment
	if lines := strings.Count(shown, "\n"); lines > 34 {                                          // three say which test, package and program failed
		t.Errorf("%d lines:\n%s", lines, out)
	}
	if regexp.MustCompile(`(?m)^FAIL\t.*\t([2-9]\d|\d{3,})\.\d+s$`).MatchString(out) { // a stuck stage is noticed twice at most
		t.Errorf("more than 20s:\n%s", out)
	}
	if strings.Contains(out, "TestStage/") && strings.Contains(out, "TestGoals/") {
		t.Errorf("goals are tried after a broken promise:\n%s", out)
	}
	said := regexp.MustCompile(`(?m)^ *(--- FAIL|====).*\n`).ReplaceAllString(out, "")
	if first, _, _ := strings.Cut(said, "\n"); !regexp.MustCompile(m.shows).MatchString(strings.TrimSpace(first)) {
		t.Errorf("the first line is %q, want %q:\n%s", first, m.shows, out)
	}
}

// Again lets the next test try goals, although a promise was broken before.
func Again() { watching.broken = false }

// Stages are handed in as later ones. They must miss exactly the goals of the stages after
// them, and say why; that they pass the others, their own TestGoals says.
var unfinished = []mutant{
	{"stage 2", "stage2_coarselock/stage_test.go", "serve, 2)", "serve, 3)", "./stage2_coarselock -run TestGoals/Overload",
		"none was answered Busy"},
	{"stage 3", "stage3_threadpool/stage_test.go", "serve, 3)", "serve, 4)", "./stage3_threadpool -run TestGoals/Keys",
		"do all keys share a lock"},
	{"stage 1", "stage1_singlethread/stage_test.go", "serve, 1)", "serve, 4)", "-failfast=false ./stage1_singlethread -run TestGoals",
		"(?s)a silent client keeps another one waiting.*while they are written.*none was answered Busy.*is a job a whole connection.*do all keys share a lock"},
}

func TestUnfinishedStages(t *testing.T) { try(t, unfinished, 0, mutant.caught) }

// A goroutine writes a variable, and another one reads it a tenth of a second later. Is that a data race?
//
// Two accesses race if neither happens before the other. The order in which they came about is
// not enough, and they need not be at the same moment. What orders them is a channel, a
// lock, a WaitGroup or an atomic operation; see https://go.dev/ref/mem. Time orders nothing.
//
//	go test ./common/stagetest -run SpecimenHappensBefore -v
func TestSpecimenHappensBefore(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	exe := filepath.Join(t.TempDir(), "program.exe")
	build, err := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", exe, "./testdata/happensbefore").CombinedOutput()
	switch {
	case err != nil && regexp.MustCompile(`-race (requires cgo|is not supported)|C compiler`).Match(build):
		t.Skipf("there is no race detector here: %s", build)
	case err != nil:
		t.Fatalf("%v:\n%s", err, build)
	}
	for _, c := range []struct{ between, prediction, want string }{
		{"time", "the value is right, but it is still a race", "WARNING: DATA RACE\n" +
			"Read by main goroutine:\n  main.main() main.go:22\n" +
			"Previous write by goroutine:\n  main.main.func1() main.go:15\n" +
			"Goroutine (finished) created at:\n  main.main() main.go:14\n" +
			"the value is 42\nFound 1 data race(s)"},
		{"channel", "no race: the write happens before the close, the close before the receive, the receive before the read",
			"the value is 42"},
	} {
		t.Run(c.between, func(t *testing.T) {
			run := exec.CommandContext(t.Context(), exe, c.between)
			run.Env = append(run.Environ(), "GORACE=atexit_sleep_ms=0")
			out, err := run.CombinedOutput()
			got := essence(string(out))
			t.Logf("prediction: %s\nfound:\n    %s", c.prediction, strings.ReplaceAll(got, "\n", "\n    "))
			if got != c.want {
				t.Errorf("found (%v)\n%s\nwant\n%s", err, got, c.want)
			}
		})
	}
}

// essence returns what a report of the race detector says, without what differs each time:
// addresses, the goroutine's number and the directory. A function's line has its place behind it.
func essence(report string) string {
	report = regexp.MustCompile(`\n {6}.*[/\\](\S+:\d+) \+0x\w+`).ReplaceAllString(report, " $1")
	report = regexp.MustCompile(`( at 0x\w+| \d+)( by| \(|:)`).ReplaceAllString(report, "$2")
	return strings.Trim(regexp.MustCompile(`[=\r\n]*\n[=\r\n]*`).ReplaceAllString(report, "\n"), "=\r\n")
}
