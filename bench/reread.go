package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	properties "lockstep/bench/workload"
	"lockstep/common/cluster"
)

// What a file may hold, so that reading it takes a bounded time and memory. A round of
// this program's own has at most some 2000 objects, and takes some kilobytes.
const (
	maxReport  = 64 << 20 // bytes
	maxObjects = 1 << 20  // of JSON
	maxRuns    = 10_000   // each with histograms of 30 KiB
	maxFigure  = 1 << 50  // 13 days in nanoseconds
)

// A reportFile is a Report as it stands in a file.
type reportFile struct {
	*Report
	Runs   runList  `json:"runs"`
	Stages []string `json:"stages"`       // in the order of the table; the first is the baseline
	Nodes  int      `json:"nodes"`        // of each stage, where bench started them; 0: they ran already
	AA     bool     `json:"aa,omitempty"` // the second stage is the first one again
}

// A runList is read run by run, so that one that is too long is refused before it is large.
type runList []Run

func (l *runList) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return fmt.Errorf("runs: %.20q is not a list", data)
	}
	for *l = (runList{}); dec.More(); {
		if len(*l) == maxRuns {
			return fmt.Errorf("runs: there are more than %d", maxRuns)
		}
		var run Run
		if err := dec.Decode(&run); err != nil {
			return fmt.Errorf("runs[%d]: %w", len(*l), err)
		}
		*l = append(*l, run)
	}
	return nil
}

func rereadFlags(o *options, fs *flag.FlagSet) {
	o.renderFlags(fs)
	fs.BoolVar(&o.force, "force", false, "compare files although what they measured differs")
}

// reread shows what -o has saved, and compares several such files with the first.
func reread(_ context.Context, o *options) error {
	if err := o.distinct(o.args); err != nil {
		return err
	}
	var files []*Report
	for _, path := range o.args {
		rep, err := readReport(path)
		if err != nil {
			return err
		}
		files = append(files, rep)
	}
	rep := files[0]
	if len(files) > 1 {
		differ, err := differing(o.args, files)
		if err == nil && differ != "" && !o.force {
			err = fmt.Errorf("%s-force compares them all the same", printable(differ))
		}
		if err != nil {
			return usageErrorf("%w", err)
		}
		rep = sideBySide(o.args, files)
		if differ != "" {
			rep.note += " Compared although " + differ
		}
	}
	for _, out := range o.outputs() {
		if err := rep.write(out); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(o.stdout, printable(rep.String()))
	return err
}

// readReport reads a file that -o has written. Whatever else is in it, an error names it.
func readReport(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxReport+1))
	if err != nil {
		return nil, err
	}
	rep, err := parseReport(data)
	if err != nil {
		return nil, fmt.Errorf("%s is no report that bench -o has written: %w", path, err)
	}
	return rep, nil
}

func parseReport(data []byte) (*Report, error) {
	switch {
	case len(data) > maxReport:
		return nil, fmt.Errorf("it is larger than %d bytes", maxReport)
	case bytes.Count(data, []byte("{")) > maxObjects:
		return nil, fmt.Errorf("it holds more than %d objects", maxObjects)
	}
	var version struct{ Schema int }
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Schema != 1 {
		return nil, fmt.Errorf("its schema is %d, and this program knows 1", version.Schema)
	}
	file := reportFile{Report: new(Report)}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	rep := file.Report
	rep.Runs, rep.stages, rep.nodes, rep.aa = file.Runs, file.Stages, file.Nodes, file.AA
	for _, s := range rep.Summary { // in the order of the table, too
		if !slices.Contains(rep.stages, s.Stage) {
			rep.stages = append(rep.stages, s.Stage)
		}
	}
	if err := rep.check(); err != nil {
		return nil, err
	}
	rep.Summary = rep.summarize()
	return rep, nil
}

// check returns an error if the report holds what this program does not write, and
// could not show.
func (rep *Report) check() error {
	if err := rep.Config.Validate(properties.Rules()); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if err := rep.Sweep.check(rep.Config); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, stage := range rep.stages {
		if n := len(stage); n == 0 || n > 100 || printable(stage) != stage || strings.Contains(stage, "\n") {
			return fmt.Errorf("a stage is called %.100q", stage)
		}
	}
	for i, run := range rep.Runs {
		if !slices.Contains(rep.stages, run.Stage) {
			return fmt.Errorf("runs[%d]: the stage %.100q is not one of the report's", i, run.Stage)
		}
		if rep.Sweep == nil && run.Point != "" || rep.Sweep != nil && !slices.Contains(rep.Sweep.Points, run.Point) {
			return fmt.Errorf("runs[%d]: %.100q is no point of the sweep", i, run.Point)
		}
		if v, ok := run.odd(); ok {
			return fmt.Errorf("runs[%d]: %v is not 0 or in 2^-50..2^50, as all its figures must be", i, v)
		}
	}
	return nil
}

// check restores what the file does not hold of a sweep, if there is one.
func (sw *Sweep) check(cfg cluster.Config) error {
	if sw == nil {
		return nil
	}
	if n := len(sw.Points); n < 1 || n > 1000 {
		return fmt.Errorf("it has %d points", n)
	}
	again, err := parseSweep(sw.Property+"="+strings.Join(sw.Points, ","), cfg)
	if err != nil {
		return err
	}
	if !slices.Equal(again.Points, sw.Points) {
		return fmt.Errorf("the points %.100q are not written as such", sw.Points)
	}
	*sw = *again
	return nil
}

// odd returns a figure of the round that is negative, or absurdly large or small, if one
// is: it would go on to ratios and axes.
func (run *Run) odd() (float64, bool) {
	figures := []float64{float64(run.Round), run.OpsPerSecond, run.ServerCPU, run.ClientCPU, run.Held}
	for _, n := range []int64{int64(run.Dur), run.Requests, run.OK, run.Misses, run.Mismatches, run.Unfinished, run.Wrong,
		int64(run.Connections), int64(run.Starved), int64(run.NeverGreeted)} {
		figures = append(figures, float64(n))
	}
	l := run.Latency
	times := []time.Duration{l.P50, l.P90, l.P99, l.P999, l.Max, l.Mean}
	if w := run.Where; w != nil {
		times = append(times, w.Queue, w.Lock, w.Table, w.Codec, w.Rest)
	}
	for _, d := range times {
		figures = append(figures, float64(d))
	}
	for _, n := range run.Series {
		figures = append(figures, float64(n))
	}
	for _, n := range run.Nodes {
		figures = append(figures, float64(n.Requests))
	}
	for _, v := range figures {
		if v < 0 || v > maxFigure || v > 0 && v < 1./maxFigure {
			return v, true
		}
	}
	return 0, false
}

// printable replaces what is not text, and could take hold of a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, text)
}
