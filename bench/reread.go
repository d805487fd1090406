package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	Stages []string `json:"stages"` // in the order of the table; the first is the baseline
	Nodes  int      `json:"nodes"`  // of each stage, where bench started them; 0: they ran already
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
		if slices.ContainsFunc(files, func(rep *Report) bool { return rep.Sweep != nil }) {
			return usageErrorf("a sweep is shown alone: its points are not compared with those of another file")
		}
		differ := ""
		for i, other := range files[1:] {
			if list := differences(rep, other); list != nil {
				differ += fmt.Sprintf("%s and %s differ: %s. ", o.args[0], o.args[i+1], strings.Join(list, "; "))
			}
		}
		if differ != "" && !o.force {
			return usageErrorf("%s-force compares them all the same", printable(differ))
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
		return nil, fmt.Errorf("%s is no report that bench -o has written: %s", path, printable(err.Error()))
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
	rep.Runs, rep.stages, rep.nodes = file.Runs, file.Stages, file.Nodes
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
	if err := rep.Config.Validate(); err != nil {
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
			return fmt.Errorf("runs[%d]: %v is not in 0..2^50, as all its figures must be", i, v)
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

// odd returns a figure of the round that is negative or absurdly large, if one is.
func (run *Run) odd() (float64, bool) {
	figures := []float64{float64(run.Round), run.OpsPerSecond, run.ServerCPU, run.ClientCPU}
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
		if math.IsNaN(v) || v < 0 || v > maxFigure {
			return v, true
		}
	}
	return 0, false
}

// differences lists what two reports cannot be compared for: where, with what, and what
// was measured.
func differences(a, b *Report) (list []string) {
	as, bs := a.circumstances(), b.circumstances()
	names := maps.Clone(as)
	maps.Copy(names, bs)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if as[name] != bs[name] {
			list = append(list, fmt.Sprintf("%s %.60s and %.60s", name, orNone(as[name]), orNone(bs[name])))
		}
	}
	return list
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

// circumstances are what must be the same in reports that are compared, by name.
func (rep *Report) circumstances() map[string]string {
	env := rep.Env
	all := map[string]string{
		"cpu": env.CPUModel, "cpus": fmt.Sprint(env.CPUs), "os": env.OS, "arch": env.Arch, "go": env.Go,
		"client and servers on one machine": fmt.Sprint(env.Shared),
		"nodes":                             fmt.Sprint(len(rep.Config.Nodes)),
		"servers":                           "ran already",
	}
	if rep.nodes > 0 {
		all["nodes"], all["servers"] = fmt.Sprint(rep.nodes), "started by bench"
	}
	for name, value := range rep.settings() {
		all[name] = value
	}
	return all
}

// settings are the properties of the workload and of the servers, by name. Those of
// servers that ran already are nobody's knowledge.
func (rep *Report) settings() map[string]string {
	all := make(map[string]string)
	data, _ := json.Marshal(rep.Config) // of plain values, and so no error
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // a seed has more digits than a float64
	var file map[string]any
	dec.Decode(&file)
	var walk func(path string, v any)
	walk = func(path string, v any) {
		object, ok := v.(map[string]any)
		if !ok {
			all[path] = fmt.Sprint(v)
		}
		for name, v := range object {
			walk(path+"."+name, v)
		}
	}
	walk("workload", file["workload"])
	if rep.nodes > 0 {
		walk("server", file["server"])
	}
	return all
}

// sideBySide is one report of several files, whose stages are called after both, as
// stage4_bucketlock@before. Each is compared with its namesake in the first file; or
// with the only stage that the first file has.
func sideBySide(paths []string, files []*Report) *Report {
	all := *files[0]
	all.Runs, all.Summary, all.stages = nil, nil, nil
	all.Verdict = "ok"
	open, compared := all.Config.Workload.Rate > 0, "operations a second"
	if open {
		compared = "the response time at p99"
	}
	all.note = fmt.Sprintf("Rounds of different files did not run next to each other: what changed on the machine "+
		"in between looks like a difference of the servers. Compared are medians of %s, and nothing is claimed but "+
		"whether their intervals overlap.", compared)
	for i, rep := range files {
		name := label(paths, i)
		if rep.Verdict != "ok" && all.Verdict == "ok" {
			kind, reason, _ := strings.Cut(rep.Verdict, ": ")
			all.Verdict = kind + ": " + paths[i] + ": " + reason
		}
		for _, s := range rep.Summary {
			s.Ratio = nil
			if open {
				s.Ratio = &Ratio{Of: "p99", words: s.P99.times()} // in place of a column of its own
			}
			if base, ok := namesake(files[0], s.Stage); ok && i > 0 {
				s.Ratio = unpaired(base, s, open)
			}
			s.Stage += "@" + name
			all.Summary, all.stages = append(all.Summary, s), append(all.stages, s.Stage)
		}
		for _, run := range rep.Runs {
			run.Stage += "@" + name
			all.Runs = append(all.Runs, run)
		}
	}
	return &all
}

// label is a short name for one of the files: its base without the extension, and a
// number where two would be the same.
func label(paths []string, i int) string {
	base := func(path string) string {
		return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	name := strings.ReplaceAll(printable(base(paths[i])), "\n", " ")
	for j, path := range paths {
		if j != i && base(path) == base(paths[i]) {
			return fmt.Sprintf("%s#%d", name, i+1)
		}
	}
	return name
}

// namesake is what a report has to compare a stage with.
func namesake(first *Report, stage string) (Summary, bool) {
	if len(first.Summary) == 1 {
		return first.Summary[0], true
	}
	i := slices.IndexFunc(first.Summary, func(s Summary) bool { return s.Stage == stage })
	if i < 0 {
		return Summary{}, false
	}
	return first.Summary[i], true
}

// unpaired compares two stages whose rounds do not pair up, of an open loop or of a
// closed one.
func unpaired(base, s Summary, open bool) *Ratio {
	a, b := base.OpsPerSecond, s.OpsPerSecond
	r := &Ratio{Of: "ops_per_s"}
	if open {
		a, b, r.Of = base.P99, s.P99, "p99"
	}
	r.NoDifference = min(a.Rounds, b.Rounds) < 2 || a.Low <= b.High && b.Low <= a.High
	if a.Median <= 0 || b.Median <= 0 {
		r.words = "not comparable"
		return r
	}
	r.words = three(b.Median/a.Median) + " times, intervals do not overlap"
	if r.NoDifference {
		r.words = three(b.Median/a.Median) + " times, no difference shown"
	}
	if open {
		r.words = b.times() + ": " + r.words
	}
	return r
}

// times is an interval of times.
func (iv interval) times() string {
	at := func(v float64) string { return span(time.Duration(v)) }
	return fmt.Sprintf("%s [%s..%s]", at(iv.Median), at(iv.Low), at(iv.High))
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
