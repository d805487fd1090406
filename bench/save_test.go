package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// Every form of the report has a file of its own, which is tried before the first round.
func TestOutputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	_, path, _ := benchtest.StartCluster(t, 1, 1, benchtest.ServeLocked)
	measured(t, "run", "-config", path, "-ops", "100", "-rate", "1k", "-html", at("o.html"), "-gobench", at("o.txt"))
	for name, want := range map[string]string{"o.html": "<h2>Throughput</h2>", "o.txt": "BenchmarkLockstep/stage=here/"} {
		data, err := os.ReadFile(at(name))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s has no %q, error %v", name, want, err)
		}
	}
	for _, test := range []struct{ flags, want string }{
		{"-html " + at("no/such.html"), "the report was not saved: "},
		{"-gobench " + at("no/such.txt"), "the report was not saved: "},
		{"-o " + at("o.html") + " -html " + dir + "/./o.html", "o.html cannot be used twice"},
	} {
		code, stdout, stderr := bench(t, append([]string{"run", "-config", path, "-duration", "1h"}, strings.Fields(test.flags)...)...)
		if code == exitOK || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", test.flags, code, stdout, stderr, test.want)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("%d files, want 2", len(files))
	}
}

// The file of -o as other programs read it: the names of its fields stay as they are.
func TestReportJSON(t *testing.T) {
	rep := testReport()
	data, err := os.ReadFile(saveReport(t, rep))
	if err != nil || !bytes.Contains(data, []byte(rep.Config.Nodes[0].Addr)) || bytes.Contains(data, []byte("0123456789abcdef")) {
		t.Errorf("error %v; the file lacks the configuration, or holds the secret:\n%s", err, data)
	}
	var top map[string]json.RawMessage
	json.Unmarshal(data, &top)
	if got, want := slices.Sorted(maps.Keys(top)), []string{"config", "env", "nodes", "runs", "schema", "stages", "summary", "verdict"}; !slices.Equal(got, want) {
		t.Errorf("the file has the fields %v, want %v", got, want)
	}
	for _, want := range []string{`{"schema":2,"env":{`, `"runs":[{"stage":"b","round":1,`, `"dur_ns":1000000000,`, `"ok":50,`, `"requests":50,`, `"errors":{"other":1},`, `"errors":{},`,
		`"connections":8,`, `"starved":0,`, `"never_greeted":0,`, `"latency_ns":{"max":160000000,"mean":160000000,"p50":16`, `"buckets":[[160432127,50]]`,
		`"ops_per_s":{"median":100,`, `"server_cpu_ns_per_request":0,`, `"verdict":"ok"`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("there is no %s in\n%s", want, data)
		}
	}
}

// A report that cannot be encoded or stored leaves the file as it was, and no other file.
func TestReportWrite(t *testing.T) {
	dir, rep := t.TempDir(), testReport()
	path := filepath.Join(dir, "report.json")
	broken := *rep
	broken.Runs = []report.Run{{Figures: report.Figures{OpsPerSecond: math.Inf(1)}}}
	for _, test := range []struct {
		path string
		rep  *report.Report
		ok   bool
	}{{path, rep, true}, {path, rep, true}, {path, &broken, false}, {filepath.Join(dir, "missing", "report.json"), rep, false}, {dir, rep, false}} {
		if err := (output{path: test.path, render: (*report.Report).JSON}).write(t.Context(), test.rep); (err == nil) != test.ok {
			t.Errorf("writing to %s: error %v, want one: %v", test.path, err, !test.ok)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 || len(readSaved(t, path).Runs) != len(rep.Runs) {
			t.Errorf("after writing to %s there are %v, want the first report alone", test.path, files)
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
			var out safeBuffer
			dir := t.TempDir()
			o := &options{stdout: &out, out: filepath.Join(dir, "out.json"), html: filepath.Join(dir, "out.html")}
			const before = "of an earlier run"
			if err := os.WriteFile(o.out, []byte(before), 0o666); err != nil {
				t.Fatal(err)
			}
			rep := report.New(cluster.Default(), []string{"a"}, true)
			if err := o.checkOutputs(); err != nil {
				t.Fatal(err)
			}
			if test.round != nil {
				rep.Add("a", 1, test.round)
				verdict := rep.Verdict
				if err := o.save(rep); err != nil {
					t.Fatal(err)
				}
				if test.round.Requests == 0 {
					test.round = nil // as good as none
				} else if s := readSaved(t, o.out); s.Verdict != strings.Replace(verdict, "ok", "interrupted", 1) {
					t.Errorf("the report of a run that goes on says %q, want interrupted", s.Verdict)
				}
			}
			err := o.finish(test.ctx, rep, test.err)
			if code := conclude(test.ctx, err, &out); code != test.code {
				t.Errorf("exit code %d, want %d: %v", code, test.code, err)
			}
			if !strings.HasPrefix(out.String(), test.stdout) || test.stdout == "" && !strings.HasPrefix(out.String(), "bench: ") {
				t.Errorf("stdout is %q, want %q", out.String(), test.stdout)
			}
			if test.round == nil { // nothing better than what was there
				data, _ := os.ReadFile(o.out)
				if _, err := os.Stat(o.html); string(data) != before || err == nil || !strings.HasPrefix(rep.Verdict, test.verdict) {
					t.Errorf("verdict %q; the file of an earlier run holds %q; the page: %v, want none", rep.Verdict, data, err)
				}
				return
			}
			if s := readSaved(t, o.out); !strings.HasPrefix(s.Verdict, test.verdict) || len(s.Runs) != len(rep.Runs) {
				t.Errorf("verdict %q and %d rounds, want %q and %d", s.Verdict, len(s.Runs), test.verdict, len(rep.Runs))
			}
			if page, _ := os.ReadFile(o.html); strings.Contains(string(page), `class="alarm"`) != (test.verdict != "ok") {
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
		if err := o.save(rep); err != nil {
			t.Error(err)
		}
		if info, err := os.Lstat(at(to)); err != nil || !info.Mode().IsRegular() || !sameFile(at(to), at(link)) || len(readSaved(t, at(link)).Runs) != len(rep.Runs) {
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
	o := &options{out: path, stdout: new(safeBuffer)}
	if err := errors.Join(o.checkOutputs(), o.save(rep)); err != nil { // neither waits for a reader
		t.Error(err)
	}
	read := make(chan int)
	go func() { // ends with finish
		again, err := report.Read(path)
		if err != nil {
			t.Error(err)
		}
		read <- len(again.Runs)
	}()
	if err := o.finish(t.Context(), rep, nil); err != nil || <-read != len(rep.Runs) {
		t.Errorf("error %v, or not the report was read from the pipe", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	input, html, saved := newPipe(), newPipe(), saveReport(t, rep)
	var both sync.WaitGroup
	for pipe, args := range map[string][]string{input: {"report", input}, html: {"report", "-html", html, saved}} {
		both.Go(func() {
			if code, _, stderr := benchUntil(over, args...); code != exitInterrupted {
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
	var said safeBuffer
	o := &options{out: filepath.Join(t.TempDir(), "gone", "out.json"), stdout: new(safeBuffer)}
	code := conclude(over, o.finish(over, testReport(), over.Err()), &said)
	if got := said.String(); code != exitInterrupted || !strings.HasPrefix(got, "bench: interrupted: ") || !strings.Contains(got, "the report was not saved: ") {
		t.Errorf("exit code %d, stderr %q, want 130 and that the report is lost", code, got)
	}
}

// -o - writes the JSON, and nothing else, to standard output, and the text to standard error. Only
// one output can be there, and a file of that name is none of them.
func TestStandardOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	saved := saveReport(t, testReport())
	_, path, _ := benchtest.StartCluster(t, 1, 1, benchtest.ServeLocked)
	for _, test := range []struct {
		args   []string
		stdout string // how it begins
	}{
		{[]string{"run", "-config", path, "-ops", "100", "-quiet", "-o", "-"}, `{"schema":2,`},
		{[]string{"report", "-html", "-", saved}, "<!DOCTYPE html>"},
		{[]string{"report", "-gobench", "-", saved}, "goos: "},
	} {
		code, stdout, stderr := bench(t, test.args...)
		if code != exitOK && code != exitInvalid || !strings.HasPrefix(stdout, test.stdout) || strings.Contains(stdout, "\nthroughput ") || !strings.Contains(stderr, "\nthroughput ") {
			t.Errorf("bench %q: exit code %d, stdout %.300q, stderr %q", test.args, code, stdout, stderr)
		}
		if _, err := report.Parse([]byte(stdout)); (err == nil) != (test.args[0] == "run") {
			t.Errorf("bench %q: stdout as a report: error %v", test.args, err)
		}
	}
	if code, stdout, stderr := bench(t, "report", "-html", "-", "-gobench", "-", saved); code != exitUsage || stdout != "" || !strings.Contains(stderr, "- cannot be used twice") {
		t.Errorf("two outputs: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if _, err := os.Stat("-"); err == nil {
		t.Error("there is a file -")
	}
}

// testReport returns a report of one round of two stages, of which b had an error.
func testReport() *report.Report {
	cfg := cluster.Default()
	cfg.Secret = "0123456789abcdef"
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
