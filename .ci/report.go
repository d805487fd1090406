//go:build ignore

// Report checks the file that bench compare wrote: its schema, and that every stage
// answered in every round, rightly.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func check(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var report struct {
		Schema int
		Runs   []struct {
			Stage   string
			Dur     int64 `json:"dur_ns"`
			OK      int64
			Errors  map[string]int64
			Misses  int64
			Wrong   int64
			Starved int
			Latency map[string]int64 `json:"latency_ns"`
		}
		Summary []struct{ Stage string }
	}
	if err := json.Unmarshal(data, &report); err != nil {
		return err
	}
	if report.Schema != 1 || len(report.Runs) != 8 || len(report.Summary) != 4 {
		return fmt.Errorf("schema %d, %d runs, %d summaries, want 1, 8, 4", report.Schema, len(report.Runs), len(report.Summary))
	}
	for _, r := range report.Runs {
		starved := 0
		if r.Stage == "stage1_singlethread" {
			starved = 7 // of 8 connections
		}
		if r.OK == 0 || r.Dur <= 0 || len(r.Errors) != 0 || r.Misses != 0 || r.Wrong != 0 || r.Starved != starved {
			return fmt.Errorf("a run went wrong: %+v", r)
		}
		if l := r.Latency; l["p50"] <= 0 || l["p50"] > l["p99"] || l["p99"] > l["p999"] || l["p999"] > l["max"] {
			return fmt.Errorf("latencies out of order: %v", l)
		}
	}
	return nil
}
