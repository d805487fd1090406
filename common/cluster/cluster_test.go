package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lockstep/common/text"
)

// withNodes is the default Config with nodes at these addresses.
func withNodes(addrs ...string) Config {
	c := Default()
	c.Nodes = nil
	for i, a := range addrs {
		c.Nodes = append(c.Nodes, Node{Addr: a, Control: fmt.Sprintf("127.0.0.1:%d", 9000+i)})
	}
	return c
}

func TestOwner(t *testing.T) {
	for nodes := 1; nodes <= 7; nodes++ {
		c := withNodes(make([]string, nodes)...)
		for _, key := range []string{"", "a", "key-0001", "\x00\xff", strings.Repeat("k", 250)} {
			h := fnv.New64a()
			h.Write([]byte(key))
			if got, want := c.Owner(key), int(h.Sum64()%uint64(nodes)); got != want {
				t.Errorf("Owner(%q) of %d nodes = %d, want %d", key, nodes, got, want)
			}
		}
	}
}

// The fingerprint is of the nodes that clients dial, and of nothing else.
func TestFingerprint(t *testing.T) {
	c, same, other := withNodes("10.0.0.1:7001", "b:1"), withNodes("10.0.0.1:7001", "b:1"), withNodes("10.0.0.1:7001", "b:2")
	c.Nodes[1].Listen, c.Server, c.Workload = ":1", Server{}, Workload{}
	if got, want, not := c.Fingerprint(), same.Fingerprint(), other.Fingerprint(); got != want || got == not {
		t.Errorf("other properties, and another address to listen at: %x, want %x; another node: %x", got, want, not)
	}
}

func TestDifferences(t *testing.T) {
	c := Default()
	here := c.DescribeServer()
	if got := Differences(here, here); got != "" || !strings.Contains(here, "\nqueue=64\nwork=0s\nworkers=8\n") {
		t.Errorf("%q differs from itself in %q", here, got)
	}
	c.Server.Workers, c.Server.Work = 4, Work{true, 1000}
	if got, want := Differences(here, c.DescribeServer()), "work is 0s here, spin 1µs there; workers is 8 here, 4 there"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Differences("a=1\nb=2\n", "b=2\nc\n\x1b[2J"); got != `a is 1 here, "" there` {
		t.Errorf("a property that is missing there: %q", got)
	}
}

// A cluster has 1 to 100 nodes, and at most 100 client processes. Validate takes any workload.
func TestValidate(t *testing.T) {
	for _, n := range []int{0, 1, 100, 101} {
		nodes, clients := Config{Server: Default().Server}, Config{Server: Default().Server, Nodes: Default().Nodes}
		for i := range n {
			nodes.Nodes = append(nodes.Nodes, Node{Addr: fmt.Sprintf("a:%d", i+1), Control: fmt.Sprintf("b:%d", i+1)})
			clients.Clients = append(clients.Clients, Client{fmt.Sprintf("a:%d", i+1)})
		}
		if err := nodes.Validate(); (err == nil) != (n == 1 || n == 100) {
			t.Errorf("%d nodes: %v", n, err)
		}
		if err := clients.Validate(); (err == nil) != (n <= 100) {
			t.Errorf("%d clients: %v", n, err)
		}
	}
}

// Two spellings of one socket are not two nodes; two sockets are, and so are two names.
func TestOneSocket(t *testing.T) {
	for same, all := range map[bool]string{
		true:  "localhost:1 127.0.0.1:1, LOCALHOST:1 [::1]:1, 127.0.0.1:1 [::ffff:127.0.0.1]:1, 127.0.0.1:1 0.0.0.0:1, [::]:1 localhost:1, :1 10.0.0.7:1, a:1 :1, :1 [::]:1",
		false: "localhost:1 127.0.0.1:2, 127.0.0.1:1 127.0.0.2:1, :1 :2, a:1 b:1, 10.0.0.7:1 10.0.0.8:1",
	} {
		for two := range strings.SplitSeq(all, ", ") {
			a, b, _ := strings.Cut(two, " ")
			err, want := withNodes(a, b).Validate(), fmt.Sprintf("nodes[1].addr: %s is taken by nodes[0].addr (%s)", b, a)
			if (err != nil) != same || same && err.Error() != want {
				t.Errorf("%s: %v, want one socket: %t", two, err, same)
			}
		}
	}
}

func TestHostPort(t *testing.T) {
	long := strings.Repeat("a", 253)
	for list, allowed := range map[string]bool{
		"a:1, a:65535, :1, [::1]:1, [fe80::1%eth0]:1, a-b.example:80, " + long + ":1":                        true,
		", a, a:, :, a:0, a:65536, a:-1, a:+1, a:01, a:0x1, a:http, ::1:80, a b:1, a\x1b:1, a" + long + ":1": false,
	} {
		for addr := range strings.SplitSeq(list, ", ") {
			if err := withNodes(addr).Validate(); (err == nil) != allowed {
				t.Errorf("%q: %v, want it allowed: %t", addr, err, allowed)
			}
		}
	}
}

func TestListens(t *testing.T) {
	for listen, want := range map[string][2]string{"": {"b:1", "127.0.0.1:9001"}, "[::]:1": {"[::]:1", "[::]:9001"}} {
		n := Node{"b:1", "127.0.0.1:9001", listen}
		if service, control := n.Listens(); service != want[0] || control != want[1] {
			t.Errorf("with listen %q at %s and %s, want %q", listen, service, control, want)
		}
	}
}

func TestCheckExposure(t *testing.T) {
	for addr, loopback := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "[::ffff:127.0.0.1]:1": true, "localhost:1": true, "LocalHost:1": true,
		"10.0.0.7:1": false, "0.0.0.0:1": false, "[::]:1": false, ":1": false, "localhost.example:1": false, "127.0.0.1": false,
	} {
		for i, path := range []string{"nodes[0].addr", "nodes[0].listen", "nodes[0].control", "clients[0].control"} {
			c := Default()
			*[]*string{&c.Nodes[0].Addr, &c.Nodes[0].Listen, &c.Nodes[0].Control, &c.Clients[0].Control}[i] = addr
			c.Secret = strings.Repeat("s", minSecret-1)
			err, insecure := c.CheckExposure(false), c.CheckExposure(true)
			if (err == nil) != loopback || err != nil && !strings.HasPrefix(err.Error(), path+": "+addr+" is not on loopback") {
				t.Errorf("%s %s, without a secret long enough: %v, want it safe: %t", path, addr, err, loopback)
			}
			c.Secret += "s"
			if secret := c.CheckExposure(false); secret != nil || insecure != nil {
				t.Errorf("%s %s, with a secret: %v, insecure: %v, want it allowed", path, addr, secret, insecure)
			}
		}
	}
}

func TestFindSelf(t *testing.T) {
	local := []net.Addr{
		&net.IPNet{IP: net.ParseIP("10.0.0.7"), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("fd00::7"), Mask: net.CIDRMask(64, 128)},
	}
	for nodes, want := range map[string]int{ // -1: an error
		"192.0.2.1:1":                         0, // the only node
		"10.0.0.6:1 10.0.0.7:1 10.0.0.8:1":    1,
		"10.0.0.6:1 [fd00:0::7]:1":            1,
		"10.0.0.6:1 localhost:1":              1,
		"10.0.0.6:1 :1":                       1,
		"127.0.0.1:1 127.0.0.1:2 127.0.0.1:3": -1,
		"10.0.0.6:1 10.0.0.8:1":               -1, // 10.0.0.8 is in the network, but not this machine
	} {
		got, err := FindSelf("nodes", strings.Fields(nodes), local)
		if got != max(want, 0) || (err == nil) != (want >= 0) || err != nil && !strings.Contains(err.Error(), "pass -node N") {
			t.Errorf("self of %s = %d, %v, want %d, or an error that says -node", nodes, got, err, want)
		}
	}
}

// Every value is accepted at its bounds and refused past them.
func TestBounds(t *testing.T) {
	times := ", -1s, NaN, 1, 9999999999h"
	for names, values := range map[string][2]string{ // allowed, and not
		"workers":                 {"1, 4096", "0, 4097, 1.5, 1e-1, many, 1" + strings.Repeat("0", 400)},
		"queue":                   {"0, 1000000", "-1, 1000001"},
		"buckets max_connections": {"1, 1000000", "0, 1000001"},
		"work": {"0s, 1m0s, spin 0s, spin 1m0s",
			"1m0.000000001s, spin -1ns, spin 1m0.000000001s, spin, spin  1s" + times},
		"idle_timeout": {"1ms, 24h", "999.999µs, 24h0m0.000000001s" + times},
		"frame_timeout write_timeout drain_timeout": {"1ms, 1h", "999.999µs, 1h0m0.000000001s" + times},
	} {
		for name := range strings.FieldsSeq(names) {
			for i, list := range values {
				for value := range strings.SplitSeq(list, ", ") {
					c, path := Default(), "server."+name
					err := serverFlags(&c).Parse([]string{"-" + name, value})
					if (err == nil) != (i == 0) || err != nil && !strings.HasSuffix(err.Error(), " "+ownRules[path].Allowed) {
						t.Errorf("%s: %q: %v, want it allowed: %v, or what is", path, value, err, i == 0)
					}
				}
			}
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
	var usage bytes.Buffer
	left := WriteFlags(&usage, serverFlags(&c), []FlagGroup{{"None", "none"}, {"Some", "work frame_timeout"}})
	const want = `
Some:
  -work TIME          how long an operation sleeps, or computes (spin); storing
                      a new key takes 0s; in 0s..1m0s, or as "spin 1ms" (default
                      0s)
  -frame_timeout TIME
                      how long a request may take to arrive, from its first
                      byte; in 1ms..1h0m0s (default 10s)
`
	if got := usage.String(); got != want || left != int64(reflect.TypeFor[Server]().NumField()-2) {
		t.Errorf("%d flags are in no group, and the usage is\n%swant all but two, and\n%s", left, got, want)
	}
}

func TestParseFlags(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	t.Chdir(t.TempDir())
	parseArgs := func(arguments string, args ...string) (c Config, err error) {
		c = Default()
		var path string
		fs := serverFlags(&c)
		fs.StringVar(&path, "config", DefaultPath, "")
		err = c.ParseFlags(fs, args, &path, arguments)
		return c, err
	}
	for _, test := range []struct {
		arguments, args string
		want            string // in the error, which is a UsageError if it ends with "flags)"
	}{
		{"", "-workers 5", ""},
		{"KEY VALUE", "-workers 5 color blue", ""},
		{"", "-config none.json -h", "help requested"},
		{"", "serve", `unexpected argument "serve" (serve -h lists the flags)`},
		{"KEY VALUE", "color", `serve needs KEY and VALUE after the flags, got 1 argument (serve -h lists the flags)`},
		{"", "-workers 0", `invalid value "0" for flag -workers: server.workers: 0 is not in 1..4096 (serve -h lists the flags)`},
		{"", "-config none.json", "open none.json: "},
	} {
		_, err := parseArgs(test.arguments, strings.Fields(test.args)...)
		if !strings.Contains(fmt.Sprint(err), test.want) || (err == nil) != (test.want == "") ||
			errors.As(err, new(UsageError)) != strings.HasSuffix(test.want, "flags)") {
			t.Errorf("%s: %v, want %s", test.args, err, test.want)
		}
	}

	// The file overrides the defaults, lists and mix as a whole, and the flags override the file.
	content := "\ufeff" + `{
		"nodes": [{"addr": "a:1", "control": "a:2"}, {"addr": "b:1", "control": "b:2"}],
		"clients": [],
		"workload": {"mix": {"delete": 100}},
		"server": {"workers": 6, "queue": 0}
	}` + "\r\n"
	if err := os.WriteFile(DefaultPath, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Nodes, want.Clients = []Node{{"a:1", "a:2", ""}, {"b:1", "b:2", ""}}, nil
	want.Workload.Mix, want.Server.Workers, want.Server.Queue = Mix{Delete: 100}, 5, 0
	if c, err := parseArgs("", "-workers", "5"); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, %v, want\n%+v", c, err, want)
	}
}

// Every value outside the workload has a rule, and help has both.
func TestWriteHelp(t *testing.T) {
	var out bytes.Buffer
	WriteHelp(&out, Rules{"workload.batch": In(1, 2, "operations in a request")})
	c := Default()
	for _, p := range c.root().all() {
		isValue := p.parts() == nil && !strings.HasPrefix(p.path, "workload.")
		if r := p.rule(); isValue && r.ok == nil || r.ok != nil && (r.Doc == "" || !strings.Contains("\n"+out.String(), "\n"+p.ruled+" ")) {
			t.Errorf("%s has no rule, or is not explained", p.path)
		}
	}
	if want := "workload.batch          1               in 1..2\n    operations in a request\n"; !strings.Contains(out.String(), want) {
		t.Errorf("the help\n%s\ndoes not contain\n%s", &out, want)
	}
}

// What is saved is what is loaded, and the shipped file holds the defaults.
func TestSaveAndLoad(t *testing.T) {
	t.Setenv("LOCKSTEP_SECRET", "")
	if got, err := Load("../../properties.json"); err != nil || !reflect.DeepEqual(got, Default()) {
		t.Errorf("properties.json holds\n%+v, %v, want\n%+v", got, err, Default())
	}
	path := filepath.Join(t.TempDir(), DefaultPath)
	const ms = time.Millisecond
	changed := Config{ // without field names, so that a new field must get a value here
		[]Node{{"a:1", "[fe80::1%eth0]:65535", ":7003"}, {"b:1", "b:2", ":7003"}}, // each of a machine of its own
		nil,
		Server{1, 2, 3, Work{true, 4 * ms}, 5, 6 * ms, 7 * ms, 8 * ms, 9 * ms},
		Workload{10, 11, 12, Size{13, 14}, Mix{1, 2, 3, 94}, 15 * ms, "hotspot:0.5,90", 16, 17, 18.1, "poisson", "per-request", math.MaxUint64},
		"“<\u2028 16>”\\\n", // 16 bytes
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

// Programs write whole numbers in many ways. A size is a number, or a string if it is a range.
func TestNumbers(t *testing.T) {
	for given, want := range map[string]string{ // "": an error
		`"ops":1e+06`: `"ops":1000000`, `"ops":12.0`: `"ops":12`, `"ops":-0`: `"ops":0`, `"ops":9007199254740993`: `"ops":9007199254740993`,
		`"seed":1e3`: `"seed":1000`, `"mix":{"get":1e2}`: `"get":100,`, `"value":2e1`: `"value":20`, `"value":"30"`: `"value":30`,
		`"value":"16..1024"`: `"value":"16..1024"`, `"value":"7..7"`: `"value":7`,
		`"ops":1e-1`: "", `"ops":1.5`: "", `"ops":1e400`: "", `"ops":1e19`: "", `"value":"many"`: "", `"value":"1.."`: "", `"value":"..1"`: "",
		`"value":"1..2..3"`: "", `"value":1.5`: "", `"value":null`: "", `"value":{}`: "",
	} {
		c, err := parse("file", []byte(`{"workload": {`+given+`}}`))
		if saved, _ := json.Marshal(c); (err == nil) != (want != "") || err == nil && !bytes.Contains(saved, []byte(want)) {
			t.Errorf("%s: %v, and %s, want %s in it, or an error", given, err, saved, want)
		}
	}
}

// A server does not check the values of the workload; more rules do.
func TestLoadErrors(t *testing.T) {
	sum := Where("100 in all", "", func(m Mix) bool { return m.Get+m.Put+m.Delete+m.CAS == 100 })
	more := Rules{"workload.batch": In(1, 1024, ""), "workload.mix": sum}
	for _, test := range []struct{ content, want string }{
		{"", "F:1: unexpected end of JSON input"},
		{"{\n\"secret\": \"a\nb\"}", `F:2: invalid character '\n' in string literal`},
		{"{\n} {", "F:2: invalid character '{' after top-level value"},
		{`{"Server": {}}`, "F:1: Server: unknown or repeated field"},
		{"{\"secret\": \"\",\n\"secret\": \"\"}", "F:2: secret: unknown or repeated field"},
		{`null`, "F:1: the file: null is not of the right type"},
		{`{"clients": null}`, "F:1: clients: null is not a list of at most 100"},
		{`{"server": {"workers": "8"}}`, `F:1: server.workers: "8" is not in 1..4096`},
		{`{"server": {"idle_timeout": 5}}`, "F:1: server.idle_timeout: 5 needs a unit, as in 5s or 5ms: a time in 1ms..24h0m0s"},
		{"{\"workload\": {\n\"batch\": 0}}", "F:2: workload.batch: 0 is not in 1..1024"},
		{"{\"workload\": {\n\"mix\": {\"get\": 99}}}", "F:2: workload.mix: get=99 is not 100 in all"},
		{`{"secret": 1234567890123456}`, "F:1: secret: its value is not at least 16 bytes long, in UTF-8"},
		{`{"secret": "fifteen bytes.."}`, "F:1: secret: its value is not at least 16 bytes long, in UTF-8"},
		{"{\"secret\": \"sixteen bytes or more\xff\"}", "F:1: secret: its value is not at least 16 bytes long, in UTF-8"},
		{`{"nodes": [{"addr": "a:1", "control": "c:1", "listen": "7001"}]}`, "F:1: nodes[0].listen: 7001 is not empty or HOST:PORT"},
		{`{"nodes": [{"addr": "127.0.0.1:7201", "control": "c:1"}]}`,
			"F: clients[0].control: 127.0.0.1:7201 is taken by nodes[0].addr (127.0.0.1:7201)"},
		{`{"nodes": [{"addr": "a:1"}]}`, `F: nodes[0].control: "" is not HOST:PORT with a port in 1..65535`},
	} {
		if _, err := parse("F", []byte(test.content), more); err == nil || err.Error() != test.want {
			t.Errorf("%.100s\n got %v\nwant %s", test.content, err, test.want)
		}
	}
	if _, err := parse("F", []byte(`{"workload": {"batch": 0, "mix": {"get": 99}}}`)); err != nil {
		t.Errorf("without the rules of the workload: %v, want it allowed", err)
	}
}

// A long absurd file is refused in one short line.
func TestAbsurdFiles(t *testing.T) {
	const n = 200_000
	for name, content := range map[string]string{
		"nested objects":   strings.Repeat(`{"server":`, n/10),
		"balanced":         `{"server": ` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}",
		"a long number":    `{"workload": {"ops": ` + strings.Repeat("9", n) + `}}`,
		"a long string":    `{"server": {"work": "` + strings.Repeat("s", n) + `"}}`,
		"a long key":       `{"` + strings.Repeat("k", n) + `": 1}`,
		"many nodes":       `{"nodes": [` + strings.Repeat("{}, ", n/4) + `{}]}`,
		"a mark of UTF-16": "\xff\xfe{\x00}\x00",
	} {
		if checkLoad(t, []byte(content)) == nil {
			t.Errorf("%s is accepted", name)
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
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), "LOCKSTEP_SECRET: its value is not at least 16") {
		t.Errorf("a short LOCKSTEP_SECRET: %v, want what is wrong with it", err)
	}
}

// FuzzLoad checks that any file is either refused, in one line of printable text, or
// read as a Config that Validate accepts and that can be saved and read again.
func FuzzLoad(f *testing.F) {
	all, _ := json.Marshal(Default())
	for _, seed := range []string{
		string(all), "", "{}", "\ufeff{}", `{"":{"server":{}}}`, `{"server":{"workers":null,"x":"\u001b[2J"}}`,
		`{"nodes":[{"addr":"[::1%a]:1","control":":2"}],"clients":[],"secret":"\ud800\u0000<sixteen bytes>"}`,
		`{"server":{"work":"spin 1ms","idle_timeout":"1h2m3.5s","queue":0},"workload":{"dist":"hotspot:1e-9,0x1p-1"}}`,
		`{"workload":{"mix":{"cas":100,"get":-0},"rate":1e3,"seed":18446744073709551615,"duration":"1ns"}}`,
		`{"workload":{"rate":-0,"value":"7..3"}}`, `{"server":[[[[{}]]]]}`, `{"secret":["sixteen bytes or more"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { checkLoad(t, data) })
}

func checkLoad(t *testing.T, data []byte) error {
	t.Helper()
	c, err := parse("F", data)
	if err != nil {
		if got := err.Error(); !strings.HasPrefix(got, "F:") || len(got) > 500 || text.Printable(got) != got {
			t.Errorf("the error %.400q, want a short line that names the place", got)
		}
		return err
	}
	saved, _ := json.Marshal(c)
	var again Config
	if err := errors.Join(c.Validate(), json.Unmarshal(saved, &again)); err != nil || !reflect.DeepEqual(again, c) {
		t.Errorf("%s reads back as\n%+v, %v, want\n%+v", saved, again, err, c)
	}
	return nil
}
