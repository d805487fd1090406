package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/common/cluster"
)

// saveReport saves a report, as -o does, under a name in a folder of the test's own.
func saveReport(t *testing.T, rep *Report, name string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := rep.write(output{path, (*Report).json}); err != nil {
		t.Fatal(err)
	}
	return path
}

// single is a report of one stage, in rounds of so many operations.
func single(stage string, ops ...int64) *Report {
	rep := newReport(cluster.Default(), []string{stage}, true)
	rep.nodes = 1
	rep.Env = Environment{Go: "go1.25", OS: "linux", Arch: "amd64", CPUs: 2, CPUModel: "Test CPU", Shared: true}
	for i, n := range ops {
		rep.add(stage, i+1, testRound(n))
	}
	return rep
}

// What a saved report shows is what the run has shown, in each of its forms.
func TestRereadRoundTrip(t *testing.T) {
	interrupted := newReport(cluster.Default(), []string{"not measured", "b", "a"}, true)
	interrupted.add("a", 1, testRound(100)) // in another order than in the table, and without the baseline
	interrupted.add("b", 1, testRound(200))
	interrupted.Verdict = "interrupted"
	failed := newReport(cluster.Default(), []string{"a"}, false)
	failed.Verdict = "failed: died\nits last words"
	for name, rep := range map[string]*Report{
		"compare": testReport(func(c *cluster.Config) { c.Workload.Seed = 1<<64 - 1 }),
		"open":    fullReport("one", "another"), "interrupted": interrupted, "failed": failed,
		"sweep": testSweep(t, "rate=5k..60k", func(_, point, round int) int64 { return int64(100*point + round) }),
		"spin":  testSweep(t, "work=spin 0s,spin 1ms", func(_, point, round int) int64 { return int64(100*point + round) }),
	} {
		data, err := rep.json()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseReport(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := again.String(), rep.String(); got != want {
			t.Errorf("%s: read again, the report is\n%s\nwant\n%s", name, got, want)
		}
		for form, render := range map[string]func(*Report) ([]byte, error){"json": (*Report).json, "html": (*Report).page, "gobench": (*Report).gobench} {
			got, err := render(again)
			want, _ := render(rep)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: read again, its %s differs, error %v", name, form, err)
			}
		}
		code, stdout, stderr := bench(t, "report", saveReport(t, rep, "r.json"))
		if code != exitOK || stdout != rep.String() || stderr != "" {
			t.Errorf("%s: exit code %d, stderr %q, and it prints\n%s", name, code, stderr, stdout)
		}
	}
}

// Files of before the stages were written down have them in their summary.
func TestRereadStagesFromSummary(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	data, err := rep.json()
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(`,"stages":[`))
	again, err := parseReport(append(data[:at:at], '}'))
	if err != nil || again.String() != rep.String() {
		t.Errorf("error %v, and the report is\n%v", err, again)
	}
}

func TestRereadMistakes(t *testing.T) {
	data, err := single("mine", 100, 110).json()
	if err != nil {
		t.Fatal(err)
	}
	swept, err := testSweep(t, "keys=100,1k", func(_, _, _ int) int64 { return 100 }).json()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		text := strings.Replace(string(data), old, new, 1)
		if text == string(data) {
			text = strings.Replace(string(swept), old, new, 1)
		}
		if text == string(swept) {
			t.Fatalf("there is no %s to edit", old)
		}
		return text
	}
	many := strings.Repeat(`{},`, maxRuns)
	for _, test := range []struct{ text, want string }{
		{"", "unexpected end of JSON input"},
		{string(data[:len(data)/2]), "unexpected end of JSON input"},
		{"goos: linux\n", "invalid character 'g'"},
		{"[]", "cannot unmarshal array"},
		{"{}", "its schema is 0, and this program knows 1"},
		{edit(`"schema":1`, `"schema":2`), "its schema is 2, and this program knows 1"},
		{`{"schema": 1}`, "config: nodes: [] is not a list of 1 to 100"},
		{edit(`"keys":1000`, `"keys":-1`), "workload.keys: -1 is not in 1..100000000"},
		{edit(`"keys":1000`, `"kies":1000`), "workload.kies: unknown"},
		{edit(`"runs":[`, `"runs":7,"x":[`), `runs: "7" is not a list`},
		{edit(`"runs":[`, `"runs":[`+many), "runs: there are more than 10000"},
		{edit(`"runs":[`, `"runs":[7,`), "runs[0]: json: cannot unmarshal number"},
		{edit(`"stage":"mine","round"`, `"stage":"\u001b[2J","round"`), `runs[0]: the stage "\x1b[2J" is not one of the report's`},
		{edit(`"stages":["mine"`, `"stages":["\u001b[2J"`), `a stage is called "\x1b[2J"`},
		{edit(`"stages":["mine"`, `"stages":["a\nb"`), `a stage is called "a\nb"`},
		{edit(`"stages":["mine"`, `"stages":["`+strings.Repeat("x", 101)+`"`), `a stage is called "xxx`},
		{edit(`"stages":["mine"`, `"stages":[""`), `a stage is called ""`},
		{edit(`"never_greeted":0,"ops_per_s"`, `"never_greeted":-7,"ops_per_s"`), "runs[0]: -7 is not 0 or in"},
		{edit(`"never_greeted":0,"ops_per_s":100`, `"never_greeted":0,"ops_per_s":8e32`), "runs[0]: 8e+32 is not 0 or in"},
		{edit(`"never_greeted":0,"ops_per_s":100`, `"never_greeted":0,"ops_per_s":5e-324`), "runs[0]: 5e-324 is not 0 or in"},
		{edit(`"buckets":[[`, `"buckets":[[1000,1],[`), "1000 ns is the upper edge of no bucket"},
		{edit(`"point":"100","round"`, `"point":"7","round"`), `runs[0]: "7" is no point of the sweep`},
		{edit(`"points":["100","1000"]`, `"points":["100","1k"]`), "sweep: the points"},
		{edit(`"points":["100","1000"]`, `"points":["100","x"]`), `sweep: keys: "x" is no number`},
		{edit(`"points":["100","1000"]`, `"points":[]`), "sweep: it has 0 points"},
		{edit(`"property":"keys"`, `"property":"seed"`), `sweep: "seed=100,1000" is not PROPERTY=VALUES`},
		{edit(`"round":1,`, `"point":"9","round":1,`), `runs[0]: "9" is no point of the sweep`},
	} {
		path := filepath.Join(t.TempDir(), "file.json")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := bench(t, "report", path)
		want := path + " is no report that bench -o has written: "
		if code != exitFailure || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit code %d, stdout %q, stderr\n%swant a line with %q", code, stdout, stderr, test.want)
		}
	}
	for _, test := range []struct{ args, want string }{
		{"report", "want FILE.json"},
		{"report missing.json", "open missing.json: "},
		{"report " + t.TempDir(), "is a directory"},
	} {
		if code, stdout, stderr := bench(t, strings.Fields(test.args)...); code == exitOK || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("bench %s: exit code %d, stdout %q, stderr %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

// What is too large is refused before it is read as JSON.
func TestRereadTooLarge(t *testing.T) {
	for want, data := range map[string][]byte{
		"it is larger than": make([]byte, maxReport+1),
		"objects":           bytes.Repeat([]byte("{"), maxObjects+1),
	} {
		if _, err := parseReport(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: error %v, want %q", len(data), err, want)
		}
	}
}

// What a file says must not take hold of the terminal.
func TestRereadHostileText(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	const clear = "\x1b[2J\x07\u009b\u202e"
	rep.Verdict = "invalid: " + clear
	rep.Env.CPUModel, rep.Env.Go, rep.Env.OS = clear, clear, clear
	for i := range rep.Runs {
		rep.Runs[i].Errors = map[string]int64{clear: 1}
		rep.Runs[i].Warnings = []string{clear}
	}
	path := saveReport(t, rep, "hostile.json")
	code, stdout, _ := bench(t, "report", path)
	other := testReport(func(*cluster.Config) {})
	_, _, stderr := bench(t, "report", path, saveReport(t, other, "other.json"))
	for _, text := range []string{stdout, stderr} {
		if code != exitOK || strings.ContainsAny(text, clear[:1]+clear[4:]) || !strings.Contains(text, "\ufffd[2J\ufffd") {
			t.Errorf("exit code %d, and it prints %q", code, text)
		}
	}
}

func TestRereadCompares(t *testing.T) {
	before := saveReport(t, single("stage3", 1000, 1010, 1020, 1030, 1040, 1050), "before.json")
	for _, test := range []struct {
		name string
		rep  *Report
		want string
	}{
		{"faster.json", single("stage3", 2000, 2010, 2020, 2030, 2040, 2050), "1.98 times, intervals do not overlap"},
		{"mine.json", single("mine", 2000, 2010, 2020, 2030, 2040, 2050), "1.98 times, intervals do not overlap"},
		{"touching.json", single("stage3", 1050, 1060, 1070, 1080, 1090, 1100), "1.05 times, no difference shown"},
		{"lower.json", single("stage3", 900, 1000), "0.927 times, no verdict: too few rounds"},
		{"once.json", single("stage3", 5000), "4.88 times, no verdict: too few rounds"},
		{"idle.json", single("stage3"), "stage3@before"},
	} {
		html := filepath.Join(t.TempDir(), "out.html")
		gobench := filepath.Join(t.TempDir(), "out.txt")
		code, stdout, stderr := bench(t, "report", "-html", html, "-gobench", gobench, before, saveReport(t, test.rep, test.name))
		if code != exitOK || !strings.Contains(stdout, test.want) || !strings.Contains(strings.Join(strings.Fields(stdout), " "), "before.json. Rounds of different files did not run next to each other") {
			t.Errorf("%s: exit code %d, stderr %q, want %q in\n%s", test.name, code, stderr, test.want, stdout)
		}
		checkWidth(t, stdout, 100)
		page, _ := os.ReadFile(html)
		lines, _ := os.ReadFile(gobench)
		if !strings.Contains(string(page), "<pre>before: 0001-01-01 00:00:00: ") {
			t.Errorf("%s: the page does not say how the files were made", test.name)
		}
		if !strings.Contains(string(page), test.want) || !strings.Contains(string(lines), "/stage=stage3@before/") {
			t.Errorf("%s: the page or the benchmarks do not say so", test.name)
		}
	}
	_, stdout, _ := bench(t, "report", before, saveReport(t, single("stage3", 900, 1000), "lower.json"))
	if want := "lower.json: median [range] of 2 rounds, a 50 % interval."; !strings.Contains(strings.Join(strings.Fields(stdout), " "), want) {
		t.Errorf("there is no %q in\n%s", want, stdout)
	}
	if code, _, stderr := bench(t, "report", "-html", before, before); code != exitUsage || !strings.Contains(stderr, "need a file each") {
		t.Errorf("a page over the file that is read: exit code %d, stderr %q, want 2", code, stderr)
	}
	// Each stage has its namesake in the first file, and one that has none is not compared.
	first := saveReport(t, testReport(func(*cluster.Config) {}), "a.json")
	rep := testReport(func(*cluster.Config) {})
	rep.stages[2] = "yours"
	for i := range rep.Runs {
		if rep.Runs[i].Stage == "mine" {
			rep.Runs[i].Stage = "yours"
		}
	}
	rep.Verdict = "invalid: late"
	_, stdout, _ = bench(t, "report", first, saveReport(t, rep, "b.json"))
	for stage, want := range map[string]string{"stage1_singlethread@b": "1.00 times, no difference shown", "stage2_coarselock@b": "1.00 times, no difference shown", "yours@b": "[8 000..8 080]"} {
		if line := lineOf(stdout, stage); !strings.HasSuffix(line, want) {
			t.Errorf("%s: %q, want %q at its end", stage, line, want)
		}
	}
	if !strings.HasPrefix(stdout, "INVALID: ") || !strings.Contains(stdout, "b.json: late") {
		t.Errorf("the verdict of the second file is not in\n%s", stdout)
	}
}

func lineOf(text, begin string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, begin) {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

// In an open loop throughput is given, and the times are compared, with their intervals.
func TestRereadComparesTimes(t *testing.T) {
	a, b := fullReport("x"), fullReport("x")
	for i := range b.Runs {
		b.Runs[i].Latency.P99 *= 2
	}
	_, stdout, stderr := bench(t, "report", saveReport(t, a, "a.json"), saveReport(t, b, "b.json"))
	for stage, want := range map[string]string{"x@a": " 20.0ms [20.0ms..20.0ms]", "x@b": " 40.0ms [40.0ms..40.0ms]: 2.00 times, no verdict: too few rounds"} {
		if line := lineOf(stdout, stage); !strings.HasSuffix(line, want) {
			t.Errorf("stderr %q, %s: %q, want %q at its end", stderr, stage, line, want)
		}
	}
	if want := "the response time at p99"; !strings.Contains(stdout, want) {
		t.Errorf("there is no %q in\n%s", want, stdout)
	}
}

func TestRereadRefuses(t *testing.T) {
	rep := func(change func(*Report)) string {
		rep := single("a", 100, 102, 104, 106, 108, 110)
		change(rep)
		return saveReport(t, rep, "r.json")
	}
	first := rep(func(*Report) {})
	for want, change := range map[string]func(*Report){
		"cpu Test CPU and Other CPU":          func(r *Report) { r.Env.CPUModel = "Other CPU" },
		"cpus 2 and 4":                        func(r *Report) { r.Env.CPUs = 4 },
		"os linux and plan9":                  func(r *Report) { r.Env.OS = "plan9" },
		"arch amd64 and arm64":                func(r *Report) { r.Env.Arch = "arm64" },
		"go go1.25 and go1.26":                func(r *Report) { r.Env.Go = "go1.26" },
		"one machine true and false":          func(r *Report) { r.Env.Shared = false },
		"nodes 1 and 3":                       func(r *Report) { r.nodes = 3 },
		"servers started by bench and ran al": func(r *Report) { r.nodes = 0 },
		"workload.keys 1000 and 10":           func(r *Report) { r.Config.Workload.Keys = 10 },
		"workload.seed 1 and 18446744073709":  func(r *Report) { r.Config.Workload.Seed = 1<<64 - 1 },
		"workload.mix.get 60 and 50":          func(r *Report) { r.Config.Workload.Mix = cluster.Mix{Get: 50, Put: 50} },
		"workload.duration 0s and 1s":         func(r *Report) { r.Config.Workload.Duration = 1e9 },
		"server.work 0s and 1ms":              func(r *Report) { r.Config.Server.Work.Time = 1e6 },
	} {
		other := rep(change)
		code, stdout, stderr := bench(t, "report", first, other)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, "-force") {
			t.Errorf("exit code %d, stdout %q, stderr %q, want 2 and %q", code, stdout, stderr, want)
		}
		if !strings.Contains(want, "workload") {
			continue
		}
		code, stdout, stderr = bench(t, "report", "-force", first, other)
		if got := strings.Join(strings.Fields(stdout), " "); code != exitOK || !strings.Contains(got, want) || !strings.Contains(got, "1.00 times, no difference shown") {
			t.Errorf("with -force: exit code %d, stderr %q, want %q in\n%s", code, stderr, want, stdout)
		}
	}
	// Neither where the nodes are, nor who measured, makes a difference.
	same := rep(func(r *Report) {
		r.Config.Nodes[0].Addr, r.Config.Clients, r.Env.Command = "127.0.0.1:9", nil, []string{"x"}
	})
	if code, _, stderr := bench(t, "report", first, same, first); code != exitOK {
		t.Errorf("exit code %d, stderr %q, want 0", code, stderr)
	}
	swept := saveReport(t, testSweep(t, "keys=10", func(_, _, _ int) int64 { return 1 }), "swept.json")
	if code, _, stderr := bench(t, "report", "-force", swept, swept); code != exitUsage || !strings.Contains(stderr, "a sweep is shown alone") {
		t.Errorf("two sweeps: exit code %d, stderr %q, want 2", code, stderr)
	}
}

func TestLabel(t *testing.T) {
	paths := []string{"a/x.json", "b/x.json", "y.json", "z"}
	for i, want := range []string{"x#1", "x#2", "y", "z"} {
		if got := label(paths, i); got != want {
			t.Errorf("%s is called %s, want %s", paths[i], got, want)
		}
	}
}

// Whatever is in a file, reading it and showing what could be read does not panic.
func FuzzParseReport(f *testing.F) {
	rep := newReport(cluster.Default(), []string{"a", "b"}, true)
	rep.add("a", 1, testRound(20))
	data, err := rep.json()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(fmt.Sprintf(`{"schema":1,"config":{},"stages":["a"],"runs":[{"stage":"a","ok":%d,"histogram":{"buckets":[[1,18446744073709551615],[3,7]],"max_ns":-1,"sum_ns":-1}}]}`, int64(maxFigure))))
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := parseReport(data)
		if err != nil {
			return
		}
		_ = rep.String()
		pageOf(t, rep)
		if _, err := rep.gobench(); err != nil {
			t.Error(err)
		}
	})
}
