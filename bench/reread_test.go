package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/bench/page"
	"lockstep/bench/report"
	"lockstep/common/cluster"
)

// saveReport saves a report, as -o does, under a name in a folder of the test's own.
func saveReport(t *testing.T, rep *report.Report, name string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := (output{path, (*report.Report).JSON}).write(rep); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a saved report shows is what the run has shown, in each of its forms.
func TestRereadRoundTrip(t *testing.T) {
	interrupted := report.New(cluster.Default(), []string{"not measured", "b", "a"}, true)
	interrupted.Add("a", 1, testRound(100)) // in another order than in the table, and without the baseline
	interrupted.Add("b", 1, testRound(200))
	interrupted.Verdict = "interrupted"
	failed := report.New(cluster.Default(), []string{"a"}, false)
	failed.Verdict = "failed: died\nits last words"
	for name, rep := range map[string]*report.Report{
		"compare": testReport(func(c *cluster.Config) { c.Workload.Seed = 1<<64 - 1 }),
		"open":    fullReport("one", "another"), "interrupted": interrupted, "failed": failed,
		"sweep": testSweep(t, "rate=5k,10k,60k", func(_, point, round int) int64 { return int64(100*point + round) }),
		"spin":  testSweep(t, "work=spin 0s,spin 1ms", func(_, point, round int) int64 { return int64(100*point + round) }),
	} {
		data, err := rep.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := report.Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := again.String(), rep.String(); got != want {
			t.Errorf("%s: read again, the report is\n%s\nwant\n%s", name, got, want)
		}
		for form, render := range map[string]func(*report.Report) ([]byte, error){"json": (*report.Report).JSON, "html": page.Render, "gobench": (*report.Report).Gobench} {
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

func TestRereadMistakes(t *testing.T) {
	rep := report.New(cluster.Default(), []string{"mine"}, true)
	rep.Add("mine", 1, testRound(100))
	data, err := rep.JSON()
	if err != nil {
		t.Fatal(err)
	}
	swept, err := testSweep(t, "keys=100,1k", func(_, _, _ int) int64 { return 100 }).JSON()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(data []byte, old, new string) string {
		edited := strings.Replace(string(data), old, new, 1)
		if edited == string(data) {
			t.Fatalf("there is no %s to edit", old)
		}
		return edited
	}
	for _, test := range []struct{ file, want string }{
		{"", "unexpected end of JSON input"},
		{string(data[:len(data)/2]), "unexpected end of JSON input"},
		{"goos: linux\n", "invalid character 'g'"},
		{"[]", "cannot unmarshal array"},
		{"{}", "its schema is 0, and this program reads schema 2"},
		{edit(data, `"schema":2`, `"schema":1`), "its schema is 1, and this program reads schema 2"},
		{edit(data, `"keys":1000`, `"kies":1000`), "workload.kies: unknown"},
		{edit(data, `"runs":[`, `"more":7,"runs":[`), `unknown field "more"`},
		{edit(data, `"runs":[`, `"runs":[7,`), "cannot unmarshal number"},
		{edit(data, `"stages":["mine"`, `"stages":["yours"`), "of none of its stages"},
		{edit(data, `"buckets":[[`, `"buckets":[[1000,1],[`), "1000 ns is not the upper edge"},
		{edit(swept, `"points":["100","1000"]`, `"points":["100","x"]`), "sweep: workload.keys: x is not in"},
		{edit(swept, `"property":"keys"`, `"property":"seed"`), `sweep: "seed" is not PROPERTY=VALUES`},
	} {
		path := filepath.Join(t.TempDir(), "file.json")
		if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := bench(t, "report", path)
		want := path + " is not a report that bench -o has written: "
		if code != exitFailure || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit code %d, stdout %q, stderr\n%swant a line with %q", code, stdout, stderr, test.want)
		}
	}
	for _, test := range []struct{ args, want string }{
		{"report", "bench report needs FILE.json after the flags, got "},
		{"report a.json b.json", "bench report needs FILE.json after the flags, got "},
		{"report missing.json", "open missing.json: "},
		{"report " + t.TempDir(), "is a directory"},
	} {
		if code, stdout, stderr := bench(t, strings.Fields(test.args)...); code == exitOK || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("bench %s: exit code %d, stdout %q, stderr %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
	big := filepath.Join(t.TempDir(), "big.json")
	if err := os.WriteFile(big, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, report.MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Read(big); err == nil || !strings.Contains(err.Error(), "larger than 256 MiB") {
		t.Errorf("a file that is too large: %v", err)
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
	code, stdout, _ := bench(t, "report", saveReport(t, rep, "hostile.json"))
	if code != exitOK || strings.ContainsAny(stdout, clear[:1]+clear[4:]) || !strings.Contains(stdout, "\ufffd[2J\ufffd") {
		t.Errorf("exit code %d, and it prints %q", code, stdout)
	}
}
