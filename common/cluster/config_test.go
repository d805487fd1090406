package cluster

import (
	"fmt"
	"hash/fnv"
	"net"
	"slices"
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

func TestFingerprint(t *testing.T) {
	c := withNodes("a:1", "b:1")
	same := Config{Nodes: c.Nodes}
	if got, want := same.Fingerprint(), c.Fingerprint(); got != want {
		t.Errorf("with another server, workload, clients and secret: %x, want %x", got, want)
	}
	same.Nodes = slices.Clone(c.Nodes)
	same.Nodes[1].Listen = ":1"
	if same.Fingerprint() != c.Fingerprint() {
		t.Error("where a node listens is part of the fingerprint")
	}
	for _, addrs := range []string{"b:1 a:1", "a:1", "a:1 b:2"} {
		if other := withNodes(strings.Fields(addrs)...); other.Fingerprint() == c.Fingerprint() {
			t.Errorf("nodes %s have the fingerprint of a:1 b:1", addrs)
		}
	}
}

func TestDescribe(t *testing.T) {
	got := withNodes("10.0.0.1:7001", "10.0.0.2:7001").Describe("stage4_bucketlock")
	want := `version=1
stage=stage4_bucketlock
nodes=2
nodes[0].addr=10.0.0.1:7001
nodes[0].control=127.0.0.1:9000
nodes[1].addr=10.0.0.2:7001
nodes[1].control=127.0.0.1:9001
`
	if got != want {
		t.Errorf("Describe =\n%swant\n%s", got, want)
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
	for want, change := range map[string]func(c *Config){
		"server.workers: 0 is not in 1..4096":                       func(c *Config) { c.Server.Workers = 0 },
		"is not a list of 1 to 100":                                 func(c *Config) { c.Nodes = make([]Node, 101) },
		"is not a list of at most 100":                              func(c *Config) { c.Clients = make([]Client, 101) },
		"secret: its value is not at least 16 bytes long, in UTF-8": func(c *Config) { c.Secret = strings.Repeat("\xff", minSecret) },
	} {
		c := Default()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("Validate: %v, want %s", err, want)
		}
	}
	c := withNodes(make([]string, 100)...)
	for i := range c.Nodes {
		c.Nodes[i].Addr = fmt.Sprintf("a:%d", i+1)
	}
	c.Clients, c.Secret, c.Workload = nil, strings.Repeat("s", minSecret), Workload{}
	if err := c.Validate(); err != nil {
		t.Errorf("Validate of 100 nodes, no clients and a secret: %v", err)
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
	for safe, all := range map[bool]string{ // without a secret
		true:  "127.0.0.1:7001 127.9.9.9:7001 [::1]:7001 [::ffff:127.0.0.1]:7001 localhost:7001 LocalHost:7001",
		false: "10.0.0.7:7001 0.0.0.0:7001 [::]:7001 :7001 localhost.example:7001 127.0.0.1",
	} {
		for addr := range strings.FieldsSeq(all) {
			checkExposure(t, addr, safe)
		}
	}
}

func checkExposure(t *testing.T, addr string, safe bool) {
	for path, place := range map[string]func(c *Config) *string{
		"nodes[0].addr":      func(c *Config) *string { return &c.Nodes[0].Addr },
		"nodes[0].listen":    func(c *Config) *string { return &c.Nodes[0].Listen },
		"nodes[0].control":   func(c *Config) *string { return &c.Nodes[0].Control },
		"clients[0].control": func(c *Config) *string { return &c.Clients[0].Control },
	} {
		c := Default()
		*place(&c) = addr
		for _, secret := range []string{"", strings.Repeat("s", minSecret-1), strings.Repeat("s", minSecret)} {
			c.Secret = secret
			err := c.CheckExposure(false)
			if (err == nil) != (safe || len(secret) == minSecret) || err != nil && !strings.HasPrefix(err.Error(), path+": "+addr+" is not on loopback") {
				t.Errorf("%s %s, secret %q: %v, want safe: %t", path, addr, secret, err, safe)
			}
			if err := c.CheckExposure(true); err != nil {
				t.Errorf("%s %s, insecure: %v", path, addr, err)
			}
		}
	}
}

func TestFindSelf(t *testing.T) {
	var local []net.Addr
	for _, cidr := range []string{"127.0.0.1/8", "10.0.0.7/24", "fd00::7/64"} {
		ip, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
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
