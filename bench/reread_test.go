package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/bench/experiment"
	"lockstep/bench/page"
	"lockstep/bench/report"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

// saveReport saves a report, as -o does, in a folder of the test's own.
func saveReport(t *testing.T, rep *report.Report) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "report.json")
	if err := (output{path: path, render: (*report.Report).JSON}).write(t.Context(), rep); err != nil {
		t.Fatal(err)
	}
	return path
}

// A saved report, which lacks the secret, is shown as the run has shown it, in each form. Text in
// it cannot take control of the terminal. The configuration file of another program in the
// current directory is not read.
func TestReread(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(cluster.DefaultPath, []byte("port: 80"), 0o600); err != nil {
		t.Fatal(err)
	}
	const clear = "\x1b[2J\x07\u009b\u202e"
	rep := testReport()
	rep.Verdict, rep.Env.CPUModel, rep.Env.Go, rep.Env.OS = "invalid: "+clear, clear, clear, clear
	rep.Runs[0].Warnings = []string{clear}
	saved := saveReport(t, rep)
	code, stdout, stderr := bench(t.Context(), "report", "-html", "out.html", "-gobench", "out.txt", saved)
	if code != exitOK || stdout != text.Printable(rep.String()) || stdout == rep.String() || stderr != "" {
		t.Errorf("exit code %d, stderr %q, and it prints\n%q", code, stderr, stdout)
	}
	for path, render := range map[string]func(*report.Report) ([]byte, error){saved: (*report.Report).JSON, "out.html": page.Render, "out.txt": (*report.Report).Gobench} {
		got, err := os.ReadFile(path)
		if want, _ := render(rep); err != nil || !bytes.Equal(got, want) || bytes.Contains(got, []byte(testSecret)) {
			t.Errorf("%s differs from that of the run, or holds the secret, error %v:\n%s", path, err, got)
		}
	}
}

func TestRereadMistakes(t *testing.T) {
	rep := testReport()
	data, _ := rep.JSON() // of which there is a test
	rep.Sweep = &experiment.Sweep{Property: "keys", Points: []string{"100", "1000"}}
	swept, _ := rep.JSON()
	edit := func(data []byte, old, new string) string {
		edited := strings.Replace(string(data), old, new, 1)
		if edited == string(data) {
			t.Fatalf("there is no %s to edit", old)
		}
		return edited
	}
	for _, test := range []struct{ file, want string }{
		{"", "unexpected end of JSON input"},
		{"goos: linux\n", "invalid character 'g'"},
		{"{}", "its schema is 0, and this program reads schema 2"},
		{edit(data, `"schema":2`, `"schema":1`), "its schema is 1, and this program reads schema 2"},
		{edit(data, `"keys":1000`, `"kies":1000`), "workload.kies: unknown"},
		{edit(data, `"runs":[`, `"more":7,"runs":[`), `unknown field "more"`},
		{edit(data, `"runs":[`, `"runs":[7,`), "cannot unmarshal number"},
		{edit(data, `"stages":["a","b"]`, `"stages":["yours"]`), "of none of its stages"},
		{edit(data, `"buckets":[[`, `"buckets":[[1000,1],[`), "1000 ns is not the upper edge"},
		{edit(swept, `"points":["100","1000"]`, `"points":["100","x"]`), "sweep: workload.keys: x is not in"},
		{edit(swept, `"property":"keys"`, `"property":"seed"`), `sweep: "seed" is not PROPERTY=VALUES`},
	} {
		path := filepath.Join(t.TempDir(), "file.json")
		if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := bench(t.Context(), "report", path)
		want := path + " is not a report that bench -o has written: "
		if code != exitFailure || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit code %d, stdout %q, stderr\n%swant a line with %q", code, stdout, stderr, test.want)
		}
	}
	large := saveReport(t, rep)
	if err := os.Truncate(large, report.MaxSize+1); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Read(large); err == nil || !strings.Contains(err.Error(), "it is larger than 1024 MiB") {
		t.Errorf("a file that is too large: %v", err)
	}
}
