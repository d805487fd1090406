package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// differing says how the files differ from the first in what must be the same, or
// returns an error if they cannot be compared at all.
func differing(paths []string, files []*Report) (differ string, err error) {
	if slices.ContainsFunc(files, func(rep *Report) bool { return rep.Sweep != nil }) {
		return "", errors.New("a sweep is shown alone: its points are not compared with those of another file")
	}
	for i, other := range files[1:] {
		if list := differences(files[0], other); list != nil {
			differ += fmt.Sprintf("%s and %s differ: %s. ", paths[0], paths[i+1], strings.Join(list, "; "))
		}
	}
	return differ, nil
}

// differences lists what two reports cannot be compared for: where, with what, and what
// was measured.
func differences(a, b *Report) (list []string) {
	as, bs := a.circumstances(), b.circumstances()
	names := maps.Clone(as)
	maps.Copy(names, bs)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if as[name] != bs[name] {
			list = append(list, fmt.Sprintf("%s %.60s and %.60s", name, cmp.Or(as[name], "(none)"), cmp.Or(bs[name], "(none)")))
		}
	}
	return list
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
	all.note = fmt.Sprintf("%s, compared with %s.\nRounds of different files did not run next to each other: what changed "+
		"on the machine in between looks like a difference of the servers. Compared are medians of %s, and nothing is "+
		"claimed but whether their intervals overlap.", strings.Join(paths[1:], ", "), paths[0], compared)
	for i, rep := range files {
		name := label(paths, i)
		all.origins = append(all.origins, fmt.Sprintf("%s: %s: %s", name, rep.Env.Time.UTC().Format(time.DateTime), commandLine(rep.Env.Command)))
		if rule := rep.rule(); i > 0 && rule != files[0].rule() {
			all.note += fmt.Sprintf(" Figures of %s: %s.", paths[i], rule)
		}
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

// rule says what the intervals of the report are.
func (rep *Report) rule() string {
	if len(rep.Summary) == 0 {
		return "not measured"
	}
	return rep.Summary[0].OpsPerSecond.rule()
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
	if !a.verdict() || !b.verdict() {
		r.words = three(b.Median/a.Median) + " times, no verdict: too few rounds"
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
