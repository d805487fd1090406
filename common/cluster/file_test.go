package cluster

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestShippedFileIsDefault(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	got, err := Load("../../properties.json")
	if err != nil {
		t.Fatal(err)
	}
	if want := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("properties.json holds\n%+v, want\n%+v", got, want)
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("Default: %v", err)
	}
}

// change gives every field below v another value that is allowed. A kind of field
// that it does not know, and a string whose values it cannot guess, fail the test.
func change(t *testing.T, name string, v reflect.Value) {
	words := map[string]string{
		"Addr": "10.0.0.1:80", "Control": "[::1]:443", "Secret": "“<sixteen\u2028 bytes>”\\\n",
		"Dist": "hotspot:0.5,90", "Arrival": "poisson", "Conn": "per-request",
	}
	switch p := v.Addr().Interface().(type) {
	case *Mix:
		*p = Mix{Get: 1, Put: 2, Delete: 3, CAS: 94}
		return
	case *Size:
		*p = Size{16, 1024}
		return
	case *time.Duration:
		*p += 1500 * time.Microsecond
		return
	case *[]Node:
		*p = []Node{{"a-b.example:1", "[fe80::1%eth0]:65535"}, {"127.0.0.2:7001", "127.0.0.2:7002"}}
		return
	case *[]Client:
		*p = nil
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			change(t, v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.String:
		if words[name] == "" {
			t.Fatalf("say what else the field %s may hold", name)
		}
		v.SetString(words[name])
	case reflect.Int:
		v.SetInt(v.Int() + 1)
	case reflect.Uint64:
		v.SetUint(math.MaxUint64 - 1) // more digits than a float64 has
	case reflect.Float64:
		v.SetFloat(v.Float() + 0.1)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	default:
		t.Fatalf("%s is a %s: say how to change one", name, v.Kind())
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	path := filepath.Join(t.TempDir(), DefaultPath)
	changed := Default()
	change(t, "Config", reflect.ValueOf(&changed).Elem())
	for _, want := range []Config{Default(), changed} {
		if err := want.Save(path); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("saved\n%+v, loaded\n%+v", want, got)
		}
	}
	if err := (Config{}).Save(path); err == nil {
		t.Error("Save wrote a Config that Load would refuse")
	}
}

// A size is a number in the file where it is one, and a string where it is a range.
func TestValueSize(t *testing.T) {
	for text, want := range map[string]Size{`30`: {30, 30}, `"30"`: {30, 30}, `"16..1024"`: {16, 1024}, `"7..7"`: {7, 7}} {
		c, err := parse("file", []byte(`{"workload": {"value": `+text+`}}`))
		if err != nil || c.Workload.Value != want {
			t.Errorf("%s is %v, error %v, want %v", text, c.Workload.Value, err, want)
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
	got, err := parse("file", []byte(`{
		"nodes": [{"addr": "a:1", "control": "a:2"}, {"addr": "b:1", "control": "b:2"}],
		"clients": [],
		"workload": {"mix": {"delete": 100}, "seed": 18446744073709551615, "rate": 1e3},
		"server": {"work": "spin 10s", "queue": 0, "buckets": 1000000}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Nodes = []Node{{"a:1", "a:2"}, {"b:1", "b:2"}}
	want.Clients = nil
	want.Workload.Mix = Mix{Delete: 100}
	want.Workload.Seed = math.MaxUint64
	want.Workload.Rate = 1000
	want.Server.Work = Work{Spin: true, Time: 10 * time.Second}
	want.Server.Queue = 0
	want.Server.Buckets = 1_000_000
	if !reflect.DeepEqual(got, want) {
		t.Errorf("loaded\n%+v, want\n%+v", got, want)
	}
	got, err = parse("file", []byte("\ufeff{}\r\n"))
	if want := Default(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("{} after a byte order mark = %+v, %v, want the defaults", got, err)
	}
}

func TestLoadErrors(t *testing.T) {
	node := func(addr string) string { return `{"nodes": [{"addr": "` + addr + `", "control": "c:1"}]}` }
	const notAddr = ` is not HOST:PORT with a port in 1..65535`
	const notDist = ` is not uniform, zipf:THETA or hotspot:KEYS,OPS`
	const notMix = ` is not get=N,put=N,delete=N,cas=N adding up to 100`
	tests := []struct{ file, want string }{
		// syntax
		{"", "F: the file is empty; {} would keep every default"},
		{" \n", "F: the file is empty; {} would keep every default"},
		{"{\n\"server\":\n{\n", "F:3: unexpected end of JSON input"},
		{"{\n\"secret\": \"a\nb\"}", `F:2: invalid character '\n' in string literal`},
		{"{\n} {", "F:2: invalid character '{' after top-level value"},
		{"{\n\"nodes\": [],\n}", "F:3: invalid character '}' looking for beginning of object key string"},
		{"\xff\xfe{\x00", "F:1: invalid character 'ÿ' looking for beginning of value"},

		// names
		{`{"servers": 1}`, "F:1: servers: unknown field"},
		{`{"Server": {}}`, "F:1: Server: unknown field"},
		{`{"": {}}`, `F:1: "": unknown field`},
		{`{"server.workers": 1}`, "F:1: server.workers: unknown field"},
		{`{"nodes[1]": {}}`, "F:1: nodes[1]: unknown field"},
		{"{\"server\": {\n\"worker\": {}}}", "F:2: server.worker: unknown field"},
		{`{"server": {"nodes": []}}`, "F:1: server.nodes: unknown field"},
		{`{"workload": {"mix": {"get": 60, "gets": 40}}}`, "F:1: workload.mix.gets: unknown field"},
		{`{"nodes": [{"addr": "a:1", "contrl": "a:2"}]}`, "F:1: nodes[0].contrl: unknown field"},
		{`{"a\u001bb` + strings.Repeat("x", 100) + `": 1}`, `F:1: "a\x1bb` + strings.Repeat("x", 57) + `...": unknown field`},
		{"{\"secret\": \"\",\n\"secret\": \"\"}", "F:2: secret: given twice"},
		{`{"server": {}, "server": {}}`, "F:1: server: given twice"},
		{`{"server": {"queue": 1, "queue": 1}}`, "F:1: server.queue: given twice"},
		{`{"nodes": [{"addr": "a:1", "addr": "a:1"}]}`, "F:1: nodes[0].addr: given twice"},

		// types
		{`[]`, "F:1: the file: [ is not an object"},
		{`null`, "F:1: the file: null is not an object"},
		{`{"server": 5}`, "F:1: server: 5 is not an object"},
		{`{"server": [5]}`, "F:1: server: [ is not an object"},
		{`{"server": "{"}`, `F:1: server: "{" is not an object`},
		{`{"nodes": {}}`, "F:1: nodes: { is not a list"},
		{`{"nodes": "["}`, `F:1: nodes: "[" is not a list`},
		{`{"clients": null}`, "F:1: clients: null is not a list"},
		{`{"nodes": ["a:1"]}`, `F:1: nodes[0]: "a:1" is not an object`},
		{`{"nodes": [{}, []]}`, "F:1: nodes[1]: [ is not an object"},
		{`{"workload": {"mix": "get=100"}}`, `F:1: workload.mix: "get=100" is not an object`},
		{`{"server": {"workers": "8"}}`, `F:1: server.workers: "8" is not a number, in 1..4096`},
		{`{"workload": {"value": true}}`, "F:1: workload.value: true is not a number or a string, in 0..16384, or a range such as 16..1024"},
		{`{"workload": {"value": "many"}}`, "F:1: workload.value: many is not in 0..16384, or a range such as 16..1024"},
		{`{"server": {"workers": {}}}`, "F:1: server.workers: { is not a number, in 1..4096"},
		{`{"server": {"workers": true}}`, "F:1: server.workers: true is not a number, in 1..4096"},
		{`{"server": {"idle_timeout": 5}}`, "F:1: server.idle_timeout: 5 is not a string, in 1ms..24h0m0s"},
		{`{"workload": {"conn": null}}`, "F:1: workload.conn: null is not a string, persistent or per-request"},

		// numbers and durations
		{`{"server": {"workers": 0}}`, "F:1: server.workers: 0 is not in 1..4096"},
		{`{"server": {"workers": 4097}}`, "F:1: server.workers: 4097 is not in 1..4096"},
		{`{"server": {"queue": -1}}`, "F:1: server.queue: -1 is not in 0..1000000"},
		{`{"server": {"queue": 1.5}}`, "F:1: server.queue: 1.5 is not in 0..1000000"},
		{`{"workload": {"value": 16385}}`, "F:1: workload.value: 16385 is not in 0..16384, or a range such as 16..1024"},
		{`{"workload": {"batch": 1025}}`, "F:1: workload.batch: 1025 is not in 1..1024"},
		{`{"workload": {"seed": -1}}`, "F:1: workload.seed: -1 is not in 0..18446744073709551615"},
		{`{"workload": {"rate": -1}}`, "F:1: workload.rate: -1 is not 0, or in 0.001..1e+06"},
		{`{"workload": {"rate": 1e-9}}`, "F:1: workload.rate: 1e-9 is not 0, or in 0.001..1e+06"},
		{`{"workload": {"rate": 1e999}}`, "F:1: workload.rate: 1e999 is not 0, or in 0.001..1e+06"},
		{`{"server": {"idle_timeout": "0s"}}`, "F:1: server.idle_timeout: 0s is not in 1ms..24h0m0s"},
		{`{"server": {"idle_timeout": "5"}}`, "F:1: server.idle_timeout: 5 is not in 1ms..24h0m0s"},
		{`{"server": {"idle_timeout": "5 minutes\n"}}`, `F:1: server.idle_timeout: "5 minutes\n" is not in 1ms..24h0m0s`},
		{`{"workload": {"duration": "-1s"}}`, "F:1: workload.duration: -1s is not in 0s..24h0m0s"},
		{`{"server": {"work": "2m"}}`, `F:1: server.work: 2m is not in 0s..1m0s, or as "spin 1ms"`},
		{`{"server": {"work": "spin"}}`, `F:1: server.work: spin is not in 0s..1m0s, or as "spin 1ms"`},

		// words
		{`{"workload": {"arrival": ""}}`, `F:1: workload.arrival: "" is not constant or poisson`},
		{`{"workload": {"dist": "zipf"}}`, "F:1: workload.dist: zipf" + notDist},
		{`{"workload": {"dist": "zipf:0"}}`, "F:1: workload.dist: zipf:0" + notDist},
		{`{"workload": {"dist": "zipf:NaN"}}`, "F:1: workload.dist: zipf:NaN" + notDist},
		{`{"workload": {"dist": "zipf:1,2"}}`, "F:1: workload.dist: zipf:1,2" + notDist},
		{`{"workload": {"dist": "uniform:1"}}`, "F:1: workload.dist: uniform:1" + notDist},
		{`{"workload": {"dist": "hotspot:20"}}`, "F:1: workload.dist: hotspot:20" + notDist},
		{`{"workload": {"dist": "hotspot:20,101"}}`, "F:1: workload.dist: hotspot:20,101" + notDist},
		{`{"workload": {"dist": "hotspot:0,80"}}`, "F:1: workload.dist: hotspot:0,80" + notDist},
		{`{"workload": {"mix": {"get": 60, "put": 30}}}`, "F: workload.mix: get=60,put=30" + notMix},
		{`{"workload": {"mix": {}}}`, "F: workload.mix: get=0" + notMix},
		{`{"workload": {"mix": {"get": 101}}}`, "F:1: workload.mix.get: 101 is not in 0..100"},
		{`{"secret": "fifteen letters"}`, "F:1: secret: its value is not at least 16 bytes long"},
		{`{"secret": 1234567890123456}`, "F:1: secret: its value is not a string, at least 16 bytes long"},

		// addresses
		{node(""), `F:1: nodes[0].addr: ""` + notAddr},
		{node("a"), "F:1: nodes[0].addr: a" + notAddr},
		{node("a:"), "F:1: nodes[0].addr: a:" + notAddr},
		{node("a:http"), "F:1: nodes[0].addr: a:http" + notAddr},
		{node("a:0"), "F:1: nodes[0].addr: a:0" + notAddr},
		{node("a:65536"), "F:1: nodes[0].addr: a:65536" + notAddr},
		{node("a:080"), "F:1: nodes[0].addr: a:080" + notAddr},
		{node("::1:80"), "F:1: nodes[0].addr: ::1:80" + notAddr},
		{node("a b:80"), "F:1: nodes[0].addr: a b:80" + notAddr},
		{node(strings.Repeat("a", 254) + ":80"), "F:1: nodes[0].addr: " + strings.Repeat("a", 60) + "..." + notAddr},
		{node("c:1"), "F: nodes[0].control: c:1 is taken by nodes[0].addr"},
		{node("127.0.0.1:7201"), "F: clients[0].control: 127.0.0.1:7201 is taken by nodes[0].addr"},
		{`{"nodes": [{"addr": "[::1]:1", "control": "[0:0::1]:1"}]}`, "F: nodes[0].control: [0:0::1]:1 is taken by nodes[0].addr"},
		{`{"nodes": [{"addr": "a:1", "control": "A:1"}]}`, "F: nodes[0].control: A:1 is taken by nodes[0].addr"},
		{`{"nodes": [{"addr": "a:1"}]}`, `F: nodes[0].control: ""` + notAddr},
		{`{"clients": [{}]}`, `F: clients[0].control: ""` + notAddr},
		{`{"nodes": []}`, "F: nodes: their number, 0, is not in 1..100"},
		{`{"nodes": [` + strings.Repeat("{},", 1000) + `{}]}`, "F:1: nodes: their number, 101, is not in 1..100"},
		{`{"clients": [` + strings.Repeat("{},", 100) + `{}]}`, "F:1: clients: their number, 101, is not in 0..100"},
	}
	for _, test := range tests {
		c, err := parse("F", []byte(test.file))
		if err == nil || err.Error() != test.want {
			t.Errorf("%.100s\n got %v\nwant %s", test.file, err, test.want)
		}
		if !reflect.DeepEqual(c, Config{}) {
			t.Errorf("%.100s: a Config beside the error", test.file)
		}
	}
}

func TestLoadFile(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	path := filepath.Join(t.TempDir(), DefaultPath)
	c, err := Load(path)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) || !reflect.DeepEqual(c, Default()) {
		t.Errorf("Load of no file = %+v, %v, want the defaults and os.ErrNotExist", c, err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("{}" + strings.Repeat(" ", maxFile-2))
	if _, err := Load(path); err != nil {
		t.Errorf("Load of 1 MiB: %v", err)
	}
	write("{}" + strings.Repeat(" ", maxFile-1))
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "larger than 1048576 bytes") {
		t.Errorf("Load of 1 MiB and a byte: %v", err)
	}
	write(`{"server": {"workers": 0}}`)
	if _, err := Load(path); err == nil || err.Error() != path+":1: server.workers: 0 is not in 1..4096" {
		t.Errorf("Load of a bad value: %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("Load of a directory: %v", err)
	}
}

func TestSecretFromEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), DefaultPath)
	const fromFile, fromEnv = "this is in the file", "and this is not in it"
	t.Setenv("LOCKSTEP_SECRET", fromEnv)
	if c, err := Load(path); !errors.Is(err, os.ErrNotExist) || c.Secret != fromEnv {
		t.Errorf("without a file: %q, %v, want %q", c.Secret, err, fromEnv)
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
	if want := "LOCKSTEP_SECRET: secret: its value is not at least 16 bytes long"; err == nil || err.Error() != want {
		t.Errorf("a short LOCKSTEP_SECRET: %v, want %s", err, want)
	}
}

// FuzzLoad checks that any file is either refused, in one line that is fit for a
// terminal, or read as a Config that Validate accepts and that can be saved and
// read again.
func FuzzLoad(f *testing.F) {
	shipped, err := os.ReadFile("../../properties.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(shipped), "", "{}", "[]", "{}{}", "\ufeff{}", `{"":{"server":{}}}`, `{"server.workers":1}`,
		`{"nodes":[{"addr":"[::1%a]:1","control":":2"}],"clients":[],"secret":"\ud800\u0000<sixteen bytes>"}`,
		`{"server":{"work":"spin 1ms","idle_timeout":"1h2m3.5s","queue":0},"workload":{"dist":"hotspot:1e-9,0x1p-1"}}`,
		`{"workload":{"mix":{"cas":100,"get":-0},"rate":1e3,"seed":18446744073709551615,"duration":"1ns"}}`,
		`{"workload":{"mix":{"get":60,"get":60}}}`, `{"server":{"workers":null,"x":"\u001b[2J"}}`,
		`{"workload":{"rate":1e-999}}`, `{"workload":{"rate":-0,"dist":"zipf:1e-300"}}`, `{"server":[[[[{}]]]]}`,
		`{"secret":["sixteen bytes or more"]}`, `{} // nothing`, `{"nodes":[{},{},{"addr":"a:1"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse("file", data)
		if err != nil {
			text := err.Error()
			odd := func(r rune) bool { return r < ' ' || r == '\u007f' }
			if !strings.HasPrefix(text, "file:") || len(text) > 500 || strings.ContainsFunc(text, odd) {
				t.Errorf("the error %q", text)
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
		if again, err := parse("again", saved); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%s reads back as\n%+v, %v, want\n%+v", saved, again, err, c)
		}
	})
}
