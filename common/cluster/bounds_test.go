package cluster

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bounds are texts at the bounds of what a property may be, and one past them. Those
// that say "in LO..HI" are read from what they say; the others stand here, by the
// last part of their path.
func bounds(t *testing.T, p property) (good, bad []string) {
	t.Helper()
	lists := map[string][2]string{
		"work":    {"0s|1m0s|spin 0s|spin 1m0s", "-1ns|1m0.000000001s|spin -1ns|spin 1m0.000000001s|spin|spin  1s|1|NaN"},
		"rate":    {"0|-0|0.001|1e6", "0.0009999999999|1000000.0000001|-0.001|-1|1e999|1e-999|NaN|Inf"},
		"dist":    {"uniform|zipf:1e-300|zipf:10|hotspot:1e-300,0|hotspot:100,100", "|zipf:0|zipf:10.0000001|hotspot:0,1|hotspot:100.0000001,1|hotspot:1,-0.0000001|hotspot:1,100.0000001|zipf:Inf|hotspot:NaN,1"},
		"arrival": {"constant|poisson", "|Poisson|poisson "},
		"value":   {"0|16384|0..16384|16..1024|7..7", "-1|16385|0..16385|-1..5|1024..16|..|1..|..1|1..2..3|1.5|1e1|1..1e1|NaN"},
		"conn":    {"persistent|per-request", "|persistent,per-request"},
		"secret":  {"|" + strings.Repeat("s", minSecret), strings.Repeat("s", minSecret-1) + "|s"},
		"addr":    {"a:1|a:65535|:1|[::1]:1|" + strings.Repeat("a", 253) + ":1", "a:0|a:65536|a:-1|a:01|a:|a|:|a b:1|" + strings.Repeat("a", 254) + ":1"},
	}
	lists["control"] = lists["addr"]
	name := p.path[strings.LastIndex(p.path, ".")+1:]
	if list, ok := lists[name]; ok {
		return strings.Split(list[0], "|"), strings.Split(list[1], "|")
	}
	lo, hi, ok := strings.Cut(strings.TrimPrefix(p.allowed, "in "), "..")
	if !ok {
		t.Fatalf("%s is %s: say what its bounds are", p.path, p.allowed)
	}
	good = []string{lo, hi}
	if from, err := time.ParseDuration(lo); err == nil && !p.number {
		to, err := time.ParseDuration(hi)
		if err != nil {
			t.Fatal(err)
		}
		return good, []string{(from - 1).String(), (to + 1).String(), "-" + hi, "NaN", "1", "1e3s", "9999999999h", " 1s"}
	}
	n, err := strconv.ParseInt(lo, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	past := "18446744073709551616" // of a seed
	if to, err := strconv.ParseInt(hi, 10, 64); err == nil {
		past = strconv.FormatInt(to+1, 10)
	}
	return good, []string{strconv.FormatInt(n-1, 10), past, strconv.Itoa(math.MinInt), "1.5", "1e1", "1" + strings.Repeat("0", 400)}
}

// file is a properties file that holds one property. The parts of a mix, and the
// two addresses of a node, need each other.
func file(p property, text string) string {
	value, _ := json.Marshal(text)
	if p.number && json.Valid([]byte(text)) {
		value = []byte(text)
	}
	parts := strings.Split(p.path, ".")
	name := parts[len(parts)-1]
	inner := fmt.Sprintf("%q: %s", name, value)
	if n, err := strconv.Atoi(text); err == nil && strings.HasPrefix(p.path, "workload.mix.") {
		other := map[bool]string{true: "get", false: "put"}[name == "put"]
		inner += fmt.Sprintf(", %q: %d", other, 100-n)
	}
	other := map[string]string{"addr": "control", "control": "addr"}[name]
	switch {
	case strings.HasPrefix(p.path, "nodes"):
		return fmt.Sprintf(`{"nodes": [{%q: "other:7", %s}]}`, other, inner)
	case strings.HasPrefix(p.path, "clients"):
		return fmt.Sprintf(`{"clients": [{%s}]}`, inner)
	}
	for i := len(parts) - 2; i >= 0; i-- {
		inner = fmt.Sprintf("%q: {%s}", parts[i], inner)
	}
	return "{" + inner + "}"
}

// Every property, at its bounds and past them: from a file, and by its flag if it
// has one. What is refused is named, with what is allowed.
func TestBounds(t *testing.T) {
	c := Default()
	for _, p := range c.properties() {
		good, bad := bounds(t, p)
		for i, text := range append(good, bad...) {
			allowed := i < len(good)
			_, err := parse("F", []byte(file(p, text)))
			check(t, p, file(p, text), text, allowed, err)
			c := Default()
			fs := flags(&c)
			name, isFlag := strings.CutPrefix(p.path, "server.")
			if !isFlag {
				name, isFlag = strings.CutPrefix(p.path, "workload.")
			}
			if isFlag && !strings.Contains(name, ".") {
				check(t, p, "-"+name+"="+text, text, allowed, fs.Parse([]string{"-" + name + "=" + text}))
			} else if fs.Lookup(name) != nil {
				t.Errorf("%s has a flag", p.path)
			}
		}
	}
}

func check(t *testing.T, p property, input, text string, allowed bool, err error) {
	t.Helper()
	switch {
	case allowed && err != nil:
		t.Errorf("%.200s: %v, want it allowed", input, err)
	case !allowed && err == nil:
		t.Errorf("%.200s is allowed, want %s", input, p.allowed)
	case !allowed && (!strings.Contains(err.Error(), p.path+": ") || !strings.HasSuffix(err.Error(), p.allowed) || len(err.Error()) > 1000):
		t.Errorf("%.200s: %v, want %s and what is allowed", input, err, p.path)
	case p.path == "secret" && len(text) > 4 && strings.Contains(fmt.Sprint(err), text):
		t.Errorf("the error shows the secret: %v", err)
	}
}

// A file that is as absurd as a megabyte allows is refused in a moment, in one short
// line.
func TestAbsurdFiles(t *testing.T) {
	const n = 900_000
	for name, file := range map[string]string{
		"nested lists":        strings.Repeat("[", n),
		"nested objects":      strings.Repeat(`{"server":`, n/10),
		"nested in its place": `{"server": {"workers": ` + strings.Repeat("[", n) + "}}",
		"balanced":            `{"server": ` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"a long number":       `{"workload": {"ops": ` + strings.Repeat("9", n) + `}}`,
		"a long fraction":     `{"workload": {"rate": 0.` + strings.Repeat("0", n) + `1}}`,
		"a long exponent":     `{"workload": {"rate": 1e` + strings.Repeat("9", n) + `}}`,
		"a long string":       `{"server": {"work": "` + strings.Repeat("s", n) + `"}}`,
		"a long key":          `{"` + strings.Repeat("k", n) + `": 1}`,
		"a long secret":       `{"secret": ["` + strings.Repeat("s", n) + `"]}`,
		"many keys":           `{"server": {` + strings.Repeat(`"workers": 1, `, n/14) + `"workers": 1}}`,
		"many nodes":          `{"nodes": [` + strings.Repeat("{}, ", n/4) + `{}]}`,
		"many clients":        `{"clients": [` + strings.Repeat("{}, ", n/4) + `{}]}`,
		"many files":          strings.Repeat("{}\n", n/3),
		"a comment":           "{} // nothing",
		"a comment before":    "/* nothing */ {}",
		"a trailing comma":    `{"server": {"workers": 1,}}`,
		"trailing garbage":    "{} x",
		"two marks":           "\ufeff\ufeff{}",
		"a mark of UTF-16":    "\xff\xfe{\x00}\x00",
		"NaN":                 `{"workload": {"rate": NaN}}`,
		"NaN in quotes":       `{"workload": {"rate": "NaN"}}`,
		"a number in quotes":  `{"workload": {"ops": "1"}}`,
		"hexadecimal":         `{"workload": {"ops": 0x10}}`,
		"an upper-case key":   `{"Server": {"workers": 1}}`,
		"zeros":               strings.Repeat("\x00", n),
	} {
		start := time.Now()
		_, err := parse("F", []byte(file))
		text := fmt.Sprint(err)
		if err == nil || !strings.HasPrefix(text, "F:") || len(text) > 300 || strings.ContainsAny(text, "\n\x00\x1b") {
			t.Errorf("%s: %.400q, want a short line that names the place", name, text)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}
