package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/page"
	"lockstep/bench/report"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/text"
)

const testSecret = "0123456789abcdef" // of testReport

// testReport returns a report of one round of two stages, of which b had an error.
func testReport() *report.Report {
	cfg := cluster.Default()
	cfg.Secret = testSecret
	rep := report.New(cfg, []string{"a", "b"}, true)
	troubled := testRound(50)
	troubled.Fail("other", errors.New("dial timeout"))
	rep.Add("b", 1, troubled)
	rep.Add("a", 1, testRound(100))
	return rep
}

// testRound returns a round of 1 s with 8 connections, of which each is always busy.
func testRound(requests int64) *load.Result {
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: requests, Answers: workload.Answers{OK: requests}}, Dur: time.Second}
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}

// saveReport saves a report, as -o does, in a folder of the test's own.
func saveReport(t *testing.T, rep *report.Report) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "report.json")
	if err := (output{path: path, render: (*report.Report).JSON}).write(t.Context(), rep); err != nil {
		t.Fatal(err)
	}
	return path
}

// Every form of the report has a file of its own, which is tried before the first round, or is
// standard output, of which there is one; then the text is on standard error.
func TestOutputs(t *testing.T) {
	t.Chdir(t.TempDir())
	saved := saveReport(t, testReport())
	_, path, _ := benchtest.StartCluster(t, 1, 1, benchtest.ServeLocked)
	measure := "run -config " + path + " -keys 100 -quiet "
	for args, want := range map[string]string{
		measure + "-ops 100 -rate 1k -o - -html o.html": `{"schema":2,`,
		"report -html - -gobench o.txt " + saved:        "<!DOCTYPE html>",
	} {
		code, stdout, stderr := bench(t.Context(), strings.Fields(args)...)
		if code != exitOK && code != exitInvalid || !strings.HasPrefix(stdout, want) || strings.Contains(stdout, "\nthroughput ") || !strings.Contains(stderr, "\nthroughput ") {
			t.Errorf("bench %s: exit code %d, stdout %.300q, stderr %q", args, code, stdout, stderr)
		}
	}
	for args, want := range map[string]string{
		measure + "-duration 1h -html no/such.html":       "the report was not saved: ",
		measure + "-duration 1h -o o.html -html ./o.html": "cannot be used twice",
		"report -html " + saved + " " + saved:             "cannot be used twice",
	} {
		if code, stdout, stderr := bench(t.Context(), strings.Fields(args)...); code == exitOK || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("bench %s: exit code %d, stdout %q, stderr %q, want %q", args, code, stdout, stderr, want)
		}
	}
	if files, err := os.ReadDir("."); len(files) != 2 {
		t.Errorf("there are %v, error %v, want two files", files, err)
	}
}

// How a command ends depends on what it measured and how the measurement ended.
func TestFinish(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	right, wrong, late := testRound(100), testRound(100), testRound(100)
	wrong.FoundWrong(errors.New("key-017: blue"))
	load.Record(&late.Slips, 1e9)
	died := errors.New("mine, node 0, died\nits last words:\n    panic: no")
	for name, test := range map[string]struct {
		ctx     context.Context
		round   *load.Result // nil: none was measured
		err     error
		code    int
		verdict string
	}{
		"all is well":                 {t.Context(), right, nil, exitOK, "ok"},
		"interrupted after all":       {over, right, nil, exitOK, "ok"},
		"interrupted":                 {over, right, over.Err(), exitInterrupted, "interrupted"},
		"interrupted at once":         {over, nil, over.Err(), exitInterrupted, "interrupted"},
		"a server died":               {t.Context(), right, died, exitFailure, "failed: " + died.Error()},
		"the client was late":         {t.Context(), late, nil, exitInvalid, "invalid: a, round 1: "},
		"late, and a server died":     {t.Context(), late, died, exitFailure, "failed: "},
		"a wrong answer":              {t.Context(), wrong, nil, exitWrongData, "wrong data: a, round 1: key-017: blue"},
		"wrong, and interrupted":      {over, wrong, over.Err(), exitWrongData, "wrong data: a, "},
		"nobody was answered":         {t.Context(), testRound(0), nil, exitFailure, "failed: a, round 1: no request was answered"},
		"a wrong answer at the start": {t.Context(), nil, fmt.Errorf("%w: key-017", load.ErrWrong), exitWrongData, "wrong data: "},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			o := &options{stdout: &out, out: filepath.Join(t.TempDir(), "out.json")}
			const before = "of an earlier run"
			rep := report.New(cluster.Default(), []string{"a"}, true)
			if err := errors.Join(os.WriteFile(o.out, []byte(before), 0o666), o.checkOutputs()); err != nil {
				t.Fatal(err)
			}
			kind, reason, _ := strings.Cut(test.verdict, ": ")
			reason, _, _ = strings.Cut(reason, "\n")
			begins := strings.TrimSuffix(strings.ToUpper(kind)+": "+reason, ": ")
			switch {
			case test.round == nil:
				begins = "bench: "
			case kind == "ok":
				begins = "a: 100 operations"
			}
			better := test.round != nil && test.round.Requests > 0 // than what was there
			if test.round != nil {
				rep.Add("a", 1, test.round)
				want := strings.Replace(rep.Verdict, "ok", "interrupted", 1)
				if err := o.save(rep); err != nil || better && readSaved(t, o.out).Verdict != want {
					t.Errorf("the report of a run that goes on has the verdict of %+v, want %q; error %v", rep, want, err)
				}
			}
			err := o.finish(test.ctx, rep, test.err)
			if code := conclude(test.ctx, err, &out); code != test.code || !strings.HasPrefix(out.String(), begins) {
				t.Errorf("exit code %d, want %d: %v; stdout is %q, want %q", code, test.code, err, out.String(), begins)
			}
			if data, _ := os.ReadFile(o.out); !better && string(data) != before {
				t.Errorf("the file of an earlier run holds %q", data)
			} else if better && readSaved(t, o.out).Verdict != rep.Verdict || !strings.HasPrefix(rep.Verdict, test.verdict) {
				t.Errorf("verdict %q, want %q, which is to be in %s", rep.Verdict, test.verdict, data)
			}
		})
	}
}

// A report that cannot be saved is reported as lost, even after an interruption.
func TestFinishNotSaved(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	o := &options{out: filepath.Join(t.TempDir(), "gone", "out.json"), stdout: io.Discard}
	code := conclude(over, o.finish(over, testReport(), over.Err()), &out)
	match, _ := regexp.MatchString("(?s)^bench: interrupted: .*the report was not saved: ", out.String())
	if code != exitInterrupted || !match {
		t.Errorf("exit code %d, stderr %q, want 130 and that the report is lost", code, out.String())
	}
}

// Saving takes a tenth of the time: after a save the next rounds are not saved for a while, and
// not summed up either. A report that cannot be encoded replaces nothing.
func TestSaveInProportion(t *testing.T) {
	o := &options{out: filepath.Join(t.TempDir(), "out.json")}
	rep, start := testReport(), time.Now()
	if err := o.save(rep); err != nil || !o.nextSave.After(start) {
		t.Fatalf("error %v, the next save %v after the first", err, o.nextSave.Sub(start))
	}
	o.nextSave = time.Now().Add(time.Hour)
	rep.Add("a", 2, testRound(100))
	if err := o.save(rep); err != nil || len(readSaved(t, o.out).Runs) != 2 || rep.Summary != nil {
		t.Errorf("error %v, or saved again at once, or summed up", err)
	}
	o.nextSave, rep.Runs[0].OpsPerSecond = time.Time{}, math.Inf(1)
	if err := o.save(rep); err == nil || len(readSaved(t, o.out).Runs) != 2 {
		t.Errorf("a report that cannot be encoded: error %v, or it has replaced the one before", err)
	}
}

// A file is written where links lead, with the mode that it had, and the links stay; no other
// file is left.
func TestSaveThroughLinks(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for link, to := range map[string]string{"latest": at("old"), "relative": "latest", "dangling": at("new")} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Skip(err)
		}
	}
	if err := os.WriteFile(at("old"), []byte("of an earlier run"), 0o600); err != nil {
		t.Fatal(err)
	}
	old, _ := os.Stat(at("old"))
	rep := testReport()
	for link, to := range map[string]string{"relative": "old", "dangling": "new"} {
		o := &options{out: at(link)}
		err := o.checkOutputs()
		if _, missing := os.Stat(at("new")); err != nil || missing == nil {
			t.Errorf("%s: error %v when it was tried, %v", link, err, missing)
		}
		err = o.save(rep)
		info, _ := os.Lstat(at(to))
		if err != nil || info == nil || !info.Mode().IsRegular() || !sameFile(at(to), at(link)) || len(readSaved(t, at(link)).Runs) != len(rep.Runs) {
			t.Errorf("%s: %s is %v, error %v, want the report between two rounds", link, to, info, err)
		} else if to == "old" && info.Mode() != old.Mode() {
			t.Errorf("%s: the mode is %v, want that of the file that was there, %v", link, info.Mode(), old.Mode())
		}
		os.Remove(at("new"))
	}
	if files, _ := os.ReadDir(dir); len(files) != 4 {
		t.Errorf("there are %v, want three links and a file", files)
	}
}

// A pipe gets the final report only. Whether it is read or written, an interruption ends
// the wait for its other end.
func TestPipes(t *testing.T) {
	t.Parallel() // waits a second for the other end of a pipe
	dir := t.TempDir()
	path, input, html := filepath.Join(dir, "saved"), filepath.Join(dir, "input"), filepath.Join(dir, "html")
	if err := exec.Command("mkfifo", path, input, html).Run(); err != nil {
		t.Skip(err)
	}
	rep := testReport()
	o := &options{out: path, stdout: io.Discard}
	if err := errors.Join(o.checkOutputs(), o.save(rep)); err != nil { // neither waits for a reader
		t.Error(err)
	}
	var both sync.WaitGroup
	both.Go(func() { // ends with finish
		if again, err := report.Read(path); err != nil || len(again.Runs) != len(rep.Runs) {
			t.Errorf("from the pipe came %v (%v), want the report", again, err)
		}
	})
	if err := o.finish(t.Context(), rep, nil); err != nil {
		t.Error(err)
	}
	both.Wait()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for pipe, args := range map[string][]string{input: {"report", input}, html: {"report", "-html", html, saveReport(t, rep)}} {
		both.Go(func() {
			if code := run(over, args, io.Discard, io.Discard); code != exitInterrupted { // a later end may print, too
				t.Errorf("bench %q: exit code %d, want 130", args, code)
			}
			if f, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil { // ends what still waits
				f.Close()
			}
		})
	}
	both.Wait()
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

// What is not a report is refused in one line that names the file.
func TestRereadMistakes(t *testing.T) {
	data, _ := testReport().JSON() // of which there is a test
	path := filepath.Join(t.TempDir(), "file.json")
	for _, test := range []struct{ old, new, want string }{
		{`"schema":2`, `"schema":1`, "its schema is 1, and this program reads schema 2"},
		{`"runs":[`, `"more":7,"runs":[`, `unknown field "more"`},
		{`"stages":["a","b"]`, `"stages":["yours"]`, "of none of its stages"},
		{`"keys":1000`, `"keys":0`, "config: workload.keys: 0 is not in"},
		{`"runs":[`, `"sweep":{"property":"keys","points":["100","x"]},"runs":[`, "sweep: workload.keys: x is not in"},
	} {
		if err := os.WriteFile(path, bytes.Replace(data, []byte(test.old), []byte(test.new), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := bench(t.Context(), "report", path)
		want := path + " is not a report that bench -o has written: "
		if code != exitFailure || stdout != "" || !strings.Contains(stderr, want) || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s in place of %s: exit code %d, stdout %q, stderr\n%swant a line with %q", test.new, test.old, code, stdout, stderr, test.want)
		}
	}
	large := os.Truncate(path, report.MaxSize+1)
	if _, err := report.Read(path); large != nil || err == nil || !strings.Contains(err.Error(), "it is larger than 1024 MiB") {
		t.Errorf("a file that is too large: %v (%v)", err, large)
	}
}
