package cluster

import (
	"bytes"
	"flag"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func flags(c *Config) *flag.FlagSet {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.ServerFlags(fs)
	c.WorkloadFlags(fs)
	return fs
}

func TestFlags(t *testing.T) {
	c := Default()
	fs := flags(&c)
	args := strings.Split("-workers=1 -queue=0 -buckets=2 -work=spin 2ms -max_connections=3 -idle_timeout=4s "+
		"-frame_timeout=5s -write_timeout=6s -drain_timeout=7s -c=8 -ops=9 -keys=10 -value=11..12 -mix=put:12,cas=88 "+
		"-duration=13s -dist=zipf:0.99 -batch=14 -depth=15 -rate=16.5 -arrival=poisson -conn=per-request -seed=17", " -")
	for i := range args[1:] {
		args[i+1] = "-" + args[i+1]
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Server = Server{1, 0, 2, Work{true, 2 * time.Millisecond}, 3, 4 * time.Second, 5 * time.Second, 6 * time.Second, 7 * time.Second}
	want.Workload = Workload{8, 9, 10, Size{11, 12}, Mix{Put: 12, CAS: 88}, 13 * time.Second, "zipf:0.99", 14, 15, 16.5, "poisson", "per-request", 17}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("parsed\n%+v, want\n%+v", c, want)
	}
	fs.VisitAll(func(f *flag.Flag) { // every flag stands in args, and so was tested
		if used := "-" + f.Name + "="; f.Name != "connections" && !strings.Contains(strings.Join(args, " "), used) {
			t.Errorf("the flag %s is not tested", used)
		}
	})
	if err := fs.Parse([]string{"-connections=77"}); err != nil || c.Workload.Connections != 77 {
		t.Errorf("-connections=77: %d, %v", c.Workload.Connections, err)
	}
}

func TestFlagsOverrideFile(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	c := Default()
	fs := flags(&c)
	args := []string{"-workers", "5"}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	file, err := parse("file", []byte(`{"server": {"workers": 6, "queue": 7}}`))
	if err != nil {
		t.Fatal(err)
	}
	c = file
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	if c.Server.Workers != 5 || c.Server.Queue != 7 {
		t.Errorf("workers, queue = %d, %d, want 5 from the flag, 7 from the file", c.Server.Workers, c.Server.Queue)
	}
}

func TestFlagErrors(t *testing.T) {
	for args, want := range map[string]string{
		"-workers=0":          "server.workers: 0 is not in 1..4096",
		"-value=16385":        "workload.value: 16385 is not in 0..16384, or a range such as 16..1024",
		"-value=16..":         "workload.value: 16.. is not in 0..16384, or a range such as 16..1024",
		"-value=9..8":         "workload.value: 9..8 is not in 0..16384, or a range such as 16..1024",
		"-value=1..2..3":      "workload.value: 1..2..3 is not in 0..16384, or a range such as 16..1024",
		"-value=-1..3":        "workload.value: -1..3 is not in 0..16384, or a range such as 16..1024",
		"-queue=many":         "server.queue: many is not in 0..1000000",
		"-c=0":                "workload.connections: 0 is not in 1..100000",
		"-work=1":             `server.work: 1 is not in 0s..1m0s, or as "spin 1ms"`,
		"-rate=NaN":           "workload.rate: NaN is not 0, or in 0.001..1e+06",
		"-mix=get=60":         "workload.mix: get=60 is not get=N,put=N,delete=N,cas=N adding up to 100",
		"-mix=get=50,get=100": "workload.mix: get=50,get=100 is not get=N,put=N,delete=N,cas=N adding up to 100",
		"-mix=get=-1,put=101": "workload.mix: get=-1,put=101 is not get=N,put=N,delete=N,cas=N adding up to 100",
		"-mix=read=100":       "workload.mix: read=100 is not get=N,put=N,delete=N,cas=N adding up to 100",
		"-mix=get=100,":       "workload.mix: get=100, is not get=N,put=N,delete=N,cas=N adding up to 100",
	} {
		c := Default()
		err := flags(&c).Parse([]string{args})
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", args, err, want)
		}
		if !reflect.DeepEqual(c, Default()) {
			t.Errorf("%s: refused, and changed the Config to %+v", args, c)
		}
	}
}

// The defaults that -h shows come from String; flag calls it on a zero value, too.
func TestFlagUsage(t *testing.T) {
	c := Default()
	fs := flags(&c)
	var out bytes.Buffer
	fs.SetOutput(&out)
	fs.PrintDefaults()
	for _, want := range []string{
		"goroutines that execute requests (stages 3 and 4); in 1..4096 (default 8)",
		"(default get=60,put=40)", "(default 1m0s)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the usage\n%s\ndoes not say %q", &out, want)
		}
	}
	if strings.Contains(out.String(), "panic") {
		t.Errorf("the usage\n%s", &out)
	}
}

func TestWriteHelp(t *testing.T) {
	var out bytes.Buffer
	WriteHelp(&out)
	c := Default()
	for _, p := range c.properties() {
		if !strings.Contains(out.String(), "\n"+p.path+" ") || p.doc == "" {
			t.Errorf("%s is not explained", p.path)
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns, want at most 80: %s", n, line)
		}
	}
}

func TestParseDist(t *testing.T) {
	type parts struct {
		name string
		a, b float64
		ok   bool
	}
	for text, want := range map[string]parts{
		"uniform":          {"uniform", 0, 0, true},
		"zipf:0.99":        {"zipf", 0.99, 0, true},
		"zipf:10":          {"zipf", 10, 0, true},
		"hotspot:20,80":    {"hotspot", 20, 80, true},
		"hotspot:100,0":    {"hotspot", 100, 0, true},
		"hotspot:0.1,99.9": {"hotspot", 0.1, 99.9, true},
	} {
		name, a, b, ok := ParseDist(text)
		if got := (parts{name, a, b, ok}); got != want {
			t.Errorf("ParseDist(%q) = %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "pareto", "zipf:11", "zipf:-1", "hotspot:101,80", "hotspot:1,2,3"} {
		if _, _, _, ok := ParseDist(text); ok {
			t.Errorf("ParseDist(%q) accepts it", text)
		}
	}
}
