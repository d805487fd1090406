package stagetest

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A mutant is one edit that breaks one promise, and the check that must see it.
type mutant struct {
	name     string
	file     string
	old, new string // old stands in file exactly once
	check    string // the arguments of go test
	shows    string // a regular expression: how the check fails
}

// The mutants. The first third runs always, all of them with LOCKSTEP_SLOW=1:
//
//	LOCKSTEP_SLOW=1 go test ./common/stagetest -run Mutants -v -timeout 20m
//
// Not here: Decode without recover. What makes gob panic is a type definition, and
// those are refused before gob sees them; no test can tell that mutant from the
// original. The recover stays, for what is not known.
var mutants = []mutant{
	// The table and its locks.
	{"stage 2 without its lock", "stage2_coarselock/store.go",
		"\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n", "",
		"-race ./stage2_coarselock -run TestStage/(Counters|Money|BatchesAre)", "DATA RACE|concurrent map"},
	{"stage 4 one bucket at a time", "stage4_bucketlock/store.go",
		"\tslices.Sort(held)\n", "\tif len(ops) > 1 {\n\t\tvar all []wire.Result\n\t\tfor i := range ops {\n\t\t\tall = append(all, s.apply(ops[i:i+1])...)\n\t\t}\n\t\treturn all\n\t}\n\tslices.Sort(held)\n",
		"./stage4_bucketlock -run TestStage/(Batches|Money)", "want|half of a batch"},
	{"stage 4 with unsorted locks", "stage4_bucketlock/store.go",
		"\tslices.Sort(held)\n", "\tslices.Sort(held)\n\tif ops[0].Key > ops[len(ops)-1].Key {\n\t\tslices.Reverse(held)\n\t}\n",
		"-tags interleave ./stage4_bucketlock -run Interleaving", "a deadlock: each waits"},
	{"Busy after the operation was applied", "common/node/node.go",
		"\tn.Stats.Requests.Add(1)\n", "\tif n.Stats.Requests.Add(1)%2 == 0 {\n\t\treturn wire.Response{Code: wire.Busy}\n\t}\n",
		"./stage3_threadpool -run TestStage/BusyMeansNotApplied", "refused true, and then found true"},
	{"an unbounded queue", "stage3_threadpool/pool.go",
		"make(chan func(), queue)", "make(chan func(), 1<<16+queue)",
		"./stage3_threadpool -run TestPool -timeout 20s", "want|deadlock|timed out"},
	{"jobs on the connection's goroutine", "stage3_threadpool/pool.go",
		"\tdone := make(chan struct{})\n", "\tjob()\n\tif true {\n\t\treturn true\n\t}\n\tdone := make(chan struct{})\n",
		"./stage3_threadpool -run TestPool -timeout 20s", "want|deadlock|timed out"},
	{"a drain that drops what has arrived", "common/wire/conn.go",
		"\tif c.stopped && (c.swept || !c.server) {\n", "\tif c.stopped {\n",
		"./common/wire -run TestStopTakesWhatHasArrived", "requests answered, want 5000"},
	{"a client that repeats unknown writes", "common/client/request.go",
		"fate == lost && !writes", "fate == lost && (!writes || true)",
		"./stage2_coarselock -run TestStage/CutsAtEveryByte", "the insert (is|was)|cut inserts were"},
	{"a reused request struct", "common/wire/codec.go",
		"\t*m = *new(T)\n", "",
		"./common/wire -run TestDecodeClears", "FAIL: TestDecodeClears"},

	{"stage 2 locks writes alone", "stage2_coarselock/store.go",
		"\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n", "\tif ops[0].Kind.Writes() {\n\t\ts.mu.Lock()\n\t\tdefer s.mu.Unlock()\n\t}\n",
		"-race ./stage2_coarselock -run TestStage/(Counters|Money|BatchesAre)", "DATA RACE|concurrent map"},
	{"memory that changes after the answer", "common/table/table.go",
		"\tt.values[op.Key] = value\n", "\tt.values[op.Key] = append(t.values[op.Key][:0], value...)\n",
		"./common/table", "FAIL: TestNothingChangesInPlace"},
	{"a reused value slice", "common/wire/codec.go",
		"\t*m = *new(T)\n", "\tif r, ok := any(m).(*Request); ok {\n\t\tfor i := range r.Ops {\n\t\t\tr.Ops[i] = Op{Value: r.Ops[i].Value[:0]}\n\t\t}\n\t}\n",
		"./common/wire -run TestDecodeClears", "a value decoded before is now"},
	{"CompareAndSwap checked in sequence", "common/table/table.go",
		"\tfor i, op := range ops {\n\t\tresults[i] = tableOf(op.Key).do(op)\n\t}\n", "\tfor i, op := range ops {\n\t\tif op.Kind == wire.CompareAndSwap && !tableOf(op.Key).matches(op) {\n\t\t\tresults[i].Status = wire.Mismatch\n\t\t\tcontinue\n\t\t}\n\t\tresults[i] = tableOf(op.Key).do(op)\n\t}\n",
		"./stage1_singlethread -run TestStage/Batches$", "want replaced swapped|want swapped swapped"},
	{"a pool whose job is the connection", "stage3_threadpool/server.go",
		"\tfor c.Ready() {\n\t\tif !pool.run(func() { n.Answer(c, store.apply) }) {\n\t\t\tn.Refuse(c)\n\t\t}\n\t\tc.Flush()\n\t}\n", "\tpool.run(func() {\n\t\tfor c.Ready() {\n\t\t\tn.Answer(c, store.apply)\n\t\t\tc.Flush()\n\t\t}\n\t})\n",
		"./stage3_threadpool -run TestSpecimenConnectionAsJob", "the third client waits 1m0s, want 0s"},
	{"a worker lost to a panic", "common/node/node.go",
		"if p := recover(); p != nil {", "if p := any(nil); p != nil {",
		"./common/node -run TestAnswerRecovers", "panic:"},
	{"one hash for node and bucket", "stage4_bucketlock/store.go",
		"\treturn int(maphash.String(s.seed, key) % uint64(len(s.buckets)))\n", "\th := uint64(14695981039346656037)\n\tfor i := range len(key) {\n\t\th = (h ^ uint64(key[i])) * 1099511628211\n\t}\n\t_ = maphash.String\n\treturn int(h % uint64(len(s.buckets)))\n",
		"./stage4_bucketlock -run TestKeysOfOneNodeFillAllBuckets", "FAIL: TestKeysOfOneNode"},
	{"answers out of order", "common/node/node.go",
		"\t\t\tc.WriteResponse(&response)\n", "\t\t\tdefer c.WriteResponse(&response)\n",
		"./stage1_singlethread -run TestStage/AnswersInOrder", "answer 0 of 300"},
	{"a deadline set without a look at the stop", "common/wire/conn.go",
		"\tcase c.stopped:\n\t\tbound = sweepTime\n", "",
		"./common/wire -run TestStopEndsAnIdleServer -timeout 8s", "timed out"},
	{"a client that swallows Busy", "common/client/request.go",
		"if fate != notRun || err == ErrBusy && !insist {", "if err == ErrBusy && !insist {\n\t\t\treturn make([]wire.Result, len(request.Ops)), answered, nil\n\t\t}\n\t\tif fate != notRun {",
		"./common/client -run TestOnceReturnsBusy", "FAIL"},
	{"a buffer as large as was announced", "common/wire/conn.go",
		"c.in = make([]byte, 0, firstBuffer)", "c.in = make([]byte, 0, maxBuffer)",
		"./common/wire -run TestBufferGrows", "took a buffer of"},
	{"a client that does not repeat what a Goodbye cut off", "common/client/request.go",
		"notRun, errors.New(\"the server is stopping\")", "lost, errors.New(\"\")",
		"./stage2_coarselock ./common/client", "in doubt|FAIL: TestOutcomes"},
	{"a read that is given up when it is cut", "common/client/request.go",
		"fate == lost && !writes", "fate == lost && !writes && false",
		"./stage2_coarselock -run TestStage/CutsAtEveryByte", "reads are repeated"},
	{"no Goodbye", "common/wire/conn.go",
		"\t\tc.WriteResponse(&Response{Code: Goodbye})\n", "",
		"./stage3_threadpool -run TestStage/StopEndsIdleClients", "want goodbye"},
	{"a secret that is not compared", "common/wire/greeting.go",
		"\tif !hmac.Equal(proof[nonceSize:], mac(\"client\", c.hello, serverNonce, clientNonce)) {", "\tif false {",
		"./common/wire -run TestSecret", "FAIL: TestSecret"},
	{"a node that owns every key", "common/node/node.go",
		"if n.Config.Owner(ops[i].Key) != n.Self {", "if n.Config.Owner(ops[i].Key) != n.Self && false {",
		"./stage1_singlethread -run TestStage/WrongNode", "want wrong node"},
	{"one connection too many", "common/node/node.go",
		"full := len(n.open) >= limit", "full := false",
		"./common/node -run TestMaxConnections -timeout 20s", "FAIL|timed out"},
	{"a worker that writes", "stage3_threadpool/server.go",
		"\t\tif !pool.run(func() { n.Answer(c, store.apply) }) {\n", "\t\tif !pool.run(func() { n.Answer(c, store.apply); c.Flush() }) {\n",
		"./stage3_threadpool -run TestAttackersHoldNoWorker", "put 0 beside 9 attackers"},
	{"no write deadline", "common/wire/conn.go",
		"\tlimit := c.limits.Write\n", "\tlimit := 0 * c.limits.Write\n",
		"./stage2_coarselock -run TestStage/ClientThatNeverReads -timeout 8s", "FAIL|timed out"},
	{"a large request that does not ask for memory", "common/node/node.go",
		"\t\tn.memory.take(cost)\n", "\t\tn.memory.take(0)\n",
		"./common/node -run TestBudgetIsGivenBack", "a large request holds no memory"},
	{"memory that is not given back", "common/node/node.go",
		"\t\tn.memory.give(cost)\n", "",
		"./common/node -run TestBudgetIsGivenBack", "are free at the end"},
	{"a large request that is overtaken", "common/node/budget.go",
		"\tb.turn <- struct{}{}\n\tdefer func() { <-b.turn }()\n", "",
		"./common/node -run TestBudget$", "want only the first"},
	{"bytes left over", "common/wire/codec.go",
		"n != len(frame) {", "n > len(frame) {",
		"./common/wire -run TestHostile", "a byte|bytes after the value"},
	{"an inner length that is not compared", "common/wire/codec.go",
		"!ok || n != uint64(len(rest)) || ", "!ok || ",
		"./common/wire -run TestHostile", "an inner length|two messages"},
	{"a line for each stranger", "common/node/node.go",
		"quiet := now.Sub(log.last) < time.Second", "quiet := false",
		"./stage2_coarselock -run TestStage/DrainOfAProcess", "lines in the log, want"},
	{"a log that kills", "common/node/main.go",
		"\tsignal.Ignore(syscall.SIGPIPE)", "\tsignal.Reset(syscall.SIGPIPE)",
		"./common/node -run TestLogThatIsLost", "the terminal is closed: exit code|EOF|refused"},
	{"statistics that are lost in silence", "common/node/main.go",
		"err := <-written; err != nil {", "err := <-written; err != nil && false {",
		"./common/node -run TestLogThatIsLost", "exit code 0"},
	{"a closed terminal that kills", "common/node/main.go",
		"\tif !signal.Ignored(syscall.SIGHUP) {", "\tif false {",
		"./common/node -run TestSignals", "hangup"},
	{"nohup that is not heard", "common/node/main.go",
		"\tif !signal.Ignored(syscall.SIGHUP) {", "\tif true {",
		"./common/node -run TestNohup", "FAIL"},
	{"a log that the server waits for", "common/node/main.go",
		"newHandler(said, stage", "newHandler(stderr, stage",
		"./common/node -run TestFullPipe -timeout 20s", "FAIL"},
	{"no back-off", "common/node/node.go",
		"\t\tpause = min(max(2*pause, 5*time.Millisecond), time.Second)\n", "\t\tpause = 0\n",
		"./common/node -run TestAcceptBacksOff", "pauses of"},
	{"a frame limit that is not checked", "common/wire/conn.go",
		"if n == 0 || n > MaxFrame {", "if n == 0 {",
		"./common/wire -run TestGarbage -timeout 8s", "want|timed out"},
	{"a barrier that takes a later word for an earlier one", "common/barrier/core.go",
		", m.Round != c.round:", ":",
		"./common/barrier", "FAIL"},
	{"a barrier that is ready before it arrived", "common/barrier/core.go",
		"a.Ready = 1 <= q.Round && q.Round <= c.round", "a.Ready = 1 <= q.Round && q.Round <= max(1, c.round)",
		"./common/barrier", "FAIL|panic"},
	{"a barrier that forgets what it passed", "common/barrier/core.go",
		"\t\ta.Passed = q.Round < c.round || c.passed\n", "\t\ta.Passed = q.Round < c.round || c.passed\n\t\tif a.Passed {\n\t\t\treturn c.question(q.From)\n\t\t}\n",
		"./common/barrier -run TestSearch -timeout 60s", "FAIL|timed out"},
	{"a barrier of one phase", "common/barrier/core.go",
		"agrees := i == c.self ||", "agrees := true || i == c.self ||",
		"./common/barrier", "FAIL"},
}

func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles many programs")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	run := mutants
	if os.Getenv("LOCKSTEP_SLOW") == "" {
		run = mutants[:len(mutants)/3]
	}
	for _, m := range run {
		t.Run(m.name, func(t *testing.T) {
			start := time.Now()
			out := m.run(t)
			if !regexp.MustCompile(m.shows).MatchString(out) {
				t.Errorf("go test %s does not show %q:\n%s", m.check, m.shows, out)
			}
			t.Logf("caught by go test %s in %.1fs", m.check, time.Since(start).Seconds())
		})
	}
}

// run builds the mutant and runs its check, which must fail; it returns what that said.
func (m mutant) run(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, m.file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has %d places for the edit, want 1", m.file, n)
	}
	// The edit is laid over the tree, which stays as it is.
	edited, overlay := filepath.Join(t.TempDir(), "edited.go"), filepath.Join(t.TempDir(), "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: edited}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{edited: []byte(strings.Replace(string(source), m.old, m.new, 1)), overlay: replace} {
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-count=1", "-overlay", overlay}, strings.Fields(m.check)...)...)
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "LOCKSTEP_SLOW=", "GOMAXPROCS=4") // a race needs two at once
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("survives go test %s", m.check)
	}
	if strings.Contains(string(out), "[build failed]") {
		t.Fatalf("does not build:\n%s", out)
	}
	return string(out)
}
