// Package cluster holds what every process of a Lockstep cluster must agree on:
// the nodes and which of them owns a key, how a server works, and the workload that
// clients ask for.
//
// All of it is read from one file, properties.json. The JSON tags of Config name the
// properties. A Rule says which values a property may have and what it means; the
// file, the flags, the checks and the help text all follow from tags and rules.
package cluster

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"lockstep/common/text"
	"lockstep/common/wire"
)

// DefaultPath is the file that is read if -config names no other.
const DefaultPath = "properties.json"

const minSecret = 16 // bytes

// maxProcesses bounds nodes and clients: at a barrier, each process dials all the others.
const maxProcesses = 100

// A Config is the content of properties.json. Load checks it against the rules of this
// package, which cover everything but Workload: package bench/workload has the rules
// for that, because a server has no use for its values.
type Config struct {
	Nodes    []Node   `json:"nodes"`   // 1 to 100 servers; each key belongs to one of them
	Clients  []Client `json:"clients"` // 0 to 100 client processes of a distributed run
	Server   Server   `json:"server"`
	Workload Workload `json:"workload"`
	Secret   string   `json:"secret"` // proves membership; empty, or at least 16 bytes
}

// A Node is one server process.
type Node struct {
	Addr    string `json:"addr"`             // HOST:PORT where it serves clients
	Control string `json:"control"`          // HOST:PORT where it answers barrier and stats questions
	Listen  string `json:"listen,omitempty"` // HOST:PORT where it listens for clients; empty: at Addr
}

// Listens returns the two addresses at which the node itself listens. They differ from Addr and
// Control, those that others dial, behind NAT or in a container: then service is Listen, and
// control is the port of Control on the host of Listen.
func (n Node) Listens() (service, control string) {
	if n.Listen == "" {
		return n.Addr, n.Control
	}
	host, _, _ := net.SplitHostPort(n.Listen)
	_, port, _ := net.SplitHostPort(n.Control)
	return n.Listen, net.JoinHostPort(host, port)
}

// A Client is one client process.
type Client struct {
	Control string `json:"control"` // HOST:PORT where it answers barrier questions
}

// A Server says how a server works, whatever its stage.
type Server struct {
	Workers        int           `json:"workers"`         // goroutines that execute requests (stages 3 and 4)
	Queue          int           `json:"queue"`           // requests that may wait for a worker
	Buckets        int           `json:"buckets"`         // tables, each behind its own lock (stage 4)
	Work           Work          `json:"work"`            // what each operation does inside the table
	MaxConnections int           `json:"max_connections"` // open at the same time
	IdleTimeout    time.Duration `json:"idle_timeout"`    // until a frame's first byte
	FrameTimeout   time.Duration `json:"frame_timeout"`   // from a frame's first byte to its last
	WriteTimeout   time.Duration `json:"write_timeout"`   // for one flush
	DrainTimeout   time.Duration `json:"drain_timeout"`   // from the signal to stop to the exit
}

// A Workload says what a client process asks for.
type Workload struct {
	Connections int           `json:"connections"` // each with its own stream of requests
	Ops         int           `json:"ops"`         // operations in all, if Duration is 0
	Keys        int           `json:"keys"`        // different keys
	Value       Size          `json:"value"`       // bytes in a value
	Mix         Mix           `json:"mix"`         // of operations
	Duration    time.Duration `json:"duration"`    // of the run; 0: until Ops are done
	Dist        string        `json:"dist"`        // how often each key is asked for
	Batch       int           `json:"batch"`       // operations in a request
	Depth       int           `json:"depth"`       // requests in flight on a connection
	Rate        float64       `json:"rate"`        // requests due each second, in all; 0: a closed loop
	Arrival     string        `json:"arrival"`     // "constant" or "poisson": the gaps between requests at a Rate
	Conn        string        `json:"conn"`        // "persistent" or "per-request"
	Seed        uint64        `json:"seed"`        // the same seed draws the same requests
}

// Work is what an operation does inside the table between look-up and effect, as if
// its value came from a disk or had to be computed; storing a new key does none. The zero
// Work means no work.
type Work struct {
	Spin bool          // compute rather than sleep
	Time time.Duration // for each operation
}

// String returns the form that properties.json holds: "1ms", or "spin 1ms".
func (w Work) String() string {
	how := map[bool]string{true: "spin "}
	return how[w.Spin] + w.Time.String()
}

// A Size is the number of bytes in a value. If Max is above Min, each value draws its
// own number from Min..Max, all equally likely.
type Size struct{ Min, Max int }

// Bytes is the Size of values of exactly n bytes.
func Bytes(n int) Size { return Size{n, n} }

// String returns the form that properties.json holds: "30", or "16..1024".
func (s Size) String() string {
	if s.Min == s.Max {
		return fmt.Sprint(s.Min)
	}
	return fmt.Sprintf("%d..%d", s.Min, s.Max)
}

// A Mix is the percentage of each kind of operation. They add up to 100.
type Mix struct {
	Get    int `json:"get"`
	Put    int `json:"put"`
	Delete int `json:"delete"`
	CAS    int `json:"cas"`
}

// String returns the form that the flag takes: "get=60,put=40".
func (m Mix) String() string {
	s := fmt.Sprintf("get=%d,put=%d,delete=%d,cas=%d", m.Get, m.Put, m.Delete, m.CAS)
	return strings.NewReplacer(",put=0", "", ",delete=0", "", ",cas=0", "").Replace(s)
}

// Default returns the content of the shipped properties.json: one node on loopback,
// and a short run of 60 % get and 40 % put over uniform keys.
func Default() Config {
	return Config{
		Nodes:   []Node{{Addr: "127.0.0.1:7001", Control: "127.0.0.1:7101"}},
		Clients: []Client{{Control: "127.0.0.1:7201"}},
		Server: Server{Workers: 8, Queue: 64, Buckets: 1024, MaxConnections: 10_000, IdleTimeout: time.Minute,
			FrameTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, DrainTimeout: 10 * time.Second},
		Workload: Workload{Connections: 8, Ops: 100_000, Keys: 1000, Value: Bytes(30), Mix: Mix{Get: 60, Put: 40},
			Dist: "uniform", Batch: 1, Depth: 1, Arrival: "constant", Conn: "persistent", Seed: 1},
	}
}

// Owner returns the number of the node that owns key: the key's 64-bit FNV-1a hash
// modulo the number of nodes, which is the same in every process. There must be a node.
func (c Config) Owner(key string) int {
	if len(c.Nodes) == 1 { // no need to hash
		return 0
	}
	return int(fnv1a(key) % uint64(len(c.Nodes)))
}

// Fingerprint returns a hash of the version and of the nodes' addresses, in order. Two
// processes with different fingerprints would disagree about who owns a key. The stage
// is not part of it: a client need not know the stage.
func (c Config) Fingerprint() uint64 { return fnv1a(c.Describe("")) }

// Hello returns what the service port of a node and its clients must agree on.
func (c Config) Hello(node int) wire.Hello {
	return wire.Hello{Purpose: wire.Service, Group: "nodes", Number: node, Fingerprint: c.Fingerprint(), Secret: c.Secret}
}

// Describe returns what the processes that meet at a barrier must agree on: the
// version, the stage and the nodes. Each line is NAME=VALUE, so the first line that differs
// says what is wrong.
func (c Config) Describe(stage string) string {
	lines := fmt.Sprintf("version=%d\nstage=%s\nnodes=%d\n", wire.Version, stage, len(c.Nodes))
	for i, n := range c.Nodes {
		lines += fmt.Sprintf("nodes[%d].addr=%s\nnodes[%d].control=%s\n", i, n.Addr, i, n.Control)
	}
	return lines
}

// DescribeServer returns the properties of the server, each in a line as in Describe. Nodes
// that differ in them can work together, so they are not part of the fingerprint.
func (c Config) DescribeServer() string { return strings.Join(c.Values("server"), "\n") }

// Differences names the lines of here, as DescribeServer returns them, that differ from those
// of there: "workers is 8 here, 4 there". It is empty if there are none.
func Differences(here, there string) string {
	var found []string
	for line := range strings.Lines(here) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		_, theirs, _ := strings.Cut("\n"+there, "\n"+name+"=")
		theirs, _, _ = strings.Cut(theirs, "\n")
		if theirs != value {
			found = append(found, fmt.Sprintf("%s is %s here, %s there", name, text.Quote(value, 50), text.Quote(theirs, 50)))
		}
	}
	return strings.Join(found, "; ")
}

// fnv1a is hash/fnv's New64a without its allocation, since it runs for each operation.
func fnv1a(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// Validate checks c against the rules of this package and more of them. Its error names
// the first property whose value is not allowed, the value, and what is allowed:
// "server.workers: 0 is not in 1..4096".
func (c Config) Validate(more ...Rules) error {
	byPort := make(map[string][]property) // addresses
	for _, p := range c.root(more...).all() {
		if err := p.check(); err != nil {
			return err
		}
		if strings.Contains(p.path, "].") && p.name() != "listen" { // each machine has addresses of its own to listen at
			host, port := socket(p.String())
			for _, first := range byPort[port] {
				// A * is every address of a machine, and each machine takes it for its own.
				if other, _ := socket(first.String()); host == other || host == "*" || other == "*" {
					return fmt.Errorf("%s: %s is taken by %s (%s)", p.path, p, first.path, first)
				}
			}
			byPort[port] = append(byPort[port], p)
		}
	}
	return nil
}

// One host can be written in several ways. Names are not looked up: localhost is either of two.
var sameHost = map[string]string{"127.0.0.1": "localhost", "::1": "localhost", "": "*", "0.0.0.0": "*", "::": "*"}

// socket splits an address into its host, in one spelling, and its port.
func socket(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(strings.ToLower(addr))
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String() // 0:0::1 is ::1, and ::ffff:127.0.0.1 is 127.0.0.1
	}
	return cmp.Or(sameHost[host], host), port
}

// CheckExposure returns an error if other machines can reach a process of the cluster
// although there is no secret of at least 16 bytes. With insecure, everything is
// allowed. Only loopback addresses and "localhost" are safe: an empty or unspecified
// host listens on every interface, and any other name may resolve to anything.
func (c Config) CheckExposure(insecure bool) error {
	for _, p := range c.root().all() {
		host, _, _ := net.SplitHostPort(p.String())
		if strings.Contains(p.path, "].") && p.String() != "" && !IsLoopback(host) && len(c.Secret) < minSecret && !insecure {
			return fmt.Errorf("%s: %s is not on loopback, and without a secret anyone who can reach it could read and change every key; "+
				"set the same secret of at least %d bytes everywhere (in properties.json, or LOCKSTEP_SECRET), or pass -insecure", p.path, p, minSecret)
		}
	}
	return nil
}

// IsLoopback reports whether host is an address of this machine that no other machine
// can reach.
func IsLoopback(host string) bool {
	return net.ParseIP(host).IsLoopback() || strings.EqualFold(host, "localhost")
}

// FindSelf returns the number of the process that this one is in a group, "nodes" or
// "clients": the only one, or the only one whose address in addrs is an address of this
// machine, which has the addresses local. Host names are not looked up. If none or several
// qualify, the error says to pass the group's flag, and lists the addresses.
func FindSelf(group string, addrs []string, local []net.Addr) (int, error) {
	var mine []int
	var all []string
	for i, addr := range addrs {
		host, _ := socket(addr)
		isIP := func(a net.Addr) bool { return strings.HasPrefix(a.String(), host+"/") }
		if len(addrs) == 1 || host == "*" || IsLoopback(host) || slices.ContainsFunc(local, isIP) {
			mine = append(mine, i)
		}
		all = append(all, fmt.Sprintf("%d is %s", i, addr))
	}
	if len(mine) == 1 {
		return mine[0], nil
	}
	one := strings.TrimSuffix(group, "s")
	return 0, fmt.Errorf("cannot tell which %s this is: %d of %d %s have an address of this machine; pass -%s N, where %s",
		one, len(mine), len(all), group, one, strings.Join(all, ", "))
}
