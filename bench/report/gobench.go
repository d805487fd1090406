package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"lockstep/common/text"
)

// gobench is the report in the format of Go's benchmarks, one line a round
// (https://go.dev/design/14313-benchmark-format), so that benchstat reads it. The
// lines above say what must be the same in files that it compares.
func (rep *Report) Gobench() ([]byte, error) {
	var b bytes.Buffer
	set := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, strings.Join(strings.Fields(text.Printable(value)), " "))
		}
	}
	set("goos", rep.Env.OS)
	set("goarch", rep.Env.Arch)
	set("pkg", "lockstep/bench")
	set("cpu", rep.Env.CPUModel)
	set("cpus", fmt.Sprint(rep.Env.CPUs))
	set("go", rep.Env.Go)
	config, err := json.Marshal(rep.Config)
	if err != nil {
		return nil, err
	}
	var sections struct{ Workload, Server json.RawMessage }
	if err := json.Unmarshal(config, &sections); err != nil {
		return nil, err
	}
	set("workload", string(sections.Workload))
	if rep.Nodes > 0 { // how other servers were started is not known
		set("server", string(sections.Server))
	}
	for _, unit := range []string{"ops/s better=higher", "p50-ns better=lower", "p99-ns better=lower", "p99.9-ns better=lower",
		"server-cpu-ns/req better=lower", "client-cpu-ns/req better=lower"} {
		fmt.Fprintf(&b, "Unit %s\n", unit)
	}
	for _, s := range rep.Summary { // in the order of the table: benchstat takes the first for its base
		for _, run := range rep.Of(s) {
			rep.gobenchLine(&b, run)
		}
	}
	return b.Bytes(), nil
}

func (rep *Report) gobenchLine(b *bytes.Buffer, run Run) {
	if run.OK == 0 || run.Requests == 0 {
		fmt.Fprintf(b, "# %s, round %d: nothing was answered\n", part(run.Stage), run.Round)
		return
	}
	w := rep.workload(run.Point)
	fmt.Fprintf(b, "BenchmarkLockstep/stage=%s/c=%d/batch=%d", part(run.Stage), w.Connections, w.Batch)
	if sw := rep.Sweep; sw != nil && sw.Property != "c" && sw.Property != "batch" {
		fmt.Fprintf(b, "/%s=%s", sw.Property, part(run.Point))
	}
	fmt.Fprintf(b, "-%d %d", rep.Env.CPUs, run.Requests) // what follows the dash stands for GOMAXPROCS
	figure := func(v float64, unit string) {
		fmt.Fprintf(b, " %s %s", strconv.FormatFloat(math.Round(10*v)/10, 'f', -1, 64), unit)
	}
	figure(float64(run.Dur)/float64(run.OK), "ns/op")
	figure(run.OpsPerSecond, "ops/s")
	for _, q := range []struct {
		unit string
		d    time.Duration
	}{{"p50-ns", run.Latency.P50}, {"p99-ns", run.Latency.P99}, {"p99.9-ns", run.Latency.P999}} {
		figure(float64(q.d), q.unit)
	}
	if run.ServerCPUPerRequest > 0 {
		figure(run.ServerCPUPerRequest, "server-cpu-ns/req")
	}
	if run.ClientCPUPerRequest > 0 {
		figure(run.ClientCPUPerRequest, "client-cpu-ns/req")
	}
	fmt.Fprintf(b, " %d failed\n", run.Failed())
}

// part makes text fit to stand in a benchmark's name, whose parts end at a slash.
func part(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, text)
}
