package yardstick

import (
	"runtime"
	"testing"
	"time"
)

// Of a program that bench keeps, its CPU counts, until it ends.
func TestCPUOf(t *testing.T) {
	start := time.Now()
	p := startKeeper(t, "busy")
	cpu := time.Duration(0)
	for cpu < 300*time.Millisecond && time.Since(start) < 20*time.Second { // the keeper uses less
		cpu = cpuOf(p.Cmd.Process.Pid)
	}
	if most := time.Since(start) * time.Duration(runtime.NumCPU()); cpu < 300*time.Millisecond || cpu > most {
		t.Errorf("a busy process has used %v, want 300ms to %v", cpu, most)
	}
	p.Stdin.Close()
	<-p.Done
	if cpu := cpuOf(p.Cmd.Process.Pid); cpu != 0 {
		t.Errorf("when it has ended, it has used %v", cpu)
	}
}
