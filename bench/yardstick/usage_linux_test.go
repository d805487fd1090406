package yardstick

import (
	"os"
	"strconv"
	"testing"
	"time"

	"lockstep/common/metrics"
)

func TestProcessCPU(t *testing.T) {
	dir := "/proc/" + strconv.Itoa(os.Getpid())
	for start := metrics.CPU(); metrics.CPU() < start+50*time.Millisecond; {
	}
	before := metrics.CPU()
	cpu, _ := processCPU(dir)
	after := metrics.CPU()
	if steps := 20 * time.Millisecond; cpu < before-steps || cpu > after+steps {
		t.Errorf("the CPU time is %v, want %v to %v", cpu, before, after)
	}
	if peak := processPeak(dir); peak < 1<<20 || peak > 1<<40 {
		t.Errorf("the peak of the memory is %d bytes", peak)
	}
	if cpu, group := processCPU("/proc/0"); cpu != 0 || group != 0 {
		t.Errorf("a process that is not there has used %v, in group %d", cpu, group)
	}
}

// What the keeper itself has used does not count.
func TestUsageOf(t *testing.T) {
	m, p := startKeeper(t, "busy")
	for deadline := time.Now().Add(20 * time.Second); ; {
		if cpu, peak := usageOf(p.Cmd.Process.Pid, true); cpu > 50*time.Millisecond && peak > 1<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Error("nothing is known of what a busy process has used")
			break
		}
	}
	p.Stdin.Close()
	m.Ended(1)
	<-p.Done
	if cpu, peak := usageOf(p.Cmd.Process.Pid, true); cpu != 0 || peak != 0 {
		t.Errorf("when it has ended, it has used %v and %d bytes", cpu, peak)
	}
}
