package notes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	lab "lockstep/bench/experiment"
	"lockstep/bench/load"
	"lockstep/bench/machine"
	"lockstep/bench/progress"
	"lockstep/bench/report"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// The test binary is the program that experiments run as bench.
func TestMain(m *testing.M) {
	if os.Getenv("LOCKSTEP_TELL") != "" {
		os.Exit(fakeBench())
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the programs: they end at once
	m.Run()
}

// fakeBench saves a report, waits for an interrupt, or fails.
func fakeBench() int {
	benchtest.FaultyMain()
	switch args := os.Args; args[1] {
	case "compare":
		if err := os.WriteFile(args[slices.Index(args, "-o")+1], []byte(gained()), 0o666); err == nil {
			return 0
		}
	case "check":
		select {} // until the interrupt
	}
	fmt.Fprintln(os.Stderr, "bench: broken")
	return 1
}

// round is a round of a second in which requests were answered that took this time.
func round(requests int64, took time.Duration) *load.Result {
	cpu := time.Duration(requests) * 10 * time.Microsecond
	r := &load.Result{Dur: time.Second, Series: []int64{requests}, ServerCPU: 3 * cpu, ClientCPU: cpu}
	r.Connections, r.Requests, r.OK = 8, requests, requests
	for range requests {
		r.ResponseTimes.Record(took)
	}
	timing := metrics.Timing{Count: requests, Total: time.Duration(requests) * took / 2}
	r.Nodes = []metrics.Snapshot{{Requests: requests, Turn: timing, Table: timing}}
	return r
}

// newReport is a report without rounds.
func newReport(stages ...string) *report.Report {
	rep := report.New(cluster.Default(), stages, true)
	rep.Env = machine.Environment{Go: "go1.25", OS: "linux", Arch: "amd64", Cores: 2, CPUs: 2, Shared: true}
	return rep
}

// swept is a sweep of two stages, the second of which does twice as much.
func swept(t *testing.T, text string, stages ...string) *report.Report {
	sweep, err := lab.ParseSweep(text, cluster.Default())
	if err != nil {
		t.Fatal(err)
	}
	rep := newReport(stages...)
	rep.Sweep = sweep
	for _, point := range sweep.Points {
		rep.AddAt(point, stages[0], 1, round(500, 2*time.Millisecond))
		second := round(1000, time.Millisecond)
		second.Refusals, second.Errors = 250, metrics.Tally{client.ErrBusy.Error(): 250}
		rep.AddAt(point, stages[1], 1, second)
	}
	return rep
}

// comparison is a report of six rounds of stages 3 and 4, which do so many requests a second.
func comparison(three, four int64) string {
	rep := newReport("stage3_threadpool", "stage4_bucketlock")
	for at := range int64(6) {
		for i, n := range []int64{three, four} {
			r := round(n, 8*time.Second/time.Duration(n))
			r.Starved, r.OK = i, n+at
			rep.Add(rep.Stages[i], int(at)+1, r)
		}
	}
	return saved(rep)
}

func saved(rep *report.Report) string {
	content, _ := rep.JSON() // "" could not be read again
	return string(content)
}

// gained is the report of the experiment gain.
var gained = sync.OnceValue(func() string { return comparison(700, 4900) })

const tourText = "\nLockstep is\n\n             connection  connections\nstage          requests/s   requests/s\n" +
	"1 one thread         2 700   7/8 starve       260ms  999/1000 starve  7/8 starve\n" +
	"3 thread pool        4 700      120 000      >8.1ms       10ms, 68 %         730\n\nconclusion\n"

const benchText = "BenchmarkCodec/codec=fresh/ops=1-2 \t 1\t 269005 ns/op\t   14464 B/op\t     261 allocs/op\n" +
	"BenchmarkCodec/codec=kept/ops=1-2  \t 1\t 7000 ns/op\t   964 B/op\t     9 allocs/op\n"

// experiments define one of each form.
const experiments = `# Title

<!-- run gain: ratio > 2; 4.starved in .9 .. 1.1 -->

    go run ./bench compare -stages 3,4   # a comment

<!-- run tour: 3.kept > 100000 -->

    go run ./bench

<!-- run codec -->

` + "```sh\ngo test ./common/wire -run '^$' -bench Codec\n```\n\n<!-- run work -->\n\n    go run ./bench compare -stages 3,4 -sweep work=0s,1ms\n\n"

// module writes a module with these notes, and data of the experiments, and returns its root.
func module(t *testing.T, notes string) (root string) {
	t.Helper()
	root = t.TempDir()
	work := swept(t, "work=0s,1ms", "stage3_threadpool", "stage4_bucketlock")
	work.Runs[3].OpsPerSecond = 1900
	writeAll(t, root, map[string]string{
		"NOTES.md": notes, "README.md": "# Readme\n",
		dataDir + "/gain.json": gained(), dataDir + "/tour.txt": tourText, dataDir + "/codec.txt": benchText, dataDir + "/work.json": saved(work),
		"stage1_a/server.go": "package main\n\n// c counts.\nvar c, d = 1,\n\t2\nvar x int\n",
		"stage2_b/server.go": "package main\n\nvar x int\nvar c, d = 1,\n\t2\n", "stage2_b/new.go": "package main\n",
	})
	return root
}

func writeAll(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(content), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
}

// read returns the files that match a pattern, joined.
func read(t *testing.T, root, pattern string) string {
	t.Helper()
	var all strings.Builder
	files, err := filepath.Glob(filepath.Join(root, pattern))
	for _, path := range files {
		content, unread := os.ReadFile(path)
		all.Write(content)
		err = errors.Join(err, unread)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// write fills in the notes of a module.
func write(root, dir string) error {
	b, err := Open(root, dir)
	if err == nil {
		err = b.Write(io.Discard)
	}
	return err
}

func TestMarks(t *testing.T) {
	text, want := experiments, experiments
	for _, test := range []struct{ mark, want string }{
		{"gain.ratio", "6.98 [6.96..7.00]"},
		{"gain.ratio short", "7.0"},
		{"gain.4.ops", "4 900 [4 900..4 910]"},
		{"gain.codec.BenchmarkCodec/codec=fresh/ops=1.ns / 3.p99", "0.0235"},
		{"gain.3.p99 short", "11ms"},
		{"gain.starved", "1"},
		{"tour.1.kept", "7/8 starve"},
		{"tour.3.stalled", ">8.1ms"},
		{"tour.3.overload short", "10ms"},
		{"codec.BenchmarkCodec/codec=fresh/ops=1.ns", "269µs"},
		{"codec.BenchmarkCodec/codec=fresh/ops=1.allocs / BenchmarkCodec/codec=kept/ops=1.allocs short", "29"},
		{"gain.table ops lock_held starved ratio", "\n\n| stage | ops | lock held | starved | ratio |\n| --- | ---: | ---: | ---: | ---: |\n" +
			"| 3 | 700 | 0 % | 0 |  |\n| 4 | 4 900 | 0 % | 1 | 6.98 [6.96..7.00] |\n\n"},
		{"tour.table kept overload", "\n\n| stage | kept | overload |\n| --- | ---: | ---: |\n| 1 | 7/8 starve | 999/1000 starve |\n| 3 | 120 000 | 10ms |\n\n"},
		{"work.4@work=1ms.ops", "1 900"},
		{"work.table ops", "\n\n| stage | ops |\n| --- | ---: |\n| 3@work=0s | 500 |\n| 4@work=0s | 1 000 |\n" +
			"| 3@work=1ms | 500 |\n| 4@work=1ms | 1 900 |\n\n"},
		{"tour.text 3", "\n\n```text\nconclusion\n```\n\n"},
		// What has moved is marked once as gone and once as new: the shorter of two parts.
		{"diff 1 2 server.go new.go", "\n\n```diff\n--- stage1_a/server.go\n+++ stage2_b/server.go\n" +
			" package main\n \n+var x int\n var c, d = 1,\n \t2\n-var x int\n--- /dev/null\n+++ stage2_b/new.go\n+package main\n```\n\n"},
	} {
		before := "It is <!--=" + test.mark + "-->"
		if strings.HasPrefix(test.want, "\n") {
			before = strings.TrimPrefix(before, "It is ")
		}
		text += before + "old<!--/-->\n"
		want += before + test.want + "<!--/-->\n"
	}
	root := module(t, text)
	if err := write(root, root); err != nil {
		t.Error(err)
	}
	if got := read(t, root, "NOTES.md"); got != want {
		t.Errorf("want - and got +\n%s", unified(strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")))
	}
}

// An error names the file and the line, and nothing changes.
func TestMarksThatAreWrong(t *testing.T) {
	root := module(t, "")
	for _, test := range []struct{ text, want string }{
		{"x <!--=gone.4.ops-->1<!--/-->", `NOTES.md:21: gone.4.ops: there is no experiment "gone"`},
		{"\nx <!--=gain.5.ops-->1<!--/-->", `NOTES.md:22: gain.5.ops: gain has no ops of stage "5"`},
		{"x <!--=gain.4.speed-->1<!--/-->", "gain has no speed"},
		{"x <!--=gain.4.ops / 3.starved-->1<!--/-->", "cannot be divided by 0"},
		{"x <!--=tour.3.kept / 1.kept-->1<!--/-->", "120 000 cannot be divided by 7/8 starve"},
		{"x <!--=tour.3.overload / 3.stalled-->1<!--/-->", "10ms cannot be divided by >8.1ms"},
		{"x <!--=gain.4.ops-->1", "no <!--/--> closes it"},
		{"x <!--=gain.4.ops-->1 and <!--=gain.4.ops-->1<!--/-->", "no <!--/--> closes it"},
		{"<!--=gain.4.ops-->1<!--/--> requests", "does not begin a line"},
		{"x <!--=gain.table ops-->1<!--/-->", "stands alone"},
		{"<!--=gain.text 99-->\n<!--/-->", "no paragraph 99, but 1 to "},
		{"<!--=gone.text 1-->\n<!--/-->", `gone.text 1: there is no experiment "gone"`},
		{"<!--=diff 1 2 gone.go-->\n<!--/-->", "stage2_b/gone.go"},
		{"<!--=diff 1 9 server.go-->\n<!--/-->", "there is no stage 9"},
		{"<!-- run gain -->\n\n    go version\n", "NOTES.md:21: the name gain is taken"},
		{"<!-- run more: ratio -->\n\n    go version\n", `"ratio" is not a claim`},
		{"<!-- run more -->\n    go version\n", "want <!-- run NAME"},
		{"<!-- run more -->\n\n    go version\n", "(bench notes -measure more measures it)"},
		{"<!-- figure new: lanes gone -->\n\n![x](bench/notes/data/new.svg)\n", `NOTES.md:21: there is no experiment "gone"`},
		{"<!-- figure new: cake gain -->\n\n![x](bench/notes/data/new.svg)\n", `no figure of the kind "cake"`},
		{"<!-- figure new: lanes gain -->\n\n![x](bench/notes/data/old.svg)\n", "want <!-- run NAME"},
	} {
		before := experiments + test.text + "\n\nIt is <!--=gain.ratio-->old<!--/-->.\n"
		writeAll(t, root, map[string]string{"NOTES.md": before})
		if err := write(root, root); err == nil || !strings.Contains(err.Error(), test.want) || read(t, root, "NOTES.md") != before {
			t.Errorf("%s: error %v, want %s, and the notes as they were:\n%s", test.text, err, test.want, read(t, root, "NOTES.md"))
		}
	}
}

// A time that may have been longer, as >8.1ms, fails every claim.
func TestClaims(t *testing.T) {
	root := module(t, experiments)
	b, err := Open(root, root)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		claim string
		holds bool
	}{
		{"ratio > 2", true}, {"ratio > 6.99", false}, {"ratio in .8 .. 1.25", false}, {"ratio in 6..8", true},
		{"4.ops / 3.ops > 6.5", true}, {"3.p99 < 12ms", true}, {"3.p99 < 11ms", false}, {"4.refused < 1 %", true},
		{"4.starved > 1", false}, {"starved < 2", true}, {"gain.3.ops < 1000", true},
		{"tour.1.kept < 1", false}, {"tour.3.stalled < 1s", false}, {"tour.3.stalled > 1ns", false}, {"tour.3.overload in 9ms .. 11ms", true},
		{"codec.BenchmarkCodec/codec=kept/ops=1.ns < 8µs", true},
	} {
		claims, err := parseClaims(test.claim)
		if err != nil {
			t.Fatal(err)
		}
		if found, holds, err := b.judge(b.experiments[0], claims[0]); err != nil || holds != test.holds {
			t.Errorf("%s: holds %v (found %s, error %v), want %v", test.claim, holds, found, err, test.holds)
		}
	}
	for _, bad := range []string{"ratio", "> 2", "no difference", "ratio is 1", "ratio >", "ratio > x", "ratio in 2 .. 1", "ratio in 1", "ratio = 1", "> 1 %%"} {
		if claims, err := parseClaims(bad); err == nil {
			t.Errorf("%q is a claim: %+v", bad, claims[0])
		}
	}
}

// The reader's copy says what does not hold there, and the module stays as it is.
func TestCopy(t *testing.T) {
	const longer = "<!-- run gain1: gain.ratio > 1 -->\n\n    go version\n\n" // its name begins with that of another
	root, dir := module(t, strings.Replace(experiments, "<!--", longer+"<!--", 1)+"It is <!--=gain.ratio-->x<!--/-->.\n"), t.TempDir()
	writeAll(t, dir, map[string]string{dataDir + "/gain1.txt": "", dataDir + "/gain.json": comparison(700, 800), dataDir + "/tour.txt": strings.Replace(tourText, "120 000", "80 000", 1)})
	before := read(t, root, "NOTES.md")
	if err := write(root, dir); err != nil {
		t.Fatal(err)
	}
	got := read(t, dir, "NOTES.md")
	for _, want := range []string{
		"# Title\n\n**Measured in few and short rounds on:** go1.", " Not measured here: codec. Not measured here: work.\n\n<!-- run gain1",
		"\n\n(not so here: ratio > 2)\n\n<!-- run gain:", "It is <!--=gain.ratio-->1.14 [1.14..1.14] (not so here: ratio > 2)<!--/-->.",
		"\n\n(not so here: 3.kept > 100000)\n\n<!-- run tour",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if read(t, root, "NOTES.md") != before || read(t, dir, "README.md") != "" {
		t.Error("the module's own notes have changed, or the copy has a README")
	}
}

// measure measures experiments of a module with the test binary as bench.
func measure(ctx context.Context, t *testing.T, root string, names ...string) (table string, err error) {
	t.Helper()
	b, err := Open(root, root)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	err = b.Measure(ctx, false, names, new(progress.Line), &out)
	return out.String(), err
}

func TestMeasure(t *testing.T) {
	benchtest.NewFaulty(t, "")
	root := module(t, experiments+"<!-- run version: gain.ratio > 100 -->\n\n    go version\n\n<!-- run bad -->\n\n    go run ./bench help\n")
	writeAll(t, root, map[string]string{dataDir + "/bad.txt": "old"})
	var before, after data
	before.load("gain.json", filepath.Join(root, dataDir))
	table, err := measure(t.Context(), t, root, "gain", "version", "bad")
	const failed = "bad was not measured: exit status 1: bench: broken\n1 of 3 claims do not hold here"
	if err == nil || err.Error() != failed || !strings.Contains(table, "gain: ratio > 2               6.98 [6.96..7.00]         yes\n") {
		t.Errorf("error %v, want %s, and printed\n%s", err, failed, table)
	}
	if got := read(t, root, dataDir+"/bad.txt"); got != "old" {
		t.Errorf("an experiment that failed has left %q", got)
	}
	if got := read(t, root, dataDir+"/version.txt"); !strings.HasPrefix(got, "go version go1.") {
		t.Errorf("go version has left %q", got)
	}
	got := read(t, root, dataDir+"/gain.json")
	if strings.Contains(got, os.TempDir()) || !strings.Contains(got, `"command":["go","run","./bench","compare","-stages","3,4"`) {
		t.Errorf("the command is not that of the text: %s", got)
	}
	after.load("gain.json", filepath.Join(root, dataDir))
	if !strings.Contains(after.text, "11.4ms") || after.text != before.text || after.report.Runs[0].ResponseTimes.Count() > 0 ||
		len(after.report.Summary[0].Runs) != 6 {
		t.Errorf("the data say\n%s\nwant, without histograms,\n%s", after.text, before.text)
	}
	if _, err := measure(t.Context(), t, root, "gone"); err == nil || err.Error() != `there is no experiment "gone"` {
		t.Errorf("error %v", err)
	}
}

// An interrupt stops what runs, and keeps what is measured.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted by another one")
	}
	started := benchtest.NewFaulty(t, "")
	root := module(t, experiments+"<!-- run version -->\n\n    go version\n\n<!-- run wait -->\n\n    go run ./bench check\n")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends when the experiment has started
		<-started
		cancel()
	}()
	began := time.Now()
	_, err := measure(ctx, t, root, "version", "wait")
	took := time.Since(began)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not measured from wait on") || took > 10*time.Second {
		t.Errorf("after %v, error %v", took, err)
	}
	if got := read(t, root, dataDir+"/version.txt"); !strings.HasPrefix(got, "go version ") {
		t.Errorf("of what was measured before it has kept %q", got)
	}
}

func TestFigures(t *testing.T) {
	sampled := newReport("stage2_coarselock", "stage3_threadpool")
	for _, stage := range sampled.Stages {
		r := round(100, time.Millisecond)
		for i, outcome := range []string{load.Answered, client.ErrBusy.Error(), "unfinished", "other"} {
			r.Samples = append(r.Samples, load.Sample{Done: time.Duration(i+1) * time.Millisecond, Outcome: outcome})
		}
		sampled.Add(stage, 1, r)
		sampled.Add(stage, 2, r) // not drawn
	}
	perRequest := newReport("stage2_coarselock")
	for i, requests := range []int64{2000, 350} {
		r := round(requests, time.Millisecond)
		r.TimeWait, r.FailedDials = int64(2000+350*i), metrics.Tally{"no port": 40}
		perRequest.Add("stage2_coarselock", i+1, r)
	}
	const two, three, four = "stage2_coarselock", "stage3_threadpool", "stage4_bucketlock"
	draw := func(name string, rep *report.Report) (string, error) {
		d := data{name: "other", report: rep}
		d.summarize()
		return d.draw(name)
	}
	for name, test := range map[string]struct {
		rep  *report.Report
		want []string
	}{
		"dots": {sampled, []string{"<desc>stage2: 1 answered, 1 ms to 1 ms; stage2: 1 refused, 2 ms to 2 ms; " +
			"stage2: 2 failed, or not answered, 3 ms to 4 ms; stage3: "}},
		"rate": {swept(t, "rate=500,1000", two, three), []string{"<desc>stage2: 500 2", "; stage3: 500 1", " ms (20 %), 1 000 1", `"mark s1"`, `"mark open s2"`}},
		"gain": {swept(t, "work=0s,1ms", three, four), []string{"<desc>stage4: 0 2", ", 1 ms 2", ">no gain</text>", "times that of the first stage<"}},
		// The lock: 1 ms in the table. The cores: 2, and 40 µs for each of 1000 requests answered, which 1250 share.
		"ceilings": {swept(t, "c=1,2,8", three, four), []string{"<desc>stage3: 1 500, 2 500, 8 500; stage4: 1 1 000, 2 1 000, 8 1 000; 1 / S: 1 1 0",
			"; cores / CPU: 1 62 500, ", "; N / R: 1 500, 8 4 000<"}},
		"ports": {perRequest, []string{"<desc>in a second: 1 2 000, 2 350; in a minute: 1 2 000, 2 2 350; in TIME_WAIT: 1 2 000, 2 2 350<", "failed dials: 80<"}},
	} {
		svg, err := draw(name, test.rep)
		for _, want := range test.want {
			if err != nil || !strings.Contains(svg, want) {
				t.Errorf("%s: error %v, and there is no %q in %s", name, err, want, svg)
			}
		}
		for _, rep := range []*report.Report{new(report.Report), newReport(two), swept(t, "c=2,4", two, three)} {
			svg, err := draw(name, rep)
			if svg != "" || !strings.HasPrefix(fmt.Sprint(err), "other: there is nothing to draw: the figure needs -") {
				t.Errorf("%s is drawn of another experiment, or the error is not of use: %v", name, err)
			}
		}
	}
}

const project = "../.."

// stale returns what rendering the pages of a module would change, and the data that are not used.
func stale(t *testing.T, root string) (found []string) {
	t.Helper()
	b, err := Open(root, root)
	if err != nil {
		return []string{err.Error()}
	}
	files, err := b.render()
	if err != nil {
		found = append(found, err.Error())
	}
	used := make(map[string]bool)
	for _, e := range b.experiments {
		_, name := e.program("", "", false)
		used[name] = true
	}
	for _, f := range files {
		used[filepath.Base(f.name)] = true
		if content, err := os.ReadFile(filepath.Join(root, f.name)); err != nil || string(content) != f.text {
			found = append(found, f.name+" changes")
		}
	}
	entries, _ := os.ReadDir(filepath.Join(root, dataDir)) // what is used and missing was found above
	for _, entry := range entries {
		if !used[entry.Name()] {
			found = append(found, entry.Name()+" is not used")
		}
	}
	return found
}

func TestRenderingChangesNothing(t *testing.T) {
	for _, what := range stale(t, project) {
		t.Error(what)
	}
	const lanes = "<!-- run lanes -->\n\n    go run ./bench lanes\n\n" +
		"<!-- figure lanes: lanes lanes -->\n\n![x](" + dataDir + "/lanes.svg)\n"
	for path, test := range map[string]struct{ content, want string }{ // what changes in a module, and what is found
		"NOTES.md":             {experiments + lanes + "It is <!--=gain.ratio short-->7.1<!--/-->.\n", "[NOTES.md changes]"},
		dataDir + "/lanes.svg": {"", "[bench/notes/data/lanes.svg changes]"},
		dataDir + "/old.json":  {"{}", "[old.json is not used]"},
		dataDir + "/gain.json": {comparison(700, 1400), "[NOTES.md changes]"},
	} {
		root := module(t, experiments+lanes+"It is <!--=gain.ratio short-->7.0<!--/-->.\n")
		writeAll(t, root, map[string]string{dataDir + "/lanes.json": `{"stages":[{"stage":"stage3_threadpool","span_ns":16000000,"lanes":[[]]}]}`})
		if err := write(root, root); err != nil {
			t.Fatal(err)
		}
		writeAll(t, root, map[string]string{path: test.content})
		if got := fmt.Sprint(stale(t, root)); got != test.want {
			t.Errorf("%s: got %s, want %s", path, got, test.want)
		}
	}
}

// stray returns the measured numbers of a text that stand outside of marks: numbers with a unit
// of time, rate, size or share, and factors. Paragraphs, with the tables that they introduce, and
// rows of tables that say that they are computed have none, and what stands in code is not prose.
func stray(text string) (found []string) {
	for _, not := range []string{"(?m)^```(?s:.*?)^```", `(?m)^    .*$`, "(?s)<!--=.*?<!--/-->", "(?s)<!--.*?-->", "`[^`]*`", `\]\([^)]*\)`} {
		text = regexp.MustCompile(not).ReplaceAllString(text, "")
	}
	computed := func(s string) bool { return strings.Contains(strings.ToLower(s), "computed") }
	text = regexp.MustCompile(`:\n\s*\n`).ReplaceAllString(text, ":\n") // what follows belongs to it
	for _, paragraph := range regexp.MustCompile(`\n\s*\n`).Split(text, -1) {
		for i, part := range strings.Split(paragraph, "\n|") {
			if i == 0 && computed(part) {
				break
			} else if !computed(part) {
				found = append(found, measured.FindAllString(part, -1)...)
			}
		}
	}
	return found
}

var measured = regexp.MustCompile(`\d[\d. ]*(?:\s*%|\s*(?:ns|µs|ms|s|seconds?|minutes?|k?B|[KMG]iB|bytes)\b|\s+times\b|/s\b|\s+(?:requests|operations|connections|dials)\s+a\s+second|\s+(?:allocations|cores)\b)`)

// given are numbers that nobody measured.
var given = []string{
	"16 cores", "64 KiB", "64 bytes", // another machine; the limit of a frame; a cache line
	"1 ms", "1ms", "250 ms", // the work of a request; how long the tour's client stalls
	"1.5 s", "2 000 requests a second", // an overload
	"16 ms", "20 ms", "32 ms", // what bench lanes draws; the limit of an exercise; the longest pause after a refusal
	"100 ms", "800 ms", // the work in a goal, and eight times that
	"5 s", "5 seconds", "10 s", // a deadline; when a server is stuck
	"2 %", // an example
}

func TestNumbersAreInMarks(t *testing.T) {
	for _, n := range stray(read(t, project, "*.md")) {
		if !slices.Contains(given, strings.Join(strings.Fields(n), " ")) {
			t.Errorf("%q is measured, and stands outside of a mark; or say that it is computed, or give a reason in this test", n)
		}
	}
	for text, want := range map[string]string{
		"About 20 000 requests a second, or 7/8,\nor 35 times 3.1 s":     "[20 000 requests a second 35 times 3.1 s]",
		"It took <!--=x.ratio-->5 ms<!--/-->, with `-work 5ms`":          "[]",
		"    took 5 ms\n\n```\n5 ms\n```\n":                              "[]",
		"| a | 5 % |\n| b | 6 ms (computed) |\n| c | 7 KiB |\n":          "[5 % 7 KiB]",
		"All of this is computed:\n\n| a | 5 ms |\n| b | 6 ms |\n\n7 ms": "[7 ms]",
		"<!--=x.table ops-->\n\n| a | 5 ms |\n\n<!--/-->\n\nAnd 6 ms":    "[6 ms]",
	} {
		if got := fmt.Sprint(stray(text)); got != want {
			t.Errorf("%q: found %s, want %s", text, got, want)
		}
	}
}

// unmatched returns the patterns of go test commands in a text that match no test, benchmark or
// subtest in the packages that they name. A copy of a stage, as ./mine, has the tests of all.
func unmatched(t *testing.T, text string) (found []string) {
	t.Helper()
	subtests := strings.ReplaceAll(read(t, project, "common/stagetest/*.go"), "\nfunc Test", "\nfunc ") // of stages
	quoted := regexp.MustCompile(`"([^"\n]+)"`)
	for _, m := range regexp.MustCompile("go test([^`\n]* -(?:run|bench) [^`\n]*)").FindAllStringSubmatch(text, -1) {
		words, tests := Words(m[1]), subtests
		for _, arg := range words {
			dir := regexp.MustCompile(`^\./mine\w*`).ReplaceAllString(arg, "./stage*")
			tests += read(t, project, dir+"/*_test.go")
		}
		for i, arg := range words[:len(words)-1] {
			kind, chooses := map[string]string{"-run": "Test|Fuzz|Example", "-bench": "Benchmark"}[arg]
			if !chooses {
				continue
			}
			names := regexp.MustCompile(`\nfunc ((?:`+kind+`)\w*)\(`).FindAllStringSubmatch(tests, -1)
			for level, part := range strings.Split(words[i+1], "/") {
				if level == 1 {
					names = quoted.FindAllStringSubmatch(tests, -1)
				}
				matches := regexp.MustCompile(part).MatchString
				if part != "^$" && !slices.ContainsFunc(names, func(m []string) bool {
					return matches(m[1]) || matches(strings.ReplaceAll(m[1], " ", "_"))
				}) {
					found = append(found, arg+" "+words[i+1])
				}
			}
		}
	}
	return found
}

func TestPatternsMatchTests(t *testing.T) {
	for _, pattern := range unmatched(t, read(t, project, "*.md")) {
		t.Errorf("%s matches nothing", pattern)
	}
	const commands = `
go test ./common/barrier -run 'Specimen/married' -v
go test ./common/barrier -run SpecimenGone
go test ./common/wire -run '^$' -bench Kodak
go test -count=1 ./mine2 -run TestStage/CountersRenamed
`
	const want = "[-run Specimen/married -run SpecimenGone -bench Kodak -run TestStage/CountersRenamed]"
	if got := fmt.Sprint(unmatched(t, commands)); got != want {
		t.Errorf("%s are unmatched, want %s", got, want)
	}
}
