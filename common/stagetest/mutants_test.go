package stagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A mutant is an edit that breaks one promise, and the check that must fail because of it.
type mutant struct {
	name     string
	file     string
	old, new string // old occurs in file exactly once
	check    string // the arguments of go test
	shows    string // a regular expression: how the check fails
}

// The text of each mutant must be in its file once. All of them are compiled and run when slow.
//
// One is missing: Decode without recover. No test can tell it from the original, because a
// type definition, which makes gob panic, is refused before gob sees it. The recover stays
// for unknown cases.
var mutants = []mutant{
	// The table and its locks.
	{"memory that changes after the answer", "common/table/table.go", "e.value = op.Value", "e.value = append(e.value[:0], op.Value...)",
		"./common/table -run TestNothingChangesInPlace", "FAIL: TestNothingChangesInPlace"},
	{"stage 4 with unsorted locks", "stage4_bucketlock/store.go",
		"slices.Sort(held)", "slices.Sort(held)\n\tif ops[0].Key > ops[len(ops)-1].Key {\n\t\tslices.Reverse(held)\n\t}",
		"-tags interleave ./stage4_bucketlock -run Interleaving", "a deadlock: each waits"},
	{"stage 4 locks one bucket of several", "stage4_bucketlock/store.go", "held = slices.Compact(held)", "held = slices.Compact(held)[:1]",
		"-tags interleave ./stage4_bucketlock -run Interleaving", "FAIL: TestEveryInterleaving/BatchAgainstIts"},
	{"stage 4 with a negative index", "stage4_bucketlock/store.go", "int(maphash.String(s.seed, key) % uint64(len(s.buckets)))", "int(maphash.String(s.seed, key)) % len(s.buckets)",
		"-tags interleave ./stage4_bucketlock -run Interleaving", `panicked: .*index out of range \[-\d+\]: \(\*store\)\.apply, stage4_bucketlock/store\.go:\d+\n`},
	{"stage 2 without its lock", "stage2_coarselock/store.go", "\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n", "",
		"-race ./stage2_coarselock -run TestStage/(Counters|Money|BatchesAre)", "DATA RACE|concurrent map"},
	{"stage 4 one bucket at a time", "stage4_bucketlock/store.go",
		"slices.Sort(held)", "if len(ops) > 1 {\n\t\tvar all []wire.Result\n\t\tfor i := range ops {\n\t\t\tall = append(all, s.apply(ops[i:i+1])...)\n\t\t}\n\t\treturn all\n\t}\n\tslices.Sort(held)",
		"./stage4_bucketlock -run TestStage/(Batches|Money)", "want|half of a batch"},
	{"Busy after the operation was applied", "common/node/node.go",
		"n.Stats.Requests.Add(1)", "if n.Stats.Requests.Add(1)%2 == 0 {\n\t\treturn wire.Response{Code: wire.Busy}\n\t}",
		"./stage3_threadpool -run TestStage/BusyMeansNotApplied", "refused true, found true"},
	{"an unbounded queue", "stage3_threadpool/pool.go", "places := workers", "places := 1<<16 + workers",
		"./stage3_threadpool -run TestPool -timeout 20s", "want|close returned|deadlock|timed out"},
	{"jobs on the connection's goroutine", "stage3_threadpool/pool.go",
		"return func() bool {\n", "return func() bool {\n\t\tdo()\n\t\tif true {\n\t\t\treturn true\n\t\t}\n",
		"./stage3_threadpool -run TestPool -timeout 20s", "want|close returned|deadlock|timed out"},
	{"a drain that drops what has arrived", "common/wire/conn.go", " && (c.swept || !c.server)", "",
		"./common/wire -run TestStopTakesWhatHasArrived", "requests answered, want 200"},
	{"a client that repeats unknown writes", "common/client/request.go", "fate == Lost && wire.Writes(ops)", "false",
		"./common/client -run TestOutcomes", "FAIL: TestOutcomes/.*/cas"},
	{"a reused request struct", "common/wire/codec.go", "\tc.reset(m)\n", "",
		"./common/wire -run TestDecodeClears", "FAIL: TestDecodeClears"},
	{"stage 2 locks writes alone", "stage2_coarselock/store.go",
		"\ts.mu.Lock()\n\tdefer s.mu.Unlock()\n", "\tif ops[0].Kind.Writes() {\n\t\ts.mu.Lock()\n\t\tdefer s.mu.Unlock()\n\t}\n",
		"-race ./stage2_coarselock -run TestStage/(Counters|Money|BatchesAre)", "DATA RACE|concurrent map"},
	{"a reused value slice", "common/wire/codec.go", "append([]byte(nil), value...)", "append(ops[i].Value[:0], value...)",
		"./common/wire -run TestDecodeClears", "a value decoded before is now"},
	{"an answer to another request", "common/wire/message.go", "r.Number != want", "false",
		"./common/wire -run TestSurplusAnswer", "want malformed"},
	{"CompareAndSwap checked in sequence", "common/table/table.go",
		"results[i] = tableOf(i).do(&ops[i])", "if ops[i].Kind == wire.CompareAndSwap && !tableOf(i).matches(&ops[i]) {\n\t\t\tresults[i].Status = wire.Mismatch\n\t\t\tcontinue\n\t\t}\n\t\tresults[i] = tableOf(i).do(&ops[i])",
		"./stage1_singlethread -run TestStage/Batches$", "want replaced swapped|want swapped swapped"},
	{"a pool whose job is the connection", "stage3_threadpool/server.go",
		"{ n.Answer(c, s.apply) })\n\tfor c.Ready() {\n\t\tif !turn() {\n\t\t\tn.Refuse(c)\n\t\t}\n\t\tc.Flush()\n\t}\n", "{\n\t\tfor c.Ready() {\n\t\t\tn.Answer(c, s.apply)\n\t\t\tc.Flush()\n\t\t}\n\t})\n\tturn()\n",
		"./stage3_threadpool -run TestSpecimenConnectionAsJob", "the third client waits 1m0s, want 0s"},
	{"a worker lost to a panic", "common/node/node.go", "recover(); p", "any(nil); p",
		"./common/node -run TestAnswerRecovers", "panic:"},
	{"one hash for node and bucket", "stage4_bucketlock/store.go",
		"maphash.String(s.seed, key)", "func() uint64 {\n\t\th := uint64(14695981039346656037)\n\t\tfor i := range len(key) {\n\t\t\th = (h ^ uint64(key[i])) * 1099511628211\n\t\t}\n\t\treturn h\n\t}()",
		"./stage4_bucketlock -run TestKeysOfOneNodeFillAllBuckets", "FAIL: TestKeysOfOneNode"},
	{"answers out of order", "common/node/node.go", "c.WriteResponse(&t.response)", "defer c.WriteResponse(&t.response)",
		"./stage1_singlethread -run TestStage/AnswersInOrder", "answer 0 of 300"},
	{"a deadline set without a look at the stop", "common/wire/conn.go", "\tcase c.stopped:\n\t\tfrom, bound, late = now, sweepTime, nil\n", "",
		"./common/wire -run TestStopEndsAnIdleServer -timeout 8s", "timed out"},
	{"an early deadline taken for silence", "common/wire/conn.go", "!c.stopped && c.reading.passed()", "!c.stopped",
		"./common/wire -run TestDeadlines", "a frame every 50 s"},
	{"a write cut by the deadline of another", "common/wire/conn.go", " && c.writeOn()", " && false",
		"./common/wire -run TestWriteDeadline", "write 1: false"},
	{"a client that swallows Busy", "common/client/request.go",
		"case fate == Answered:", "case err == ErrBusy && !insist:\n\t\t\treturn make([]wire.Result, len(ops)), nil\n\t\tcase fate == Answered:",
		"./common/client -run TestOnceReturnsBusy", "FAIL"},
	{"a buffer as large as was announced", "common/wire/conn.go", "c.in = make([]byte, 0, firstBuffer)", "c.in = make([]byte, 0, maxBuffer)",
		"./common/wire -run TestBufferGrows", "took a buffer of"},
	{"a client that does not repeat what a Goodbye cut off", "common/client/request.go",
		"NotRun, errors.New(\"the server is stopping\")", "Lost, errors.New(\"\")", "./stage2_coarselock ./common/client", "in doubt|FAIL: TestOutcomes"},
	{"a read that is given up when it is cut", "common/client/request.go", "fate == Lost && wire.Writes(ops)", "fate == Lost",
		"./common/client -run TestOutcomes", "FAIL: TestOutcomes/.*/get"},
	{"a batch that takes its connections all at once", "common/client/request.go",
		"got := cl.collect(ctx, peers, false)\n\treturn Divide(owners, ops, func(node int, part []wire.Op) ([]wire.Result, error) {\n\t\tp := cl.peers[node]\n",
		"got := make([]gotten, len(peers))\n\treturn Divide(owners, ops, func(node int, part []wire.Op) ([]wire.Result, error) {\n\t\tp := cl.peers[node]\n\t\tgot[slices.Index(peers, p)] = cl.collect(ctx, []*peer{p}, false)[0]\n",
		"./common/client -run TestClientsDoNotDeadlock", "the two took"},
	{"a client that keeps what another waits for", "common/client/peer.go", "p.cl.yield(p)", "",
		"./common/client -run TestClientsDoNotDeadlock", "the two took (29.9|30)"},
	{"a batch that holds on while a node is silent", "common/client/peer.go", "case silent && holding:", "case false:",
		"./common/client -run TestBatchGivesBack", "node 0 was held for"},
	{"a full node that is dialled by every call", "common/client/peer.go", "p.retrying || p", "p",
		"./common/client -run TestFullNode", "dials of a full node, want"},
	{"dials without a bound", "common/client/peer.go", "min(len(p.waiting), maxDials)", "len(p.waiting)",
		"./common/client -run TestFullNode", "dials of a full node, want"},
	{"a greeting that is waited for without end", "common/client/peer.go",
		"patience, ErrNotGreeted", "time.Hour*patience, ErrNotGreeted", "./common/client -run TestLostGreeting", "none is served"},
	{"a batch that is validated in parts", "common/client/request.go", "ops}).Validate(); err != nil", "ops}).Validate(); err != nil && false",
		"./common/client -run TestInvalidOperations", "want not run: "},
	{"a read that is repeated after a panic", "common/client/request.go", "if !wire.Writes(ops) {", "if false {",
		"./common/client -run TestOutcomes", "FAIL: TestOutcomes/failed/get"},
	{"a mismatch that is tried again", "common/client/peer.go", "\t\tp.fail(err)\n", "",
		"./common/client -run TestHostileGreetings", "and final true"},
	{"the client's own trouble taken for the node's", "common/client/peer.go", "\t\treturn slices.Contains", "\t\treturn true || slices.Contains",
		"./common/client -run TestOwnTrouble", "too many open files.*want down false"},
	{"a pause that does not grow", "common/client/peer.go", "firstPause<<min(tries, 16)", "firstPause",
		"./common/client -run TestRetriesBackOff", "want 1ms to 2ms"},
	{"no Goodbye", "common/wire/conn.go", "c.WriteResponse(&Response{Code: Goodbye})", "",
		"./stage3_threadpool -run TestStage/StopEndsIdleClients", "want goodbye"},
	{"a secret that is not compared", "common/wire/greeting.go",
		`!hmac.Equal(proof[nonceSize:], mac("client"`, `false && !hmac.Equal(proof[nonceSize:], mac("client"`,
		"./common/wire -run TestSecret", "FAIL: TestSecret"},
	{"a node that owns every key", "common/node/node.go", "Owner(ops[i].Key) != n.Self", "Owner(ops[i].Key) != n.Self && false",
		"./common/node -run TestWrongNode", "FAIL: TestWrongNode"},
	{"one connection too many", "common/node/node.go", "n.Stats.Open.Load() >= int64(s.MaxConnections)", "false",
		"./common/node -run TestStrangersGiveWay -timeout 20s", "FAIL|timed out"},
	{"strangers who hold on to their places", "common/control/control.go", "\t\ts.conns[0].Close() // does not wait\n", "",
		"./common/node -run TestStrangersGiveWay", "want strangers that gave way"},
	{"a place for all who were greeted", "common/node/node.go", "s.Open.Add(1) > int64(c.node.Config.Server.MaxConnections)", "s.Open.Add(1) < 0",
		"./common/node -run TestStrangersGiveWay", "want goodbye"},
	{"a turn of any number of requests", "common/node/node.go", "i < turnRequests; i++", "true; i++",
		"./common/node -run TestTurns", "want turns of"},
	{"a turn of any number of operations", "common/node/node.go", "room -= ops", "room -= 0*ops",
		"./common/node -run TestTurns", "want turns of"},
	{"a refused turn of any number of requests", "common/node/node.go", "i < turnRequests && c.Skip", "c.Skip",
		"./common/node -run TestRefuse$", "refused 20 requests"},
	{"a refused connection that does not pause", "common/node/node.go", "if c.pause > 0 {", "if false {",
		"./common/node -run TestRefuse$", "turns after 0s 0s"},
	{"a pause that outlasts the server", "common/node/node.go", "control.Pause(c.ctx,", "control.Pause(context.Background(),",
		"./common/node -run TestRefuse$", "0s 1ms 2ms "},
	{"a pause that is not reset", "common/node/node.go", "\tc.pause = 0\n", "",
		"./common/node -run TestRefuse$", "32ms 32ms 32ms 32ms"},
	{"a refusal while a worker is free", "stage3_threadpool/pool.go",
		"<-p.places; done <- struct{}{}", "done <- struct{}{}; for range 1 << 20 {}; <-p.places", // as a worker that takes its time
		"./stage3_threadpool -run TestFreeWorker", "was refused"},
	{"a Goodbye with no time", "common/wire/conn.go", "c.closing = true", "c.closing, c.stopped = true, true",
		"./common/wire -run TestGoodbyeReaches", "want goodbye"},
	{"a connection closed over unread bytes", "common/wire/conn.go", "\t\t\tio.Copy(io.Discard, c.nc)\n", "\t\t\tio.ReadFull(c.nc, nil)\n",
		"./common/wire -run TestGoodbyeReaches", "want it to read on"},
	{"locks that a panic leaves held", "stage4_bucketlock/store.go",
		"\tdefer func() {\n", "\tdefer func() {\n\t\tif p := recover(); p != nil {\n\t\t\tpanic(p)\n\t\t}\n",
		"./stage4_bucketlock -run TestPanicFrees", "stuck in TestPanicFrees"},
	{"a worker that writes", "stage3_threadpool/server.go", "n.Answer(c, s.apply) })", "n.Answer(c, s.apply); c.Flush() })",
		"./stage3_threadpool -run TestGoals/ClientThatNeverReads", "while they are written, or a worker"},
	{"no write deadline", "common/wire/conn.go", "cmp.Or(c.limits.Write, forever)", "time.Duration(forever)",
		"./stage2_coarselock -run TestStage/ClientThatNeverReads -timeout 8s", "FAIL|timed out"},
	{"a large request that does not ask for memory", "common/node/node.go", "take(cost)", "take(0)",
		"./common/node -run TestBudgetIsGivenBack", "a large request holds no memory"},
	{"memory that is not given back", "common/node/node.go", "n.memory.give(cost)", "",
		"./common/node -run TestBudgetIsGivenBack", "are free at the end"},
	{"a large request that is overtaken", "common/node/node.go", "\tb.turn <- struct{}{}\n\tdefer func() { <-b.turn }()\n", "",
		"./common/node -run TestBudget$", "want only the first"},
	{"bytes left over", "common/wire/codec.go", "left != 0", "left < 0",
		"./common/wire -run TestHostile", "a byte|bytes after the value"},
	{"a list with a number longer than necessary", "common/wire/codec.go", " || size > 1 && p.rest[size-1] == 0 || n >", " || n >",
		"./common/wire -run TestHostile", "a key length longer"},
	{"an inner length that is not compared", "common/wire/codec.go", " || n != uint64(len(rest))", "",
		"./common/wire -run TestHostile", "an inner length|two messages"},
	{"a line for each stranger", "common/node/log.go", "r.Time.Sub(l.at) < time.Second", "false",
		"./common/node -run TestLogIsRateLimited", "FAIL: TestLogIsRateLimited"},
	{"a log that kills", "common/node/main.go", "\tsignal.Ignore(syscall.SIGPIPE)", "\tsignal.Reset(syscall.SIGPIPE)",
		"./common/node -run TestSignals", "is closed: exit code|EOF|refused"},
	{"statistics that are lost in silence", "common/node/main.go", "; failed != nil {", "; failed != nil && false {",
		"./common/node -run TestSignals", "exit code 0"},
	{"a closed terminal that kills", "common/node/main.go", "!signal.Ignored(syscall.SIGHUP)", "false",
		"./common/node -run TestSignals", "hangup"},
	{"nohup that is not heard", "common/node/main.go", "!signal.Ignored(syscall.SIGHUP)", "true",
		"./common/node -run TestSignals", "hangup"},
	{"no back-off", "common/node/node.go", "min(max(2*pause, 5*time.Millisecond), time.Second)", "0",
		"./common/node -run TestAcceptBacksOff", "pauses of"},
	{"a frame limit that is not checked", "common/wire/conn.go", " || n > MaxFrame", "",
		"./common/wire -run TestGarbage -timeout 8s", "want|timed out"},
	{"a barrier that takes a later word for an earlier one", "common/barrier/core.go", ", m.Round != c.round:", ":",
		"./common/barrier", "FAIL"},
	{"a barrier that is ready before it arrived", "common/barrier/core.go", "q.Round <= c.round", "q.Round <= max(1, c.round)",
		"./common/barrier", "FAIL|panic"},
	{"a barrier that forgets what it passed", "common/barrier/core.go",
		"a.Passed = q.Round < c.round || c.passed", "a.Passed = q.Round < c.round || c.passed\n\t\tif a.Passed {\n\t\t\treturn c.question(q.From)\n\t\t}",
		"./common/barrier -run TestSearch -timeout 60s", "FAIL|timed out"},
	{"a barrier of one phase", "common/barrier/core.go", "agrees := i == c.self ||", "agrees := true || i == c.self ||",
		"./common/barrier", "FAIL"},
	{"work that ends when a sleep does", "common/metrics/count.go", "rest > 0; rest = end - now()", "rest > 0; rest = 0",
		"./common/metrics -run TestSleepUntil", "2.3ms slept 1.5"},
	{"figures of two starts subtracted", "common/metrics/stats.go", "if s.Incarnation != earlier.Incarnation {", "if false {",
		"./common/metrics -run TestSnapshot", "after a restart: got"},
	{"a hot lock hidden by the others", "common/metrics/stats.go", "most := max(float64(s.Hot.Acquired), ", "most := max(0, ",
		"./common/metrics -run TestHeld", "want 0.8"},
	{"a restart that nobody mentions", "common/barrier/core.go", "m.Passed && !slices.Contains(m.Seen, c.incarnation)", "false",
		"./common/node -run TestNodesWait", "did not log|ended without logging"},
	{"a restart taken for a violation", "bench/check/check.go", "err != nil || verdict == lincheck.Violated", "false",
		"./bench/check -run TestRestarted", "error <nil>, want no verdict"},
	{"two spellings of one socket", "common/cluster/config.go", `"127.0.0.1": "localhost", `, "",
		"./common/cluster -run TestOneSocket", "want one socket: true"},
	{"a node on every address beside another", "common/cluster/config.go", `|| host == "*" || other == "*"`, "",
		"./common/cluster -run TestOneSocket", "want one socket: true"},
	{"an earlier report replaced by no round", "bench/save.go", `o.command != "report" && `, "false && ",
		"./bench -run TestFinish", "the file of an earlier run holds"},
	{"a link replaced by a file", "bench/save.go", "\tpath, err := filepath.EvalSymlinks(out.path)\n\told", "\tpath, err := out.path, error(nil)\n\told",
		"./bench -run TestSaveThroughLinks", "want the report between two rounds|want three links and a file"},
	{"a bound printed as known", "bench/load/result.go", "level <= 1", "true",
		"./bench/report -run TestUnanswered", "at least are"},
	{"unfinished requests that are no failures for benchstat", "bench/report/columns.go",
		"run.Failed()+run.Unanswered()", "run.Failed()", "./bench/report -run TestUnanswered", "the line for benchstat is"},
	{"a ratio to a bound printed as known", "bench/report/summary.go", `r.Bound = "at most"`, `r.Bound = ""`,
		"./bench/report -run TestRatioOfBounds", `want "at most`},
	{"refused dials that nobody sees", "bench/report/outline.go", `add(s.RefusedDials,`, `add(0*s.RefusedDials,`,
		"./bench/report -run TestNotServed", "there is no"},
	{"a check that does not know when calls began", "bench/check/check.go", "Start: h.clock.Add(1)", "Start: 0 * h.clock.Add(1)",
		"./bench/check -run TestViolated", "want violated"},
	{"rounds that share their servers", "bench/experiment/experiment.go",
		"return plan.Bed.Use(ctx, s.Start, func(ctx context.Context, servers *testbed.Servers) error {",
		"start := func(ctx context.Context) (*testbed.Servers, error) {\n\t\tfor _, kept := range plan.Bed.Running {\n\t\t\tif kept.Name == s.Name {\n\t\t\t\treturn &testbed.Servers{Name: s.Name, Target: kept.Target}, nil\n\t\t\t}\n\t\t}\n\t\tkept, err := s.Start(ctx)\n\t\tif err != nil {\n\t\t\treturn nil, err\n\t\t}\n\t\treturn &testbed.Servers{Name: s.Name, Target: kept.Target}, nil\n\t}\n\treturn plan.Bed.Use(ctx, start, func(ctx context.Context, servers *testbed.Servers) error {",
		"./bench/experiment -run TestRun$", "started 1 times"},
	{"only the first requests after a stall are late", "bench/load/loop.go", "p.now() - late", "p.now()",
		"./bench/load -run TestLateIsLate", "want the 100"},
	{"a client that does not notice that it was stopped", "bench/load/result.go", "late > tolerated", "late > time.Hour",
		"./bench/load -run TestStallsOfTheClient", "stalled for 0s"},
	{"a round in which nobody was answered that has not failed", "bench/load/result.go", "case r.Requests == 0:", "case r.Requests == 0 && r.Unfinished > 0:",
		"./bench/load -run TestNobodyIsAnswered", "has the error <nil>"},
	{"a slip of requests that failed", "bench/load/loop.go",
		"\tswitch {\n\tcase err == nil:\n\t\tt.Requests++", "\tif p.pace != nil {\n\t\tRecord(&t.Slips, r.slip)\n\t}\n\tswitch {\n\tcase err == nil:\n\t\tt.Requests++",
		"./bench/load -run TestNobodyIsAnswered", "slips &"},
	{"refused dials that are not counted", "common/client/peer.go", "p.cl.refused.Add(1)", "",
		"./bench/load -run TestNoPlace", "0 dials refused"},
	{"a server's word that is lost", "bench/load/result.go", "NotServed: why,", "NotServed: why[:0],",
		"./bench/load -run TestNoPlace", `because of "",`},
}

func TestMutants(t *testing.T) { try(t, mutants, 0, mutant.caught) }

// try runs the check of each mutant, of the first few alone unless slow, and has judge look
// at what it prints.
func try(t *testing.T, list []mutant, few int, judge func(m mutant, t *testing.T, out string)) {
	if testing.Short() {
		t.Skip("compiles many programs")
	}
	t.Parallel() // while one compiles, another waits
	for i, m := range list {
		t.Run(m.name, func(t *testing.T) {
			path, edited := m.edit(t)
			if i >= few && os.Getenv("LOCKSTEP_SLOW") == "" {
				t.Skip("slow; LOCKSTEP_SLOW=1 runs it")
			}
			t.Parallel()
			began := time.Now()
			out, passed := m.test(t, path, edited)
			if passed || strings.Contains(out, "[build failed]") {
				t.Fatalf("go test %s does not catch the mutant, or cannot build it:\n%s", m.check, out)
			}
			t.Logf("caught by go test %s in %.1fs, %d lines", m.check, time.Since(began).Seconds(), strings.Count(out, "\n"))
			judge(m, t, out)
		})
	}
}

// caught checks that out shows how the check fails.
func (m mutant) caught(t *testing.T, out string) {
	if !regexp.MustCompile(m.shows).MatchString(out) {
		t.Errorf("go test %s does not show %q:\n%s", m.check, m.shows, out)
	}
}

// edit returns the path of the mutant's file and its edited text, with the import it needs.
func (m mutant) edit(t *testing.T) (path string, edited []byte) {
	t.Helper()
	path, unknown := filepath.Abs(filepath.Join(root, m.file))
	source, err := os.ReadFile(path)
	if err := errors.Join(unknown, err); err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(source, []byte(m.old)); n != 1 {
		t.Fatalf("%q occurs in %s %d times, want once", m.old, m.file, n)
	}
	edited = bytes.Replace(source, []byte(m.old), []byte(m.new), 1)
	if strings.Contains(m.new, "sync.") && !bytes.Contains(source, []byte("\t\"sync\"\n")) {
		edited = bytes.Replace(edited, []byte("import (\n"), []byte("import (\n\t\"sync\"\n"), 1)
	}
	return path, edited
}

// test builds the mutant and runs its check.
func (m mutant) test(t *testing.T, path string, source []byte) (out string, passed bool) {
	t.Helper()
	// The edit is an overlay: the file itself stays as it is.
	dir := t.TempDir()
	edited, overlay := filepath.Join(dir, "edited.go"), filepath.Join(dir, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{path: edited}})
	if err := errors.Join(err, os.WriteFile(edited, source, 0o666), os.WriteFile(overlay, replace, 0o666)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	race := fmt.Sprint("-race=", raceDetector && os.Getenv("LOCKSTEP_SLOW") == "") // few compile with the packages that this test has
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", race, "-count=1", "-failfast", "-vet=off", "-ldflags=-s -w", "-overlay", overlay}, strings.Fields(m.check)...)...)
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "LOCKSTEP_SLOW=", "GOMAXPROCS=4", "GORACE=") // a race needs two at once
	said, err := cmd.CombinedOutput()
	return string(said), err == nil
}
