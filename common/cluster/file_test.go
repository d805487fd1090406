package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lockstep/common/text"
)

func TestShippedFileIsDefault(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	if got, err := Load("../../properties.json"); err != nil || !reflect.DeepEqual(got, Default()) {
		t.Errorf("properties.json holds\n%+v, %v, want\n%+v", got, err, Default())
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("Default: %v", err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	path := filepath.Join(t.TempDir(), DefaultPath)
	const ms = time.Millisecond
	changed := Config{ // without field names, so that a new field must get a value here
		[]Node{{"a-b.example:1", "[fe80::1%eth0]:65535", ""}, {"127.0.0.2:7001", "127.0.0.2:7002", ":7003"}},
		nil,
		Server{1, 2, 3, Work{true, 4 * ms}, 5, 6 * ms, 7 * ms, 8 * ms, 9 * ms},
		Workload{10, 11, 12, Size{13, 14}, Mix{1, 2, 3, 94}, 15 * ms, "hotspot:0.5,90", 16, 17, 18.1, "poisson", "per-request", math.MaxUint64},
		"“<sixteen\u2028 bytes>”\\\n",
	}
	for _, want := range []Config{Default(), changed} {
		if err := want.Save(path); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(path); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("saved\n%+v, loaded\n%+v, %v", want, got, err)
		}
	}
}

// Programs write whole numbers in many ways.
func TestWholeNumbers(t *testing.T) {
	for given, want := range map[string]int{"1e+06": 1_000_000, "12.0": 12, "-0": 0, "9007199254740993": 1<<53 + 1, "1e-1": -1, "1.5": -1, "1e400": -1, "1e19": -1} {
		c, err := parse("file", []byte(`{"workload": {"ops": `+given+`, "value": 2e1, "mix": {"get": 1e2}, "seed": 1e3}}`))
		if w := c.Workload; want >= 0 && (w.Ops != want || w.Value != Bytes(20) || w.Mix.Get != 100 || w.Seed != 1000) || (err == nil) != (want >= 0) {
			t.Errorf("%s is %+v, error %v, want %d operations, or an error", given, w, err, want)
		}
	}
}

// A size is a number in JSON, or a string if it is a range.
func TestSize(t *testing.T) {
	for value, want := range map[string]Size{`30`: {30, 30}, `"30"`: {30, 30}, `"16..1024"`: {16, 1024}, `"7..7"`: {7, 7},
		`"many"`: {}, `"1.."`: {}, `"..1"`: {}, `"1..2..3"`: {}, `1.5`: {}, `null`: {}, `{}`: {}} {
		c, err := parse("file", []byte(`{"workload": {"value": `+value+`}}`))
		if (err == nil) != (want != Size{}) || err == nil && c.Workload.Value != want {
			t.Errorf("%s is %v, error %v, want %v, or an error", value, c.Workload.Value, err, want)
		}
	}
	for size, want := range map[Size]string{Bytes(30): `"value":30`, {16, 1024}: `"value":"16..1024"`} {
		c := Default()
		c.Workload.Value = size
		data, err := json.Marshal(c)
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%v is written as %s, error %v, want %s in it", size, data, err, want)
		}
	}
}

func TestLoadReplacesListsAndMix(t *testing.T) {
	got, err := parse("file", []byte("\ufeff"+`{
		"nodes": [{"addr": "a:1", "control": "a:2"}, {"addr": "b:1", "control": "b:2"}],
		"clients": [],
		"workload": {"mix": {"delete": 100}},
		"server": {"queue": 0}
	}`+"\r\n"))
	want := Default()
	want.Nodes, want.Clients = []Node{{"a:1", "a:2", ""}, {"b:1", "b:2", ""}}, nil
	want.Workload.Mix, want.Server.Queue = Mix{Delete: 100}, 0
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("loaded\n%+v, %v, want\n%+v", got, err, want)
	}
}

func TestLoadErrors(t *testing.T) {
	node := func(addr string) string { return `{"nodes": [{"addr": "` + addr + `", "control": "c:1"}]}` }
	for _, test := range []struct{ content, want string }{
		{"", "F:1: unexpected end of JSON input"},
		{"{\n\"secret\": \"a\nb\"}", `F:2: invalid character '\n' in string literal`},
		{"{\n} {", "F:2: invalid character '{' after top-level value"},
		{`{"Server": {}}`, "F:1: Server: unknown or repeated field"},
		{`{"server.workers": 1}`, "F:1: server.workers: unknown or repeated field"},
		{"{\"server\": {\n\"worker\": {}}}", "F:2: server.worker: unknown or repeated field"},
		{"{\"a\\u001bb\": 1}", `F:1: "a\x1bb": unknown or repeated field`},
		{"{\"secret\": \"\",\n\"secret\": \"\"}", "F:2: secret: unknown or repeated field"},
		{`null`, "F:1: the file: null is not of the right type"},
		{`{"server": 5}`, "F:1: server: 5 is not of the right type"},
		{`{"clients": null}`, "F:1: clients: null is not a list of at most 100"},
		{`{"nodes": ["a:1"]}`, "F:1: nodes[0]: a:1 is not of the right type"},
		{`{"server": {"workers": "8"}}`, `F:1: server.workers: "8" is not in 1..4096`},
		{`{"server": {"idle_timeout": 5}}`, "F:1: server.idle_timeout: 5 needs a unit, as in 5s or 5ms: a time in 1ms..24h0m0s"},
		{`{"server": {"idle_timeout": "5 minutes\n"}}`, `F:1: server.idle_timeout: "5 minutes\n" is not in 1ms..24h0m0s`},
		{`{"workload": {"batch": "8"}}`, `F:1: workload.batch: "8" is not of the right type`},
		{`{"workload": {"rate": null}}`, "F:1: workload.rate: null is not of the right type"},
		{`{"secret": 1234567890123456}`, "F:1: secret: its value is not at least 16 bytes long, in UTF-8"},
		{"{\"secret\": \"sixteen bytes or more\xff\"}", "F:1: secret: its value is not at least 16 bytes long, in UTF-8"},
		{node("a b:80"), "F:1: nodes[0].addr: a b:80 is not HOST:PORT with a port in 1..65535"},
		{node("127.0.0.1:7201"), "F: clients[0].control: 127.0.0.1:7201 is taken by nodes[0].addr (127.0.0.1:7201)"},
		{`{"nodes": [{"addr": "a:1"}]}`, `F: nodes[0].control: "" is not HOST:PORT with a port in 1..65535`},
		{`{"nodes": []}`, "F:1: nodes: [] is not a list of 1 to 100"},
	} {
		c, err := parse("F", []byte(test.content))
		if err == nil || err.Error() != test.want {
			t.Errorf("%.100s\n got %v\nwant %s", test.content, err, test.want)
		}
		if !reflect.DeepEqual(c, Config{}) {
			t.Errorf("%.100s: an error and a Config", test.content)
		}
	}
}

// A server does not check the values of the workload; more rules do, with the place.
func TestMoreRules(t *testing.T) {
	sum := Where("100 in all", "", func(m Mix) bool { return m.Get+m.Put+m.Delete+m.CAS == 100 })
	more := Rules{"workload.batch": In(1, 1024, ""), "workload.mix": sum}
	for content, want := range map[string]string{
		"{\"workload\": {\n\"batch\": 0}}":            "F:2: workload.batch: 0 is not in 1..1024",
		"{\"workload\": {\n\"mix\": {\"get\": 99}}}":  "F:2: workload.mix: get=99 is not 100 in all",
		"{\"workload\": {\n\"mix\": {\"put\": 101}}}": "F:2: workload.mix: get=0,put=101 is not 100 in all",
	} {
		if _, err := parse("F", []byte(content)); err != nil {
			t.Errorf("%s: %v, want it allowed", content, err)
		}
		if _, err := parse("F", []byte(content), more); err == nil || err.Error() != want {
			t.Errorf("%s, with more rules: %v, want %s", content, err, want)
		}
	}
}

// A long absurd file is refused at once, in one short line.
func TestAbsurdFiles(t *testing.T) {
	const n = 200_000
	for name, content := range map[string]string{
		"nested objects":   strings.Repeat(`{"server":`, n/10),
		"balanced":         `{"server": ` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"a long number":    `{"workload": {"ops": ` + strings.Repeat("9", n) + `}}`,
		"a long exponent":  `{"workload": {"rate": 1e` + strings.Repeat("9", n) + `}}`,
		"a long string":    `{"server": {"work": "` + strings.Repeat("s", n) + `"}}`,
		"a long key":       `{"` + strings.Repeat("k", n) + `": 1}`,
		"many keys":        `{"server": {` + strings.Repeat(`"workers": 1, `, n/14) + `"workers": 1}}`,
		"many nodes":       `{"nodes": [` + strings.Repeat("{}, ", n/4) + `{}]}`,
		"a comment":        "{} // nothing",
		"a mark of UTF-16": "\xff\xfe{\x00}\x00",
		"zeros":            strings.Repeat("\x00", n),
	} {
		start := time.Now()
		_, err := parse("F", []byte(content))
		if got := fmt.Sprint(err); err == nil || !strings.HasPrefix(got, "F:") || len(got) > 300 || strings.ContainsAny(got, "\n\x00\x1b") {
			t.Errorf("%s: %.400q, want a short line that names the place", name, got)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// Without a file there are the defaults, and the secret of the environment comes before all.
func TestSecretFromEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), DefaultPath)
	const fromFile, fromEnv = "this is in the file", "and this is not in it"
	t.Setenv("LOCKSTEP_SECRET", fromEnv)
	want := Default()
	want.Secret = fromEnv
	if c, err := Load(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) || !reflect.DeepEqual(c, want) {
		t.Errorf("Load of no file = %+v, %v, want %+v and os.ErrNotExist", c, err, want)
	}
	if c, err := Load(t.TempDir()); err == nil || errors.Is(err, os.ErrNotExist) || !reflect.DeepEqual(c, Config{}) {
		t.Errorf("Load of a directory = %+v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte(`{"secret": "`+fromFile+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]string{"": fromFile, fromEnv: fromEnv} {
		t.Setenv("LOCKSTEP_SECRET", env)
		if c, err := Load(path); err != nil || c.Secret != want {
			t.Errorf("LOCKSTEP_SECRET=%s: %q, %v, want %q", env, c.Secret, err, want)
		}
	}
	t.Setenv("LOCKSTEP_SECRET", "tooshort")
	_, err := Load(path)
	if want := "LOCKSTEP_SECRET: its value is not at least 16 bytes long, in UTF-8"; err == nil || err.Error() != want {
		t.Errorf("a short LOCKSTEP_SECRET: %v, want %s", err, want)
	}
}

// FuzzLoad checks that any file is either refused, in one line of printable text, or
// read as a Config that Validate accepts and that can be saved and read again.
func FuzzLoad(f *testing.F) {
	shipped, err := os.ReadFile("../../properties.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(shipped), "", "{}", "\ufeff{}", `{"":{"server":{}}}`, `{"server":{"workers":null,"x":"\u001b[2J"}}`,
		`{"nodes":[{"addr":"[::1%a]:1","control":":2"}],"clients":[],"secret":"\ud800\u0000<sixteen bytes>"}`,
		`{"server":{"work":"spin 1ms","idle_timeout":"1h2m3.5s","queue":0},"workload":{"dist":"hotspot:1e-9,0x1p-1"}}`,
		`{"workload":{"mix":{"cas":100,"get":-0},"rate":1e3,"seed":18446744073709551615,"duration":"1ns"}}`,
		`{"workload":{"rate":-0,"value":"7..3"}}`, `{"server":[[[[{}]]]]}`, `{"secret":["sixteen bytes or more"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("file", data)
		if err != nil {
			if got := err.Error(); !strings.HasPrefix(got, "file:") || len(got) > 500 || text.Printable(got) != got {
				t.Errorf("the error %q", got)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("Validate: %v", err)
		}
		saved, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var again Config
		if err := json.Unmarshal(saved, &again); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%s reads back as\n%+v, %v, want\n%+v", saved, again, err, c)
		}
	})
}
