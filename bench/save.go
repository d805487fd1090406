package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lockstep/bench/load"
	"lockstep/bench/page"
	"lockstep/bench/report"
	"lockstep/common/text"
)

// An output is a file that a report is written to, in one of its forms.
type output struct {
	path   string // standardOutput, or of a file
	render func(*report.Report) ([]byte, error)
	stdout io.Writer
}

const standardOutput = "-"

// outputs returns the files that the flags name.
func (o *options) outputs() []output {
	all := []output{{o.out, (*report.Report).JSON, o.stdout}, {o.html, page.Render, o.stdout}, {o.gobench, (*report.Report).Gobench, o.stdout}}
	return slices.DeleteFunc(all, func(out output) bool { return out.path == "" })
}

// checkOutputs returns an error if an output cannot be written to, or if two of them are one
// file, or one is an input. It changes no file and leaves none.
func (o *options) checkOutputs(inputs ...string) error {
	for _, out := range o.outputs() {
		if out.path != standardOutput {
			if isDevice(out.path) {
				continue // opening it may wait for its reader
			}
			_, missing := os.Stat(out.path)
			f, err := os.OpenFile(out.path, os.O_WRONLY|os.O_CREATE, 0o666)
			if err != nil {
				return fmt.Errorf("%w: %w", errNotSaved, err)
			}
			f.Close()
			if path, err := filepath.EvalSymlinks(out.path); missing != nil && err == nil {
				defer os.Remove(path) // when it was compared with all others
			}
		}
		if slices.ContainsFunc(inputs, func(other string) bool { return sameFile(other, out.path) }) {
			return usageErrorf("%s cannot be used twice: -o, -html, -gobench and the report that is read need a file each", out.path)
		}
		inputs = append(inputs, out.path)
	}
	return nil
}

// sameFile reports whether two paths name the same file, or standard output.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return a == b || errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// save writes the report of an unfinished run to all outputs. The verdict in them is
// "interrupted", which is true if nothing is written after it. A report that takes long to
// write is written less often, so that saving takes a tenth of the time.
func (o *options) save(rep *report.Report) error {
	start := time.Now()
	if start.Before(o.nextSave) {
		return nil
	}
	soFar := *rep
	if soFar.Verdict == "ok" {
		soFar.Verdict = "interrupted"
	}
	err := o.writeAll(context.Background(), &soFar, false) // a device gets only the final report
	o.nextSave = time.Now().Add(9 * time.Since(start))
	return err
}

// writeAll writes the report to all outputs, or to all but devices. A measurement in which
// no request was answered replaces nothing.
func (o *options) writeAll(ctx context.Context, rep *report.Report, devices bool) (err error) {
	if o.command != "report" && !slices.ContainsFunc(rep.Runs, func(r report.Run) bool { return r.Requests > 0 }) {
		return nil
	}
	for _, out := range o.outputs() {
		if devices || !isDevice(out.path) {
			err = errors.Join(err, out.write(ctx, rep))
		}
	}
	return err
}

// finish prints and saves the report of a measurement that ended with err, and returns
// how the command ended. A wrong answer outweighs everything that happened after it.
func (o *options) finish(ctx context.Context, rep *report.Report, err error) error {
	o.line.Stop()
	switch {
	case errors.Is(err, load.ErrWrong):
		rep.Verdict = "wrong data: " + err.Error()
	case err == nil, strings.HasPrefix(rep.Verdict, "wrong data"):
	case ctx.Err() != nil:
		rep.Verdict = "interrupted"
	case !strings.HasPrefix(rep.Verdict, "failed"):
		rep.Verdict = "failed: " + err.Error()
	}
	if len(rep.Runs) > 0 {
		err = errors.Join(err, o.show(ctx, rep))
	}
	switch {
	case strings.HasPrefix(rep.Verdict, "wrong data") && !errors.Is(err, load.ErrWrong):
		return codeError{exitWrongData, errors.Join(errors.New(rep.Verdict), err)}
	case err != nil || rep.Verdict == "ok":
		return err
	case strings.HasPrefix(rep.Verdict, "invalid"):
		return codeError{exitInvalid, errors.New(rep.Verdict)}
	}
	return errors.New(rep.Verdict)
}

// reread shows a report that -o saved.
func reread(ctx context.Context, o *options) error {
	return interruptible(ctx, func() error {
		rep, err := report.Read(o.args[0])
		if err == nil {
			err = o.show(ctx, rep)
		}
		return err
	})
}

// show writes the report to all outputs, and prints it: beside an output that is standard
// output, to standard error.
func (o *options) show(ctx context.Context, rep *report.Report) error {
	err, printed := o.writeAll(ctx, rep, true), o.stdout
	if slices.ContainsFunc(o.outputs(), func(out output) bool { return out.path == standardOutput }) {
		printed = o.stderr
	}
	_, notPrinted := fmt.Fprint(printed, text.Printable(rep.String()))
	return errors.Join(err, notPrinted)
}

var errNotSaved = errors.New("the report was not saved")

// write saves the report. A file is replaced as a whole, or stays as it was; where that is
// not possible, as for a device or the mount of a single file, it is overwritten.
func (out output) write(ctx context.Context, rep *report.Report) error {
	data, err := out.render(rep)
	if err == nil && out.path == standardOutput {
		_, err = out.stdout.Write(data)
	} else if err == nil && isDevice(out.path) {
		err = interruptible(ctx, func() error { return os.WriteFile(out.path, data, 0o666) })
	} else if err == nil {
		err = out.replace(data)
	}
	if file := new(os.PathError); errors.As(err, &file) {
		file.Path = out.path // and not that of the temporary file
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", errNotSaved, err)
	}
	return err
}

// replace replaces the content of a file, and keeps its permissions.
func (out output) replace(data []byte) error {
	var f *os.File
	path, err := filepath.EvalSymlinks(out.path)
	old, missing := os.Stat(out.path)
	if err = errors.Join(err, missing); err == nil {
		f, err = os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	}
	if err == nil {
		defer os.Remove(f.Name()) // fails if all is well
		_, err = f.Write(data)
		if err = errors.Join(err, f.Close(), os.Chmod(f.Name(), old.Mode())); err != nil {
			return err
		}
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = os.WriteFile(out.path, data, 0o666)
	}
	return err
}

// isDevice reports whether path is something that can be written to but must not be
// replaced by a file: a terminal, a pipe, or where this program prints.
func isDevice(path string) bool {
	info, err := os.Stat(path)
	return path == standardOutput || err == nil && !info.Mode().IsRegular() && !info.IsDir() || sameFile(path, "/dev/stdout") || sameFile(path, "/dev/stderr")
}

// interruptible calls f, which may wait for the other end of a pipe. It returns when f does, or
// a second after the end of ctx; f then ends with the other end or with the program.
func interruptible(ctx context.Context, f func() error) error {
	done := make(chan error, 2) // the first counts
	go func() { done <- f() }()
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(time.Second, func() { done <- errors.New("nobody is at the other end of the pipe") })
	})()
	return <-done
}
