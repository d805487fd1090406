package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// Every form of the report is written before the first round, at the end, and to a file
// of its own.
func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	_, path, _ := benchtest.StartCluster(t, 1, 1, benchtest.ServeLocked)
	measured(t, "run", "-config", path, "-ops", "1000", "-html", at("o.html"), "-gobench", at("o.txt"))
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

func TestReportWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report.json")
	rep := report.New(cluster.Default(), []string{"a"}, false)
	for range 2 { // the second time over the first
		if err := (output{path, (*report.Report).JSON}).write(t.Context(), rep); err != nil {
			t.Fatal(err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files beside each other after two writes, want 1", len(files))
	}
	// A report that cannot be encoded or stored leaves the file as it was, and no other file.
	before, _ := os.ReadFile(path)
	broken := *rep
	broken.Runs = []report.Run{{OpsPerSecond: math.Inf(1)}}
	for path, rep := range map[string]*report.Report{path: &broken, filepath.Join(dir, "missing", "report.json"): rep, dir: rep} {
		if err := (output{path, (*report.Report).JSON}).write(t.Context(), rep); err == nil {
			t.Errorf("no error for writing to %s", path)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
		t.Error("a write that failed changed the file")
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files after writes that failed, want 1", len(files))
	}
}

// A device, such as /dev/stdout, is written to and not replaced.
func TestReportWriteDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	rep := report.New(cluster.Default(), []string{"a"}, false)
	if err := (output{path, (*report.Report).JSON}).write(t.Context(), rep); err == nil {
		t.Error("no error for a socket, which cannot be opened")
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() {
		t.Errorf("the socket is now %v, error %v", info, err)
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
	panicked.Nodes = []metrics.Snapshot{{Panics: 1}}
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
		{"a request panicked", t.Context(), panicked, nil, exitFailure, "failed: a, round 1: 1 request panicked", "FAILED: a, round 1"},
		{"late, and a server died", t.Context(), late, died, exitFailure, "failed: ", "FAILED: "},
		{"a wrong answer", t.Context(), wrong, nil, exitWrongData, "wrong data: a, round 1: key-017: blue", "WRONG DATA: a, round 1: key-017: blue\na: "},
		{"and a server died", t.Context(), wrong, died, exitWrongData, "wrong data: a, ", "WRONG DATA: a, "},
		{"and interrupted", over, wrong, over.Err(), exitWrongData, "wrong data: a, ", "WRONG DATA: a, "},
		{"a wrong answer at the start", t.Context(), nil, fmt.Errorf("%w: key-017", load.ErrWrong), exitWrongData, "wrong data: ", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out benchtest.Buffer
			dir := t.TempDir()
			o := &options{stdout: &out, out: filepath.Join(dir, "out.json"), html: filepath.Join(dir, "out.html")}
			rep := report.New(cluster.Default(), []string{"a"}, true)
			if err := o.save(rep); err != nil {
				t.Fatal(err)
			}
			if s := readSaved(t, o.out); s.Verdict != "interrupted" {
				t.Errorf("the report of a run that goes on says %q, want interrupted", s.Verdict)
			}
			if test.round != nil {
				rep.Add("a", 1, test.round)
			}
			err := o.finish(test.ctx, rep, test.err)
			if code := conclude(test.ctx, err, &out); code != test.code {
				t.Errorf("exit code %d, want %d: %v", code, test.code, err)
			}
			if s := readSaved(t, o.out); !strings.HasPrefix(s.Verdict, test.verdict) || len(s.Runs) != len(rep.Runs) {
				t.Errorf("verdict %q and %d rounds, want %q and %d", s.Verdict, len(s.Runs), test.verdict, len(rep.Runs))
			}
			if page, _ := os.ReadFile(o.html); strings.Contains(string(page), `class="alarm"`) != (test.verdict != "ok") {
				t.Errorf("the page is\n%s\nwant one with the verdict %q", page, test.verdict)
			}
			if !strings.HasPrefix(out.String(), test.stdout) || test.stdout == "" && !strings.HasPrefix(out.String(), "bench: ") {
				t.Errorf("stdout is %q, want %q", out.String(), test.stdout)
			}
		})
	}
}

// A report that cannot be saved is reported as lost, even after an interruption.
func TestFinishNotSaved(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	o := &options{out: filepath.Join(dir, "gone", "out.json")}
	var said benchtest.Buffer
	err := o.finish(over, report.New(cluster.Default(), nil, true), over.Err())
	if code := conclude(over, err, &said); code != exitInterrupted || !strings.HasPrefix(said.String(), "bench: interrupted: ") || !strings.Contains(said.String(), "the report was not saved: ") {
		t.Errorf("exit code %d, stderr %q, want 130 and that the report is lost", code, said.String())
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
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
	r := &load.Result{Counts: load.Counts{Connections: 8, Requests: requests, OK: requests}, Dur: time.Second}
	for range requests {
		r.ResponseTimes.Record(8 * time.Second / time.Duration(requests))
	}
	return r
}
