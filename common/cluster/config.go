// Package cluster holds what every process of a Lockstep cluster must agree on:
// who the nodes are, how a server is built, which load is put on it, and which
// node owns a key.
//
// All of it is read from one file, properties.json. One table (properties.go)
// names each property once, with its range and its meaning; the file, the flags,
// the checks and the help text are four readings of that table.
package cluster

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/common/wire"
)

// DefaultPath is the file that is read where no other is named.
const DefaultPath = "properties.json"

const (
	minSecret    = 16  // bytes
	maxProcesses = 100 // in a group: everybody dials everybody at a barrier
)

// A Config is the content of properties.json. WriteHelp lists the range and the
// default of each property; a Config that comes from Load is within them.
type Config struct {
	Nodes    []Node   // 1 to 100 servers; each key belongs to one of them
	Clients  []Client // 0 to 100 client processes of a distributed run
	Server   Server
	Workload Workload
	Secret   string // proves membership; empty, or at least 16 bytes
}

// A Node is one server process.
type Node struct {
	Addr    string `json:"addr"`    // HOST:PORT where it serves clients
	Control string `json:"control"` // HOST:PORT where it answers barrier and stats questions
}

// A Client is one client process.
type Client struct {
	Control string `json:"control"` // HOST:PORT where it answers barrier questions
}

// A Server says how a server works, whichever its stage.
type Server struct {
	Workers        int           // goroutines that execute requests (stages 3 and 4)
	Queue          int           // requests that may wait for a worker; 0: none waits
	Buckets        int           // tables, each behind its own lock (stage 4)
	Work           Work          // what each operation does inside the table
	MaxConnections int           // open at the same time
	IdleTimeout    time.Duration // until a frame's first byte
	FrameTimeout   time.Duration // from a frame's first byte to its last
	WriteTimeout   time.Duration // for what is flushed at once
	DrainTimeout   time.Duration // from the signal to stop to the exit
}

// A Workload says what a client process asks for.
type Workload struct {
	Connections int           // each with its own stream of requests
	Ops         int           // operations in all, unless Duration is above 0
	Keys        int           // different keys
	Value       Size          // bytes in a value
	Mix         Mix           // of operations
	Duration    time.Duration // of the run; 0: until Ops are done
	Dist        string        // which keys are asked for how often; see ParseDist
	Batch       int           // operations in a request
	Depth       int           // requests in flight on a connection
	Rate        float64       // requests due a second, in all; 0: a closed loop
	Arrival     string        // "constant" or "poisson": the gaps between requests at a Rate
	Conn        string        // "persistent" or "per-request"
	Seed        uint64        // the same seed draws the same requests
}

// Work is what an operation does inside the table, between look-up and effect, as
// if its value came from a disk or had to be computed. The zero Work is none.
type Work struct {
	Spin bool          // compute rather than sleep
	Time time.Duration // per operation
}

// String returns the form that properties.json holds: "1ms", or "spin 1ms".
func (w Work) String() string {
	if w.Spin {
		return "spin " + w.Time.String()
	}
	return w.Time.String()
}

// A Size is how many bytes are in a value: Min, or, where Max is above it, as many in
// Min..Max as are drawn for each value, all equally likely.
type Size struct{ Min, Max int }

// Bytes is the Size of values of n bytes.
func Bytes(n int) Size { return Size{n, n} }

// String returns the form that the flag takes: "30", or "16..1024".
func (s Size) String() string {
	if s.Min == s.Max {
		return strconv.Itoa(s.Min)
	}
	return fmt.Sprintf("%d..%d", s.Min, s.Max)
}

// A Mix is how many percent of the operations are of which kind; 100 in all.
type Mix struct{ Get, Put, Delete, CAS int }

// String returns the form that the flag takes: "get=60,put=40".
func (m Mix) String() string {
	s := fmt.Sprintf("get=%d,put=%d,delete=%d,cas=%d", m.Get, m.Put, m.Delete, m.CAS)
	return strings.NewReplacer(",put=0", "", ",delete=0", "", ",cas=0", "").Replace(s)
}

// Default returns what the shipped properties.json says: one node on loopback,
// and a short run of 60 % get, 40 % put over uniform keys.
func Default() Config {
	return Config{
		Nodes:   []Node{{Addr: "127.0.0.1:7001", Control: "127.0.0.1:7101"}},
		Clients: []Client{{Control: "127.0.0.1:7201"}},
		Server: Server{
			Workers: 8, Queue: 64, Buckets: 1024, MaxConnections: 10_000,
			IdleTimeout: time.Minute, FrameTimeout: 10 * time.Second,
			WriteTimeout: 10 * time.Second, DrainTimeout: 10 * time.Second,
		},
		Workload: Workload{
			Connections: 8, Ops: 100_000, Keys: 1000, Value: Bytes(30), Mix: Mix{Get: 60, Put: 40},
			Dist: "uniform", Batch: 1, Depth: 1, Arrival: "constant", Conn: "persistent", Seed: 1,
		},
	}
}

// Owner returns the number of the node that owns key: its 64-bit FNV-1a hash mod
// the number of nodes, the same in every process. There must be a node.
func (c Config) Owner(key string) int {
	return int(fnv1a(key) % uint64(len(c.Nodes)))
}

// Fingerprint is a hash of the version and of the nodes' addresses, in order. Two
// processes with different ones would disagree about who owns a key. It leaves the
// stage out: a client need not know it.
func (c Config) Fingerprint() uint64 {
	return fnv1a(c.Describe(""))
}

// Describe says what the processes that meet at a barrier must agree on: the
// version, the stage, the nodes. Each line is a name and a value, so that the first
// line that differs says what is wrong.
func (c Config) Describe(stage string) string {
	var all strings.Builder
	fmt.Fprintf(&all, "version %d\nstage %s\nnodes %d\n", wire.Version, stage, len(c.Nodes))
	for i, n := range c.Nodes {
		fmt.Fprintf(&all, "nodes[%d].addr %s\nnodes[%d].control %s\n", i, n.Addr, i, n.Control)
	}
	return all.String()
}

// fnv1a is hash/fnv's New64a, without its allocation: it runs for each operation.
func fnv1a(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// Validate returns an error that names the first property whose value is not
// allowed, the value, and what is allowed: "server.workers: 0 is not in 1..4096".
func (c Config) Validate() error {
	if n := len(c.Nodes); n < 1 || n > maxProcesses {
		return fmt.Errorf("nodes: their number, %d, is not in 1..%d", n, maxProcesses)
	}
	if n := len(c.Clients); n > maxProcesses {
		return fmt.Errorf("clients: their number, %d, is not in 0..%d", n, maxProcesses)
	}
	// A value is allowed if its own text is. Set stores it again: in copies.
	c.Nodes, c.Clients = slices.Clone(c.Nodes), slices.Clone(c.Clients)
	for _, p := range append(c.properties(), c.mix()) {
		if err := p.Set(p.String()); err != nil {
			return err
		}
	}
	paths := make(map[string]string)
	for _, p := range c.addresses() {
		host, port, _ := net.SplitHostPort(strings.ToLower(p.String()))
		if ip := net.ParseIP(host); ip != nil {
			host = ip.String() // ::1 and 0:0::1 are one address
		}
		addr := net.JoinHostPort(host, port)
		if first, taken := paths[addr]; taken {
			return fmt.Errorf("%s: %s is taken by %s", p.path, p, first)
		}
		paths[addr] = p.path
	}
	return nil
}

// CheckExposure returns an error if a process of the cluster can be reached from
// other machines although there is no secret of at least 16 bytes, unless insecure
// says that this is meant. Only loopback addresses and "localhost" are safe; an
// empty or unspecified host stands for every interface, and a name for anything.
func (c Config) CheckExposure(insecure bool) error {
	if insecure || len(c.Secret) >= minSecret {
		return nil
	}
	for _, p := range c.addresses() {
		if host, _, err := net.SplitHostPort(p.String()); err != nil || !loopback(host) {
			return fmt.Errorf("%s: %s is not on loopback, and there is no secret: anybody who reaches it could read "+
				"and change every key; give all processes the same secret of at least %d bytes "+
				"(secret in %s, or LOCKSTEP_SECRET), or pass -insecure", p.path, p, minSecret, DefaultPath)
		}
	}
	return nil
}

func loopback(host string) bool {
	return net.ParseIP(host).IsLoopback() || strings.EqualFold(host, "localhost")
}

// Self returns the number of the node that this process is to be: the only node
// there is, or the only one whose Addr is an address of this machine. Names are not
// looked up. Otherwise the error says to pass -node, and lists the nodes.
func (c Config) Self() (int, error) {
	local, _ := net.InterfaceAddrs() // without them the error below says what to do
	return c.self(local)
}

func (c Config) self(local []net.Addr) (int, error) {
	if len(c.Nodes) == 1 {
		return 0, nil
	}
	var mine []int
	var all []string
	for i, n := range c.Nodes {
		host, _, _ := net.SplitHostPort(n.Addr)
		ip := net.ParseIP(host) // nil for a name
		isIP := func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		}
		if host == "" || ip.IsUnspecified() || loopback(host) || slices.ContainsFunc(local, isIP) {
			mine = append(mine, i)
		}
		all = append(all, fmt.Sprintf("%d is %s", i, n.Addr))
	}
	if len(mine) == 1 {
		return mine[0], nil
	}
	return 0, fmt.Errorf("which node is this? %d of %d have an address of this machine; pass -node N, where %s",
		len(mine), len(all), strings.Join(all, ", "))
}
