package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
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
	c := withNodes("a:1", "b:1")
	if got := testing.AllocsPerRun(100, func() { c.Owner("key-0001") }); got != 0 {
		t.Errorf("Owner allocates %v times, want 0", got)
	}
}

// The fingerprint is of the nodes that clients dial, and of nothing else.
func TestFingerprint(t *testing.T) {
	c := withNodes("10.0.0.1:7001", "b:1")
	c.Nodes[1].Listen = ":1"
	same, other := Config{Nodes: c.Nodes}, withNodes("10.0.0.1:7001", "b:2")
	got, want, not := same.Fingerprint(), withNodes("10.0.0.1:7001", "b:1").Fingerprint(), other.Fingerprint()
	if got != want || got == not {
		t.Errorf("other properties, and another address to listen at: %x, want %x; another node: %x", got, want, not)
	}
	lines := "version=1\nstage=stage4_bucketlock\nnodes=2\nnodes[0].addr=10.0.0.1:7001\nnodes[0].control=127.0.0.1:9000\n" +
		"nodes[1].addr=b:1\nnodes[1].control=127.0.0.1:9001\n"
	if got := c.Describe("stage4_bucketlock"); got != lines {
		t.Errorf("Describe =\n%swant\n%s", got, lines)
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

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		nodes, clients, secret int
		want                   string
	}{
		{100, 100, minSecret, ""},
		{1, 0, 0, ""},
		{101, 1, 0, "is not a list of 1 to 100"},
		{1, 101, 0, "is not a list of at most 100"},
		{1, 1, minSecret - 1, "secret: its value is not at least 16 bytes long, in UTF-8"},
	} {
		c := Config{Server: Default().Server, Secret: strings.Repeat("s", test.secret)} // of any workload
		for i := range test.nodes {
			c.Nodes = append(c.Nodes, Node{Addr: fmt.Sprintf("a:%d", i+1), Control: fmt.Sprintf("a:%d", i+1001)})
		}
		for i := range test.clients {
			c.Clients = append(c.Clients, Client{fmt.Sprintf("a:%d", i+2001)})
		}
		if err := c.Validate(); (err == nil) != (test.want == "") || err != nil && !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
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

// Where nodes listen is each machine's own matter: two of them may listen at the same address.
func TestListens(t *testing.T) {
	c := withNodes("a:1", "b:1")
	for i := range c.Nodes {
		c.Nodes[i].Listen = "[::]:1"
	}
	if err := c.Validate(); err != nil {
		t.Errorf("two nodes that listen at every address of their machines: %v", err)
	}
	for behind, want := range map[string][2]string{"": {"b:1", "127.0.0.1:9001"}, "[::]:1": {"[::]:1", "[::]:9001"}} {
		c.Nodes[1].Listen = behind
		if service, control := c.Nodes[1].Listens(); service != want[0] || control != want[1] {
			t.Errorf("with listen %q at %s and %s, want %q", behind, service, control, want)
		}
	}
	c.Nodes[1].Listen = "7001"
	if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), "nodes[1].listen: 7001 is not") {
		t.Errorf("listen 7001: %v, want an error", err)
	}
}

func TestCheckExposure(t *testing.T) {
	places := map[string]func(c *Config) *string{
		"nodes[0].addr":      func(c *Config) *string { return &c.Nodes[0].Addr },
		"nodes[0].listen":    func(c *Config) *string { return &c.Nodes[0].Listen },
		"nodes[0].control":   func(c *Config) *string { return &c.Nodes[0].Control },
		"clients[0].control": func(c *Config) *string { return &c.Clients[0].Control },
	}
	check := func(path, addr string, secret int, insecure, safe bool) {
		c := Default()
		c.Secret = strings.Repeat("s", secret)
		*places[path](&c) = addr
		err := c.CheckExposure(insecure)
		if (err == nil) != safe || err != nil && !strings.HasPrefix(err.Error(), path+": "+addr+" is not on loopback") {
			t.Errorf("%s %s, %d bytes of a secret, insecure %v: %v, want safe: %t", path, addr, secret, insecure, err, safe)
		}
	}
	for path := range places {
		for addr := range strings.FieldsSeq("127.0.0.1:1 127.9.9.9:1 [::1]:1 [::ffff:127.0.0.1]:1 localhost:1 LocalHost:1") {
			check(path, addr, 0, false, true)
		}
		for addr := range strings.FieldsSeq("10.0.0.7:7001 0.0.0.0:7001 [::]:7001 :7001 localhost.example:7001 127.0.0.1") {
			check(path, addr, minSecret-1, false, false)
			check(path, addr, minSecret, false, true)
			check(path, addr, 0, true, true)
		}
	}
}

func TestFindSelf(t *testing.T) {
	var local []net.Addr
	for _, cidr := range []string{"127.0.0.1/8", "10.0.0.7/24", "fd00::7/64"} {
		ip, network, _ := net.ParseCIDR(cidr)
		local = append(local, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	for nodes, want := range map[string]int{ // -1: an error
		"192.0.2.1:1":                         0, // the only node
		"10.0.0.6:1 10.0.0.7:1 10.0.0.8:1":    1,
		"10.0.0.6:1 [fd00:0::7]:1":            1,
		"10.0.0.6:1 127.0.0.1:1":              1,
		"10.0.0.6:1 localhost:1":              1,
		"10.0.0.6:1 :1":                       1,
		"127.0.0.1:1 127.0.0.1:2 127.0.0.1:3": -1,
		"10.0.0.7:1 0.0.0.0:2":                -1,
		"10.0.0.6:1 10.0.0.8:1":               -1, // 10.0.0.8 is in the network, but not this machine
		"here.example:1 there.example:1":      -1,
	} {
		got, err := FindSelf("nodes", strings.Fields(nodes), local)
		if got != max(want, 0) || (err == nil) != (want >= 0) || err != nil && !strings.Contains(err.Error(), "which node this is") || err != nil && !strings.Contains(err.Error(), "pass -node N") {
			t.Errorf("self of %s = %d, %v, want %d, or an error that says -node", nodes, got, err, want)
		}
	}
}

// Every value is accepted at its bounds and refused past them, from a file and by flag.
func TestBounds(t *testing.T) {
	times := ", -1s, NaN, 1, 9999999999h"
	for path, values := range map[string][2]string{ // allowed, and not
		"server.workers":         {"1, 4096", "0, 4097, 1.5, 1e-1, many, 1" + strings.Repeat("0", 400)},
		"server.queue":           {"0, 1000000", "-1, 1000001"},
		"server.buckets":         {"1, 1000000", "0, 1000001"},
		"server.max_connections": {"1, 1000000", "0, 1000001"},
		"server.work": {"0s, 1m0s, spin 0s, spin 1m0s",
			"1m0.000000001s, spin -1ns, spin 1m0.000000001s, spin, spin  1s" + times},
		"server.idle_timeout":  {"1ms, 24h", "999.999µs, 24h0m0.000000001s" + times},
		"server.frame_timeout": {"1ms, 1h", "999.999µs, 1h0m0.000000001s" + times},
		"server.write_timeout": {"1ms, 1h", "999.999µs, 1h0m0.000000001s" + times},
		"server.drain_timeout": {"1ms, 1h", "999.999µs, 1h0m0.000000001s" + times},
	} {
		name := strings.TrimPrefix(path, "server.")
		for i, list := range values {
			for value := range strings.SplitSeq(list, ", ") {
				quoted := value
				if !json.Valid([]byte(value)) {
					quoted = `"` + value + `"`
				}
				_, inFile := parse("F", fmt.Appendf(nil, `{"server": {%q: %s}}`, name, quoted))
				c := Default()
				byFlag := serverFlags(&c).Parse([]string{"-" + name, value})
				for _, err := range []error{inFile, byFlag} {
					if (err == nil) != (i == 0) || err != nil && (!strings.Contains(err.Error(), path+": ") ||
						!strings.HasSuffix(err.Error(), ownRules[path].Allowed)) {
						t.Errorf("%s: %q: %v, want it allowed: %v, or the path and what is", path, value, err, i == 0)
					}
				}
				if i > 0 && !reflect.DeepEqual(c, Default()) {
					t.Errorf("-%s %s is refused, and changes the Config to %+v", name, value, c)
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
		{"", "-h", "help requested"},
		{"", "-config none.json -h", "help requested"},
		{"", "serve", `unexpected argument "serve" (serve -h lists the flags)`},
		{"KEY VALUE", "color", `serve needs KEY and VALUE after the flags, got 1 argument (serve -h lists the flags)`},
		{"KEY", "color -workers 5", `serve needs KEY after the flags, got 3 arguments (serve -h lists the flags)`},
		{"", "-wrokers 5", "flag provided but not defined: -wrokers (serve -h lists the flags)"},
		{"", "-workers 0", `invalid value "0" for flag -workers: server.workers: 0 is not in 1..4096 (serve -h lists the flags)`},
		{"", "-config none.json", "open none.json: "},
	} {
		_, err := parseArgs(test.arguments, strings.Fields(test.args)...)
		if !strings.Contains(fmt.Sprint(err), test.want) || (err == nil) != (test.want == "") ||
			errors.As(err, new(UsageError)) != strings.HasSuffix(test.want, "flags)") {
			t.Errorf("%s: %v, want %s", test.args, err, test.want)
		}
	}

	// The file overrides the defaults, and the flags override the file.
	if err := os.WriteFile(DefaultPath, []byte(`{"server": {"workers": 6, "queue": 7}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Server.Workers, want.Server.Queue = 5, 7
	if c, err := parseArgs("", "-workers", "5"); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got\n%+v, %v, want\n%+v", c, err, want)
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
