package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
	_, path := benchtest.StartCluster(t, 1, 1, benchtest.ServeLocked)
	code, _, stderr := bench(t, "run", "-config", path, "-ops", "1000", "-o", at("o.json"), "-html", at("o.html"), "-gobench", at("o.txt"))
	if code != exitOK && code != exitInvalid {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	for name, want := range map[string]string{"o.json": `"schema":2`, "o.html": "<h2>Throughput</h2>", "o.txt": "BenchmarkLockstep/stage=here/"} {
		data, err := os.ReadFile(at(name))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s has no %q, error %v", name, want, err)
		}
	}
	for _, test := range []struct{ flags, want string }{
		{"-html " + at("no/such.html"), "the report was not saved: "},
		{"-gobench " + at("no/such.txt"), "the report was not saved: "},
		{"-html " + dir, "the report was not saved: "},
		{"-o " + at("o.html") + " -html " + dir + "/./o.html", "o.html cannot be used twice"},
	} {
		code, stdout, stderr := bench(t, append([]string{"run", "-config", path, "-duration", "1h"}, strings.Fields(test.flags)...)...)
		if code == exitOK || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", test.flags, code, stdout, stderr, test.want)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 3 {
		t.Errorf("%d files, want 3", len(files))
	}
}

func TestReportJSON(t *testing.T) {
	rep := testReport(func(*cluster.Config) {})
	path := filepath.Join(t.TempDir(), "report.json")
	if err := (output{path, (*report.Report).JSON}).write(rep); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(rep.Config.Nodes[0].Addr)) {
		t.Error("the file does not hold the configuration")
	}
	if bytes.Contains(data, []byte("0123456789abcdef")) {
		t.Error("the file holds the secret")
	}
	var file struct {
		Schema int
		Env    map[string]any
		Config map[string]any
		Runs   []struct {
			Stage     string
			Round     int
			Dur       int64 `json:"dur_ns"`
			OK        int64
			Errors    map[string]int64
			Latency   map[string]int64 `json:"latency_ns"`
			Histogram struct{ Buckets [][2]int64 }
		}
		Summary []map[string]any
		Verdict string
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if file.Schema != 2 || file.Verdict != "ok" || len(file.Runs) != 18 || len(file.Summary) != 3 || len(file.Env) == 0 || len(file.Config) == 0 {
		t.Errorf("schema %d, verdict %q, %d runs, %d in the summary; env %v, config %v",
			file.Schema, file.Verdict, len(file.Runs), len(file.Summary), file.Env, file.Config)
	}
	run := file.Runs[1]
	if run.Stage != "stage1_singlethread" || run.Round != 1 || run.Dur != 1e9 || run.OK != 6007 || run.Errors["other"] != 1 {
		t.Errorf("the second run is %+v", run)
	}
	for _, name := range []string{"p50", "p90", "p99", "p999", "max", "mean"} {
		if run.Latency[name] < 166_000 || run.Latency[name] > 168_000 { // 1 s / 6007
			t.Errorf("latency_ns.%s = %d, want about 167 µs", name, run.Latency[name])
		}
	}
	if len(run.Histogram.Buckets) != 1 || run.Histogram.Buckets[0][1] != 6007 {
		t.Errorf("histogram has the buckets %v, want one with 6007", run.Histogram.Buckets)
	}
	if none := file.Runs[0].Errors; none == nil {
		t.Error("errors is null where there are none, want {}")
	}
}

func TestReportWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "report.json")
	rep := report.New(cluster.Default(), []string{"a"}, false)
	for range 2 { // the second time over the first
		if err := (output{path, (*report.Report).JSON}).write(rep); err != nil {
			t.Fatal(err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files beside each other after two writes, want 1", len(files))
	}
	// A report that cannot be encoded, or stored, leaves the one before alone, and nothing beside it.
	before, _ := os.ReadFile(path)
	broken := *rep
	broken.Runs = []report.Run{{OpsPerSecond: 1 / zero()}}
	if err := (output{path, (*report.Report).JSON}).write(&broken); err == nil {
		t.Error("no error for a report that cannot be encoded")
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
		t.Error("a write that failed changed the file")
	}
	if err := (output{filepath.Join(dir, "missing", "report.json"), (*report.Report).JSON}).write(rep); err == nil {
		t.Error("no error for a folder that does not exist")
	}
	if err := (output{dir, (*report.Report).JSON}).write(rep); err == nil {
		t.Error("no error for a folder in place of a file")
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files after writes that failed, want 1", len(files))
	}
}

// What is no file, such as /dev/stdout, is written to and not replaced.
func TestReportWriteDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	rep := report.New(cluster.Default(), []string{"a"}, false)
	if err := (output{path, (*report.Report).JSON}).write(rep); err == nil {
		t.Error("no error for a socket, which cannot be opened")
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() {
		t.Errorf("the socket is now %v, error %v", info, err)
	}
}

func zero() float64 { return 0 }

// How a command ends, by what it measured and how the measurement ended.
func TestFinish(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	right, wrong, late := testRound(100), testRound(100), testRound(100)
	wrong.FoundWrong(errors.New("key-017: blue"))
	load.Record(&late.Slips, 1e9)
	slow, panicked := testRound(100), testRound(100)
	slow.ResponseTimes.Record(20 * time.Second) // the goal of all rounds is a maximum of 10s
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

// A report that cannot be saved is said to be lost, also by a run that is interrupted.
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
