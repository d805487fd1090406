package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lockstep/bench/figure"
)

// One lock lets one client into the table at a time, and bucket locks let in several.
func TestLanes(t *testing.T) {
	dir := t.TempDir()
	data, svg := filepath.Join(dir, "lanes.json"), filepath.Join(dir, "lanes.svg")
	code, stdout, stderr := bench(t, "lanes", "-stages", "testdata/faulty,4", "-c", "6", "-o", data, "-svg", svg, "-quiet")
	match, _ := regexp.MatchString(`(?s)work 1ms.*faulty: on average (0\.\d|1\.0) of 6 clients.*  client 6  .*stage4_bucketlock: on average [1-6]\.\d of 6 clients`, stdout)
	if code != 0 || !match {
		t.Fatalf("exit code %d, stderr %q, and\n%s", code, stderr, stdout)
	}
	for line := range strings.Lines(stdout) {
		if len(line) > 81 {
			t.Errorf("wider than 80 columns: %q", line)
		}
	}
	var saved struct{ Stages []figure.Panel }
	content, _ := os.ReadFile(data)
	if err := json.Unmarshal(content, &saved); err != nil || len(saved.Stages) != 2 || len(saved.Stages[0].Lanes) != 6 {
		t.Errorf("saved %s (%v), want two stages with six lanes", content, err)
	}
	for _, p := range saved.Stages { // with all lanes busy, one after the other or all together
		if said := p.String(); !strings.Contains(said, "in the table") {
			t.Error(said)
		}
	}
	if picture, _ := os.ReadFile(svg); !strings.HasPrefix(string(picture), "<svg") {
		t.Errorf("the picture is %.60s", picture)
	}
}
