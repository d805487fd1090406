package barrier

import (
	"strings"
	"testing"

	"lockstep/common/wire"
)

// An answer counts only if every field is right.
func TestStray(t *testing.T) {
	good := wire.Control{Kind: wire.Barrier, Group: "nodes", Fingerprint: "ours", Round: 1, From: 1, To: 0,
		Incarnation: 20, Ready: true, Seen: []uint64{10, 20}, Passed: true}
	for name, spoil := range map[string]func(*wire.Control){
		"Kind":        func(m *wire.Control) { m.Kind = wire.Stats },
		"Group":       func(m *wire.Control) { m.Group = "clients" },
		"Fingerprint": func(m *wire.Control) { m.Fingerprint = "theirs" },
		"Round":       func(m *wire.Control) { m.Round = 2 },
		"From":        func(m *wire.Control) { m.From = 0 },
		"To":          func(m *wire.Control) { m.To = 2 },
		"Ready":       func(m *wire.Control) { m.Ready = false },
	} {
		c := core{group: "nodes", fingerprint: "ours", incarnation: 10, heard: make([]wire.Control, 2)}
		c.arrive(nil)
		stray := good
		spoil(&stray)
		if err := c.learn(1, stray); err == nil && name != "Ready" || c.passed {
			t.Errorf("with another %s: error %v, passed %v; want it to be ignored", name, err, c.passed)
		}
		if err := c.learn(1, good); err != nil || !c.passed {
			t.Errorf("then a good one: error %v, passed %v; want it to pass", err, c.passed)
		}
	}
}

// difference names the first difference, and says what to do about it.
func TestDifference(t *testing.T) {
	const here = "version=1\nstage=s4\nnodes=2\nnodes[0].addr=10.0.0.7:7001\nnodes[0].control=c:1\nnodes[1].addr=d:1\nnodes[1].control=d:2\n"
	change := func(old, new string) string { return strings.Replace(here, old, new, 1) }
	const nodes = ": give both the same properties.json and flags"
	for _, test := range []struct{ there, want string }{
		{change("version=1", "version=2"), "version is 1 here, 2 there: build both from one source"},
		{change("stage=s4", "stage=a b"), "stage is s4 here, a b there: start the same stage on both"},
		{change("10.0.0.7", "10.0.0.8"), "nodes[0].addr is 10.0.0.7:7001 here, 10.0.0.8:7001 there" + nodes},
		{"", `version is 1 here, "" there: build both from one source`},
		{"HTTP/1.1 400 Bad Request", `version is 1 here, "" there: build both from one source`},
		{here + "more", "the configuration" + nodes},
		{here[:12], `stage is s4 here, "" there: start the same stage on both`},
	} {
		got := difference(here, test.there)
		if got != test.want {
			t.Errorf("%q\n got %s\nwant %s", test.there, got, test.want)
		}
	}
}
