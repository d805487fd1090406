package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// save writes the report of a run that goes on, if -o asks for it. What it writes
// calls itself interrupted: so it is, if nothing is written after it.
func (o *options) save(rep *Report) error {
	if o.out == "" || isDevice(o.out) { // a pipe takes one report, the last
		return nil
	}
	soFar := *rep
	if soFar.Verdict == "ok" {
		soFar.Verdict = "interrupted"
	}
	return soFar.write(o.out)
}

// finish prints the report, whole or not, and saves it, and says how the command
// ended; err is how the measurement did. A wrong answer is worse than whatever
// happened after it.
func (o *options) finish(ctx context.Context, rep *Report, err error) error {
	var code codeError
	if errors.As(err, &code) && code.code == exitWrongData {
		rep.Verdict = "wrong data: " + err.Error()
	}
	wrong := strings.HasPrefix(rep.Verdict, "wrong data")
	if missed := o.goals.missed(rep.Summary); err == nil && rep.Verdict == "ok" && missed != "" {
		rep.Verdict = "goal missed: " + missed
	}
	switch {
	case err == nil, wrong:
	case ctx.Err() != nil:
		rep.Verdict = "interrupted"
	default:
		rep.Verdict = "failed: " + err.Error()
	}
	if o.out != "" {
		err = errors.Join(err, rep.write(o.out))
	}
	if len(rep.Runs) > 0 {
		if _, e := fmt.Fprint(o.stdout, rep); e != nil {
			err = errors.Join(err, fmt.Errorf("printing the report: %w", e))
		}
	}
	switch {
	case wrong && code.code == 0:
		return codeError{exitWrongData, errors.Join(errors.New(rep.Verdict), err)}
	case err != nil || rep.Verdict == "ok":
		return err
	case strings.HasPrefix(rep.Verdict, "invalid"):
		return codeError{exitInvalid, errors.New(rep.Verdict)}
	case strings.HasPrefix(rep.Verdict, "goal missed"):
		return codeError{exitMissed, errors.New(rep.Verdict)}
	}
	return errors.New(rep.Verdict)
}

var errNotSaved = errors.New("the report was not saved")

// write saves the report, so that the file at path is always a whole one: as it was
// before, or as it is now.
func (rep *Report) write(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", errNotSaved, err)
		}
	}()
	data, err := json.Marshal(rep)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if isDevice(path) {
		return os.WriteFile(path, data, 0o666)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// isDevice reports whether path is a terminal or a pipe, or whatever else must not
// be replaced by a file.
func isDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.Mode().IsRegular()
}
