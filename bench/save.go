package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/bench/load"
	"lockstep/bench/page"
	"lockstep/bench/report"
	"lockstep/common/text"
)

// An output is a file that a report is written to, in one of its forms.
type output struct {
	path   string
	render func(*report.Report) ([]byte, error)
}

// outputs returns the files that the flags name.
func (o *options) outputs() []output {
	all := []output{{o.out, (*report.Report).JSON}, {o.html, page.Render}, {o.gobench, (*report.Report).Gobench}}
	return slices.DeleteFunc(all, func(out output) bool { return out.path == "" })
}

// distinct returns an error if two of the outputs are one file, or one is an input.
func (o *options) distinct(inputs []string) error {
	taken := slices.Clone(inputs)
	for _, out := range o.outputs() {
		if slices.ContainsFunc(taken, func(other string) bool { return sameFile(other, out.path) }) && !isDevice(out.path) {
			return usageErrorf("%s cannot be used twice: -o, -html, -gobench and the report that is read need a file each", out.path)
		}
		taken = append(taken, out.path)
	}
	return nil
}

// sameFile reports whether two paths name the same file, which need not exist yet.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(infoA, infoB)
	}
	a, errA = filepath.Abs(a)
	b, errB = filepath.Abs(b)
	return a == b && errA == nil && errB == nil
}

// save writes the report of an unfinished run to all outputs. The verdict in them is
// "interrupted", which is true if nothing is written after it.
func (o *options) save(rep *report.Report) error {
	soFar := *rep
	if soFar.Verdict == "ok" {
		soFar.Verdict = "interrupted"
	}
	if err := o.distinct(nil); err != nil {
		return err
	}
	return o.writeAll(&soFar, false) // a device gets only the final report
}

// writeAll writes the report to all outputs, or to all but devices.
func (o *options) writeAll(rep *report.Report, devices bool) (err error) {
	for _, out := range o.outputs() {
		if devices || !isDevice(out.path) {
			err = errors.Join(err, out.write(rep))
		}
	}
	return err
}

// finish prints and saves the report of a measurement that ended with err, and returns
// how the command ended. A wrong answer outweighs everything that happened after it.
func (o *options) finish(ctx context.Context, rep *report.Report, err error) error {
	switch {
	case errors.Is(err, load.ErrWrong):
		rep.Verdict = "wrong data: " + err.Error()
	case err == nil, strings.HasPrefix(rep.Verdict, "wrong data"):
	case ctx.Err() != nil:
		rep.Verdict = "interrupted"
	case !strings.HasPrefix(rep.Verdict, "failed"):
		rep.Verdict = "failed: " + err.Error()
	}
	err = errors.Join(err, o.writeAll(rep, true))
	if len(rep.Runs) > 0 {
		if _, e := fmt.Fprint(o.stdout, text.Printable(rep.String())); e != nil {
			err = errors.Join(err, fmt.Errorf("printing the report: %w", e))
		}
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

var errNotSaved = errors.New("the report was not saved")

// write saves the report. The file is replaced as a whole, or stays as it was.
func (out output) write(rep *report.Report) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", errNotSaved, err)
		}
	}()
	data, err := out.render(rep)
	if err != nil {
		return err
	}
	if isDevice(out.path) {
		return os.WriteFile(out.path, data, 0o666)
	}
	f, err := os.CreateTemp(filepath.Dir(out.path), filepath.Base(out.path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close(), os.Chmod(f.Name(), 0o644)); err == nil {
		err = os.Rename(f.Name(), out.path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// isDevice reports whether path is something that can be written to but must not be
// replaced by a file: a terminal, a pipe, or a link such as /dev/stdout.
func isDevice(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && !info.Mode().IsRegular() && !info.IsDir()
}
