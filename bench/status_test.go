package main

import (
	"slices"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
	"lockstep/common/cluster"
	"lockstep/common/node"
)

// Each node has its line, one that does not answer too; then the exit code is 1.
func TestStatus(t *testing.T) {
	t.Parallel() // waits a second for the second answer
	cfg, path, _ := benchtest.StartCluster(t, 2, 0, benchtest.ServeLocked)
	bench(t, "put", "-config", path, "color", "blue")
	owner := cfg.Owner("color")
	code, stdout, stderr := bench(t, "status", "-config", path)
	lines := strings.Split(stdout, "\n")
	if code != exitOK || stderr != "" || len(lines) != 5 {
		t.Fatalf("exit code %d, %q, want 0, a line for each of two nodes and two more:\n%s", code, stderr, stdout)
	}
	for i, line := range lines[1:3] {
		want := map[bool]string{true: "1", false: "0"}[i == owner]
		fields := strings.Fields(line) // number, address, stage, how long and since when, keys, clients, requests/s, refused
		if len(fields) != 8 || fields[1] != cfg.Nodes[i].Addr || fields[2] != "here" || fields[4] != want || !slices.Equal(fields[5:], []string{"0", "0", "0"}) {
			t.Errorf("node %d: %q, want its address, %s keys and no load", i, line, want)
		}
	}

	addrs, err := node.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: addrs[0], Control: addrs[1]})
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = bench(t, "status", "-config", path)
	lines = strings.Split(stdout, "\n")
	if code != exitFailure || len(lines) != 6 || !strings.HasPrefix(lines[3], "2 "+addrs[0]) || !strings.HasSuffix(lines[3], "does not answer") ||
		!strings.Contains(stderr, "refused (asking node 2, ") || !strings.Contains(stderr, "(is the server running?") {
		t.Errorf("without node 2: exit code %d, %q, want 1, and a line for it:\n%s", code, stderr, stdout)
	}
	benchtest.CheckWidth(t, stdout, 80)
}
