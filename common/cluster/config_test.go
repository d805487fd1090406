package cluster

import (
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"strings"
	"sync"
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

func TestOwnerSpreads(t *testing.T) {
	shapes := map[string]func(int) string{
		"key-0001": func(i int) string { return fmt.Sprintf("key-%04d", i) },
		"user:17":  func(i int) string { return fmt.Sprintf("user:%d", i) },
		"17":       strconv.Itoa,
	}
	const keys = 10_000
	for shape, key := range shapes {
		for _, nodes := range []int{2, 3, 5} {
			c := withNodes(make([]string, nodes)...)
			owned := make([]int, nodes)
			for i := range keys {
				owned[c.Owner(key(i))]++
			}
			for node, got := range owned {
				if even := keys / nodes; got < even*9/10 || got > even*11/10 {
					t.Errorf("keys like %s: node %d of %d owns %d, want %d within 10 %%", shape, node, nodes, got, even)
				}
			}
		}
	}
}

func TestFingerprint(t *testing.T) {
	c := withNodes("a:1", "b:1")
	same := c
	same.Server.Workers++
	same.Workload.Ops++
	same.Clients = nil
	same.Secret = strings.Repeat("s", minSecret)
	if got, want := same.Fingerprint(), c.Fingerprint(); got != want {
		t.Errorf("with another server, workload, clients and secret: %x, want %x", got, want)
	}
	seen := map[uint64]string{}
	for _, addrs := range [][]string{{"a:1", "b:1"}, {"b:1", "a:1"}, {"a:1"}, {"a:1", "b:2"}} {
		c := withNodes(addrs...)
		if other, ok := seen[c.Fingerprint()]; ok {
			t.Errorf("nodes %v have the fingerprint of %v", c.Nodes, other)
		}
		seen[c.Fingerprint()] = fmt.Sprint(c.Nodes)
	}
}

func TestDescribe(t *testing.T) {
	got := withNodes("10.0.0.1:7001", "10.0.0.2:7001").Describe("stage4_bucketlock")
	want := `version 1
stage stage4_bucketlock
nodes 2
nodes[0].addr 10.0.0.1:7001
nodes[0].control 127.0.0.1:9000
nodes[1].addr 10.0.0.2:7001
nodes[1].control 127.0.0.1:9001
`
	if got != want {
		t.Errorf("Describe =\n%swant\n%s", got, want)
	}
}

func TestValidate(t *testing.T) {
	many := make([]string, maxProcesses+1)
	tests := []struct {
		change func(c *Config)
		want   string
	}{
		{func(c *Config) { c.Server.Workers = 0 }, "server.workers: 0 is not in 1..4096"},
		{func(c *Config) { c.Workload.Mix.CAS = 1 }, "workload.mix: get=60,put=40,cas=1 is not get=N,put=N,delete=N,cas=N adding up to 100"},
		{func(c *Config) { c.Nodes = nil }, "nodes: their number, 0, is not in 1..100"},
		{func(c *Config) { c.Nodes = withNodes(many...).Nodes }, "nodes: their number, 101, is not in 1..100"},
		{func(c *Config) { c.Clients = make([]Client, 101) }, "clients: their number, 101, is not in 0..100"},
		{func(c *Config) { c.Secret = "hush" }, "secret: its value is not at least 16 bytes long"},
		{func(c *Config) { c.Secret = strings.Repeat("\xff", minSecret) }, "secret: its value is not at least 16 bytes long"},
	}
	for _, test := range tests {
		c := Default()
		test.change(&c)
		if err := c.Validate(); err == nil || err.Error() != test.want {
			t.Errorf("Validate: %v\nwant      %s", err, test.want)
		}
	}
	c := Default()
	c.Clients = nil
	c.Secret = strings.Repeat("s", minSecret)
	if err := c.Validate(); err != nil {
		t.Errorf("Validate without clients, with a secret: %v", err)
	}
}

// Validate writes to nothing that its caller still shares: -race would see it.
func TestValidateConcurrently(t *testing.T) {
	c := Default()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestCheckExposure(t *testing.T) {
	tests := map[string]bool{ // whether it is safe without a secret
		"127.0.0.1:7001":          true,
		"127.9.9.9:7001":          true,
		"[::1]:7001":              true,
		"[::ffff:127.0.0.1]:7001": true,
		"localhost:7001":          true,
		"LocalHost:7001":          true,
		"10.0.0.7:7001":           false,
		"0.0.0.0:7001":            false,
		"[::]:7001":               false,
		":7001":                   false,
		"localhost.example:7001":  false,
		"127.0.0.1":               false, // no address at all
	}
	for addr, safe := range tests {
		places := map[string]func(c *Config){
			"nodes[0].addr":      func(c *Config) { c.Nodes[0].Addr = addr },
			"nodes[0].control":   func(c *Config) { c.Nodes[0].Control = addr },
			"clients[0].control": func(c *Config) { c.Clients[0].Control = addr },
		}
		for path, place := range places {
			c := Default()
			place(&c)
			err := c.CheckExposure(false)
			if (err == nil) != safe {
				t.Errorf("%s %s: %v, want safe: %t", path, addr, err, safe)
			}
			if err != nil {
				for _, part := range []string{path + ": " + addr, "LOCKSTEP_SECRET", "-insecure", "16"} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s %s: %v, which does not say %q", path, addr, err, part)
					}
				}
			}
			if err := c.CheckExposure(true); err != nil {
				t.Errorf("%s %s, insecure: %v", path, addr, err)
			}
			c.Secret = strings.Repeat("s", minSecret)
			if err := c.CheckExposure(false); err != nil {
				t.Errorf("%s %s with a secret: %v", path, addr, err)
			}
			c.Secret = c.Secret[1:]
			if err := c.CheckExposure(false); (err == nil) != safe {
				t.Errorf("%s %s with a short secret: %v, want safe: %t", path, addr, err, safe)
			}
		}
	}
}

func TestSelf(t *testing.T) {
	var local []net.Addr
	for _, cidr := range []string{"127.0.0.1/8", "10.0.0.7/24", "fd00::7/64"} {
		ip, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		local = append(local, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	const ambiguous = -1
	tests := []struct {
		nodes string
		want  int
	}{
		{"192.0.2.1:1", 0}, // there is no other
		{"10.0.0.6:1 10.0.0.7:1 10.0.0.8:1", 1},
		{"10.0.0.6:1 [fd00::7]:1", 1},
		{"10.0.0.6:1 [fd00:0::7]:1", 1},
		{"10.0.0.6:1 127.0.0.1:1", 1},
		{"10.0.0.6:1 localhost:1", 1},
		{"10.0.0.6:1 :1", 1},
		{"127.0.0.1:1 127.0.0.1:2 127.0.0.1:3", ambiguous},
		{"10.0.0.7:1 10.0.0.7:2", ambiguous},
		{"10.0.0.7:1 0.0.0.0:2", ambiguous},
		{"10.0.0.6:1 10.0.0.8:1", ambiguous}, // neither; 10.0.0.8 is in the network only
		{"here.example:1 there.example:1", ambiguous},
	}
	for _, test := range tests {
		c := withNodes(strings.Fields(test.nodes)...)
		got, err := c.self(local)
		if test.want != ambiguous {
			if err != nil || got != test.want {
				t.Errorf("self of %s = %d, %v, want %d", test.nodes, got, err, test.want)
			}
			continue
		}
		if err == nil {
			t.Errorf("self of %s = %d, want an error", test.nodes, got)
			continue
		}
		for i, n := range c.Nodes {
			if choice := fmt.Sprintf("%d is %s", i, n.Addr); !strings.Contains(err.Error(), choice) {
				t.Errorf("self of %s: %v, which does not say %q", test.nodes, err, choice)
			}
		}
		if !strings.Contains(err.Error(), "-node") {
			t.Errorf("self of %s: %v, which does not say -node", test.nodes, err)
		}
	}
	if got, err := withNodes("192.0.2.1:1").Self(); got != 0 || err != nil {
		t.Errorf("Self of the only node = %d, %v", got, err)
	}
	if got, err := withNodes("192.0.2.1:1", "127.0.0.1:1").Self(); got != 1 || err != nil {
		t.Errorf("Self of the node on loopback = %d, %v", got, err)
	}
}
