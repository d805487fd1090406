package node

import (
	"strings"
	"testing"

	"lockstep/common/client"
	"lockstep/common/cluster"
)

// checked runs a server with -check, and returns its exit code and what it says of each node.
func checked(t *testing.T, args ...string) (code int, lines []string) {
	t.Helper()
	p := run(t, nil, append([]string{"-check"}, args...)...)
	code, stderr := p.end()
	if stderr != "" {
		t.Errorf("-check %q: %q on stderr, want nothing", args, stderr)
	}
	return code, strings.Split(strings.TrimSpace(p.stdout.String()), "\n")
}

// expectCheck runs a check of two nodes, and compares what it says of them.
func expectCheck(t *testing.T, when string, code int, says [2]string, args ...string) {
	t.Helper()
	got, lines := checked(t, args...)
	if got != code || len(lines) != 2 || !strings.HasPrefix(lines[0], "node 0 (") || !strings.Contains(lines[0], says[0]) || !strings.Contains(lines[1], says[1]) {
		t.Errorf("%s: exit code %d, %q, want %d and %q", when, got, lines, code, says)
	}
}

// A check tells of each node what works and what does not, before the cluster runs and while
// it runs.
func TestCheckBeforeTheyServe(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 2)
	expectCheck(t, "before the start", 1, [2]string{"refused: does it run (-node 0)?", "refused: does it run (-node 1)?"}, "-config", file)
	zero := run(t, serveMany, "-config", file, "-node", "0")
	for _, err := client.Stats(t.Context(), cfg, 0); err != nil; { // its port is open at once
		_, err = client.Stats(t.Context(), cfg, 0)
	}
	expectCheck(t, "while node 0 waits", 1, [2]string{"does not serve: it waits for other nodes", "does it run (-node 1)?"}, "-config", file)
	zero.stop()
}

func TestCheck(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 2)
	cfg.Secret = theSecret
	other := func(edit func(c *cluster.Config)) string {
		c := cfg
		c.Nodes = append([]cluster.Node(nil), cfg.Nodes...)
		edit(&c)
		name := strings.TrimSuffix(write(t, ""), ".json")
		if err := c.Save(name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	if err := cfg.Save(file); err != nil {
		t.Fatal(err)
	}
	zero := run(t, serveMany, "-config", file, "-node", "0")
	one := run(t, serveOne, "-config", file, "-node", "1")
	zero.wait("serving on")
	one.wait("serving on")
	expectCheck(t, "while both serve", 0, [2]string{": serves; stage0 for ", ": serves; stage0 for "}, "-config", file)
	expectCheck(t, "with other properties", 0, [2]string{"note that queue is 3 here, 64 there", "serves"}, "-config", file, "-queue", "3")
	expectCheck(t, "with another secret", 1, [2]string{"has another secret", "another secret"},
		"-config", other(func(c *cluster.Config) { c.Secret = "another one, and as long" }))
	expectCheck(t, "with ports mixed up", 1, [2]string{"are addr and control mixed up?", "other nodes"},
		"-config", other(func(c *cluster.Config) {
			c.Nodes[0] = cluster.Node{Addr: cfg.Nodes[0].Control, Control: cfg.Nodes[0].Addr}
		}))
	expectCheck(t, "with an unknown name", 1, [2]string{"other nodes", "are addr and control right"},
		"-config", other(func(c *cluster.Config) { c.Nodes[1].Addr = "nowhere.invalid:7001" }))

	cl := putKey(t, cfg)
	if _, err := cl.Put(t.Context(), keyOf(cfg, 1), nil); err != nil {
		t.Fatal(err)
	}
	expectCheck(t, "while a client has node 1 for itself", 1, [2]string{"serves", "does not greet: it serves another client"}, "-config", file)
	cl.Close()
	for _, p := range []*process{zero, one} {
		if code, stderr := p.stop(); code != 0 {
			t.Errorf("exit code %d, %s", code, stderr)
		}
	}
}

// keyOf returns a key of a node.
func keyOf(cfg cluster.Config, node int) string {
	key := "k"
	for cfg.Owner(key) != node {
		key += "k"
	}
	return key
}

// A check knows the stage from the name of its program.
func TestCheckStage(t *testing.T) {
	t.Parallel()
	cfg, file := config(t, 1)
	p := run(t, serveMany, "-config", file)
	p.wait("serving on")
	if says, err := checkNode("stage9", cfg, 0); err == nil || err.Error() != "runs stage0, and this is stage9: start the same stage everywhere" {
		t.Errorf("%q, %v, want that the stage is another", says, err)
	}
	p.stop()
}
