package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/metrics"
)

// How a command ends, by what it measured and how the measurement ended.
func TestFinish(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	right, wrong, late := testRound(100), testRound(100), testRound(100)
	wrong.foundWrong(errors.New("key-017: blue"))
	record(&late.Slips, 1e9)
	slow, panicked := testRound(100), testRound(100)
	slow.ResponseTimes.Record(20 * time.Second) // the goal of all rounds is a maximum of 10s
	panicked.Nodes = []metrics.Snapshot{{Panics: 1}}
	died := errors.New("mine, node 0, died\nits last words:\n    panic: no")
	for _, test := range []struct {
		name    string
		ctx     context.Context
		round   *Result // nil: none was measured
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
		{"a wrong answer at the start", t.Context(), nil, codeError{exitWrongData, errors.New("key-017: missing")}, exitWrongData, "wrong data: key-017: missing", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out buffer
			dir := t.TempDir()
			o := &options{stdout: &out, out: filepath.Join(dir, "out.json"), html: filepath.Join(dir, "out.html")}
			rep := newReport(cluster.Default(), []string{"a"}, true)
			if err := o.save(rep); err != nil {
				t.Fatal(err)
			}
			if s := readSaved(t, o.out); s.Verdict != "interrupted" {
				t.Errorf("the report of a run that goes on says %q, want interrupted", s.Verdict)
			}
			if test.round != nil {
				rep.add("a", 1, test.round)
			}
			err := o.finish(test.ctx, rep, test.err)
			if code := complain(test.ctx, err, &out); code != test.code {
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
	var said buffer
	err := o.finish(over, newReport(cluster.Default(), nil, true), over.Err())
	if code := complain(over, err, &said); code != exitInterrupted || !strings.HasPrefix(said.String(), "bench: interrupted: ") || !strings.Contains(said.String(), "the report was not saved: ") {
		t.Errorf("exit code %d, stderr %q, want 130 and that the report is lost", code, said.String())
	}
	if files, _ := os.ReadDir(dir); len(files) != 0 {
		t.Errorf("%d files are left", len(files))
	}
}
