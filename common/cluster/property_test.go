package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// edges returns the bounds of a rule that allows "in LO..HI", and values past them.
func edges(t *testing.T, r Rule) (good, bad []string) {
	t.Helper()
	lo, hi, ok := strings.Cut(strings.TrimPrefix(r.Allowed, "in "), "..")
	if !ok {
		t.Fatalf("%q does not give the bounds of the rule", r.Allowed)
	}
	if from, err := time.ParseDuration(lo); err == nil && strings.HasSuffix(lo, "s") {
		to, _ := time.ParseDuration(hi)
		return []string{lo, hi}, []string{(from - 1).String(), (to + 1).String(), "-" + hi, "NaN", "1", "9999999999h", " 1s"}
	}
	from, _ := new(big.Int).SetString(lo, 10)
	to, _ := new(big.Int).SetString(hi, 10)
	one := big.NewInt(1)
	return []string{lo, hi}, []string{from.Sub(from, one).String(), to.Add(to, one).String(), "1.5", "1e-1", "many", "1" + strings.Repeat("0", 400)}
}

// fileWith returns a properties file that holds one property.
func fileWith(path, value string) string {
	if !json.Valid([]byte(value)) {
		value = fmt.Sprintf("%q", value)
	}
	section, name, ok := strings.Cut(path, ".")
	if !ok {
		return fmt.Sprintf("{%q: %s}", section, value)
	}
	return fmt.Sprintf("{%q: {%q: %s}}", section, name, value)
}

// Every value is accepted at its bounds and refused past them, from a file and by flag.
func TestBounds(t *testing.T) {
	for path, r := range ownRules {
		var good, bad []string
		switch path {
		case "server.work":
			good = []string{"0s", "1m0s", "spin 0s", "spin 1m0s"}
			bad = []string{"-1ns", "1m0.000000001s", "spin -1ns", "spin 1m0.000000001s", "spin", "spin  1s", "1", "NaN"}
		case "secret":
			good = []string{"", strings.Repeat("s", minSecret)}
			bad = []string{strings.Repeat("s", minSecret-1), "s"}
		default:
			if strings.HasPrefix(path, "nodes") || strings.HasPrefix(path, "clients") {
				continue // TestLoadErrors and TestHostPort
			}
			good, bad = edges(t, r)
		}
		for i, value := range append(good, bad...) {
			_, err := parse("F", []byte(fileWith(path, value)))
			errs := []error{err}
			if name, ok := strings.CutPrefix(path, "server."); ok {
				c := Default()
				fs := serverFlags(&c)
				errs = append(errs, fs.Parse([]string{"-" + name, value}))
				if i >= len(good) && !reflect.DeepEqual(c, Default()) {
					t.Errorf("-%s %s is refused, and changes the Config to %+v", name, value, c)
				}
			}
			for _, err := range errs {
				if i < len(good) && err != nil {
					t.Errorf("%s: %q: %v, want it allowed", path, value, err)
				}
				if i >= len(good) && (err == nil || !strings.Contains(err.Error(), path+": ") || !strings.HasSuffix(err.Error(), r.Allowed)) {
					t.Errorf("%s: %q: %v, want an error with the path and what is allowed", path, value, err)
				}
			}
		}
	}
}

func TestHostPort(t *testing.T) {
	long := strings.Repeat("a", 253)
	for _, addr := range []string{"a:1", "a:65535", ":1", "[::1]:1", "[fe80::1%eth0]:1", "a-b.example:80", long + ":1"} {
		if !isHostPort(addr) {
			t.Errorf("%s is refused", addr)
		}
	}
	for _, addr := range []string{"", "a", "a:", ":", "a:0", "a:65536", "a:-1", "a:+1", "a:01", "a:0x1", "a:http", "::1:80", "a b:1", "a\x1b:1", long + "a:1"} {
		if isHostPort(addr) {
			t.Errorf("%q is allowed", addr)
		}
	}
}

func serverFlags(c *Config) *flag.FlagSet {
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	c.Flags(fs, "server")
	return fs
}

func TestFlagUsage(t *testing.T) {
	c := Default()
	fs := serverFlags(&c)
	var usage bytes.Buffer
	fs.SetOutput(&usage)
	fs.PrintDefaults()
	const line = "goroutines that execute requests (stages 3 and 4); in 1..4096 (default 8)"
	if got := usage.String(); strings.Count(got, "(default") != reflect.TypeFor[Server]().NumField() || !strings.Contains(got, line) || strings.Contains(got, "panic") {
		t.Errorf("the usage is\n%swant a flag for each property, and %q", got, line)
	}
}

func TestParseFlags(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	t.Chdir(t.TempDir())
	parseArgs := func(c *Config, arguments string, args ...string) error {
		*c = Default()
		var path string
		fs := serverFlags(c)
		fs.StringVar(&path, "config", DefaultPath, "")
		return c.ParseFlags(fs, args, &path, arguments)
	}
	for _, test := range []struct {
		arguments, args string
		want            string // in the error, which is a UsageError if it ends with "flags)"
	}{
		{"", "-workers 5", ""},
		{"KEY VALUE", "-workers 5 color blue", ""},
		{"", "-h", "help requested"},
		{"", "-config none.json -h", "help requested"},
		{"", "serve", `unexpected argument "serve" (serve -h lists the flags)`},
		{"KEY VALUE", "color", `serve needs KEY and VALUE after the flags, got 1 argument (serve -h lists the flags)`},
		{"KEY", "color -workers 5", `serve needs KEY after the flags, got 3 arguments (serve -h lists the flags)`},
		{"", "-wrokers 5", "flag provided but not defined: -wrokers (serve -h lists the flags)"},
		{"", "-workers 0", `invalid value "0" for flag -workers: server.workers: 0 is not in 1..4096 (serve -h lists the flags)`},
		{"", "-config none.json", "open none.json: "},
	} {
		err := parseArgs(new(Config), test.arguments, strings.Fields(test.args)...)
		var usage UsageError
		if !strings.Contains(fmt.Sprint(err), test.want) || (err == nil) != (test.want == "") ||
			errors.As(err, &usage) != strings.HasSuffix(test.want, "flags)") {
			t.Errorf("%s: %v, want %s", test.args, err, test.want)
		}
	}

	// The file overrides the defaults, and the flags override the file.
	if err := os.WriteFile(DefaultPath, []byte(`{"server": {"workers": 6, "queue": 7}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var c Config
	if err := parseArgs(&c, "", "-workers", "5"); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Server.Workers, want.Server.Queue = 5, 7
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, want\n%+v", c, want)
	}
}

// Every value outside the workload has a rule, every rule a value, and help has both.
func TestWriteHelp(t *testing.T) {
	var out bytes.Buffer
	WriteHelp(&out, Rules{"workload.batch": In(1, 2, "operations in a request")})
	c := Default()
	for _, p := range c.root().all() {
		if p.parts() == nil && !strings.HasPrefix(p.path, "workload.") && p.rule().ok == nil {
			t.Errorf("%s has no rule", p.path)
		}
	}
	for path, r := range ownRules {
		if !strings.Contains("\n"+out.String(), "\n"+path+" ") || r.Doc == "" {
			t.Errorf("%s is not explained", path)
		}
	}
	if want := "workload.batch          1               in 1..2\n    operations in a request\n"; !strings.Contains(out.String(), want) {
		t.Errorf("the help\n%s\ndoes not contain\n%s", &out, want)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 81 {
			t.Errorf("a line of %d columns, want at most 80: %s", len(line)-1, line)
		}
	}
}
