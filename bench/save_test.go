package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// Every form of the report has a file of its own, which is tried before the first round, or is
// standard output, of which there is one; then the text is on standard error.
func TestOutputs(t *testing.T) {
	t.Chdir(t.TempDir())
	saved := saveReport(t, testReport())
	_, path, _ := benchtest.StartCluster(t, 1, 1, benchtest.ServeLocked)
	measure := "run -config " + path + " -keys 100 -quiet "
	for _, test := range []struct{ args, stdout, file, content string }{
		{measure + "-ops 100 -rate 1k -o - -html o.html", `{"schema":2,`, "o.html", "<h2>Throughput</h2>"},
		{"report -html - -gobench o.txt " + saved, "<!DOCTYPE html>", "o.txt", "BenchmarkLockstep/stage=a/"},
		{"report -gobench - -html o.html " + saved, "goos: ", "o.html", "<h2>Throughput</h2>"},
	} {
		code, stdout, stderr := bench(t.Context(), strings.Fields(test.args)...)
		if code != exitOK && code != exitInvalid || !strings.HasPrefix(stdout, test.stdout) || strings.Contains(stdout, "\nthroughput ") || !strings.Contains(stderr, "\nthroughput ") {
			t.Errorf("bench %s: exit code %d, stdout %.300q, stderr %q", test.args, code, stdout, stderr)
		}
		if _, err := report.Parse([]byte(stdout)); (err == nil) != (test.stdout[0] == '{') {
			t.Errorf("bench %s: stdout as a report: error %v", test.args, err)
		}
		if content, err := os.ReadFile(test.file); !strings.Contains(string(content), test.content) {
			t.Errorf("bench %s: %s has no %q, error %v", test.args, test.file, test.content, err)
		}
	}
	for args, want := range map[string]string{
		measure + "-duration 1h -html no/such.html":       "the report was not saved: ",
		measure + "-duration 1h -gobench no/such.txt":     "the report was not saved: ",
		measure + "-duration 1h -o o.html -html ./o.html": "o.html cannot be used twice",
		"report -html " + saved + " " + saved:             "cannot be used twice",
		"report -html - -gobench - " + saved:              "- cannot be used twice",
	} {
		if code, stdout, stderr := bench(t.Context(), strings.Fields(args)...); code == exitOK || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("bench %s: exit code %d, stdout %q, stderr %q, want %q", args, code, stdout, stderr, want)
		}
	}
	if files, err := os.ReadDir("."); len(files) != 2 {
		t.Errorf("there are %v, error %v, want two files", files, err)
	}
}

// A report that cannot be encoded or stored leaves the file as it was, and no other file.
func TestReportWrite(t *testing.T) {
	dir, rep, broken := t.TempDir(), testReport(), testReport()
	path := filepath.Join(dir, "report.json")
	broken.Runs = []report.Run{{Figures: report.Figures{OpsPerSecond: math.Inf(1)}}}
	for _, test := range []struct {
		path string
		rep  *report.Report
		ok   bool
	}{{path, rep, true}, {path, rep, true}, {path, broken, false}, {filepath.Join(dir, "missing", "report.json"), rep, false}, {dir, rep, false}} {
		err := (output{path: test.path, render: (*report.Report).JSON}).write(t.Context(), test.rep)
		if files, _ := os.ReadDir(dir); (err == nil) != test.ok || len(files) != 1 || len(readSaved(t, path).Runs) != len(rep.Runs) {
			t.Errorf("after writing to %s there are %v, want the first report alone; error %v, want one: %v", test.path, files, err, !test.ok)
		}
	}
}

// How a command ends depends on what it measured and how the measurement ended.
func TestFinish(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	right, wrong, late := testRound(100), testRound(100), testRound(100)
	wrong.FoundWrong(errors.New("key-017: blue"))
	load.Record(&late.Slips, 1e9)
	panicked := testRound(100)
	panicked.Nodes = []metrics.Snapshot{{Errors: map[string]int64{"panic": 1}, Faults: map[string]string{"panic": "panicked: here"}}}
	died := errors.New("mine, node 0, died\nits last words:\n    panic: no")
	for _, test := range []struct {
		name    string
		ctx     context.Context
		round   *load.Result // nil: none was measured
		err     error
		code    int
		verdict string
		stdout  string // how it begins
	}{
		{"all is well", t.Context(), right, nil, exitOK, "ok", "a: 100 operations"},
		{"interrupted after all", over, right, nil, exitOK, "ok", "a: 100 operations"},
		{"interrupted", over, right, over.Err(), exitInterrupted, "interrupted", "INTERRUPTED\na: "},
		{"interrupted at once", over, nil, over.Err(), exitInterrupted, "interrupted", ""},
		{"a server died", t.Context(), right, died, exitFailure, "failed: " + died.Error(), "FAILED: mine, node 0, died\na: "},
		{"the client was late", t.Context(), late, nil, exitInvalid, "invalid: a, round 1: ", "INVALID: a, round 1: "},
		{"a request panicked", t.Context(), panicked, nil, exitFailure, "failed: a, round 1: node 0: panicked: here", "FAILED: a, round 1"},
		{"late, and a server died", t.Context(), late, died, exitFailure, "failed: ", "FAILED: "},
		{"a wrong answer", t.Context(), wrong, nil, exitWrongData, "wrong data: a, round 1: key-017: blue", "WRONG DATA: a, round 1: key-017: blue\na: "},
		{"and a server died", t.Context(), wrong, died, exitWrongData, "wrong data: a, ", "WRONG DATA: a, "},
		{"and interrupted", over, wrong, over.Err(), exitWrongData, "wrong data: a, ", "WRONG DATA: a, "},
		{"nobody was answered", t.Context(), testRound(0), nil, exitFailure, "failed: a, round 1: no request was answered", "FAILED: a, round 1: "},
		{"a wrong answer at the start", t.Context(), nil, fmt.Errorf("%w: key-017", load.ErrWrong), exitWrongData, "wrong data: ", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			dir := t.TempDir()
			o := &options{stdout: &out, out: filepath.Join(dir, "out.json"), html: filepath.Join(dir, "out.html")}
			const before = "of an earlier run"
			rep := report.New(cluster.Default(), []string{"a"}, true)
			if err := errors.Join(os.WriteFile(o.out, []byte(before), 0o666), o.checkOutputs()); err != nil {
				t.Fatal(err)
			}
			if test.round != nil {
				rep.Add("a", 1, test.round)
				want := strings.Replace(rep.Verdict, "ok", "interrupted", 1)
				if err := o.save(rep); err != nil {
					t.Fatal(err)
				}
				if test.round.Requests == 0 {
					test.round = nil // as good as none
				} else if got := readSaved(t, o.out).Verdict; got != want {
					t.Errorf("the report of a run that goes on says %q, want %q", got, want)
				}
			}
			err := o.finish(test.ctx, rep, test.err)
			if code := conclude(test.ctx, err, &out); code != test.code {
				t.Errorf("exit code %d, want %d: %v", code, test.code, err)
			}
			if !strings.HasPrefix(out.String(), cmp.Or(test.stdout, "bench: ")) {
				t.Errorf("stdout is %q, want %q", out.String(), test.stdout)
			}
			data, _ := os.ReadFile(o.out)
			page, missing := os.ReadFile(o.html)
			if test.round == nil { // nothing better than what was there
				if string(data) != before || missing == nil || !strings.HasPrefix(rep.Verdict, test.verdict) {
					t.Errorf("verdict %q; the file of an earlier run holds %q; the page: %v, want none", rep.Verdict, data, missing)
				}
				return
			}
			if s := readSaved(t, o.out); !strings.HasPrefix(s.Verdict, test.verdict) || len(s.Runs) != len(rep.Runs) {
				t.Errorf("verdict %q and %d rounds, want %q and %d", s.Verdict, len(s.Runs), test.verdict, len(rep.Runs))
			}
			if strings.Contains(string(page), `class="alarm"`) != (test.verdict != "ok") {
				t.Errorf("the page is\n%s\nwant one with the verdict %q", page, test.verdict)
			}
		})
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
	newPipe := func() (path string) {
		path = filepath.Join(t.TempDir(), "pipe")
		if err := exec.Command("mkfifo", path).Run(); err != nil {
			t.Skip(err)
		}
		return path
	}
	rep, path := testReport(), newPipe()
	o := &options{out: path, stdout: new(strings.Builder)}
	if err := errors.Join(o.checkOutputs(), o.save(rep)); err != nil { // neither waits for a reader
		t.Error(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { // ends with finish
		if again, err := report.Read(path); err != nil || len(again.Runs) != len(rep.Runs) {
			t.Errorf("from the pipe came %v (%v), want the report", again, err)
		}
	})
	if err := o.finish(t.Context(), rep, nil); err != nil {
		t.Error(err)
	}
	reading.Wait()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	input, html, saved := newPipe(), newPipe(), saveReport(t, rep)
	var both sync.WaitGroup
	for pipe, args := range map[string][]string{input: {"report", input}, html: {"report", "-html", html, saved}} {
		both.Go(func() {
			if code, _, stderr := bench(over, args...); code != exitInterrupted {
				t.Errorf("bench %q: exit code %d, stderr %q, want 130", args, code, stderr)
			}
			if f, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil { // ends what still waits
				f.Close()
			}
		})
	}
	both.Wait()
}

// Saving takes a tenth of the time: after a save the next rounds are not saved for a while,
// and not summed up either.
func TestSaveInProportion(t *testing.T) {
	o := &options{out: filepath.Join(t.TempDir(), "out.json")}
	rep, start := testReport(), time.Now()
	if err := o.save(rep); err != nil || !o.nextSave.After(start) {
		t.Fatalf("error %v, the next save %v after the first", err, o.nextSave.Sub(start))
	}
	o.nextSave = time.Now().Add(time.Hour)
	rep.Add("a", 2, testRound(100))
	if err := o.save(rep); err != nil || len(readSaved(t, o.out).Runs) != len(rep.Runs)-1 || rep.Summary != nil {
		t.Errorf("error %v, or saved again at once, or summed up", err)
	}
}

// A report that cannot be saved is reported as lost, even after an interruption.
func TestFinishNotSaved(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var said strings.Builder
	o := &options{out: filepath.Join(t.TempDir(), "gone", "out.json"), stdout: new(strings.Builder)}
	code := conclude(over, o.finish(over, testReport(), over.Err()), &said)
	if got := said.String(); code != exitInterrupted || !strings.HasPrefix(got, "bench: interrupted: ") || !strings.Contains(got, "the report was not saved: ") {
		t.Errorf("exit code %d, stderr %q, want 130 and that the report is lost", code, got)
	}
}

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
