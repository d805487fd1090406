package report

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"lockstep/common/metrics"
)

const NotFound = "not found in PATH"

// absent says which yardsticks have no row in the report, and why.
func (e Environment) Absent() (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(e.Yardsticks)) {
		if is := e.Yardsticks[name]; strings.HasPrefix(is, NotFound) {
			lines = append(lines, name+": "+is)
		}
	}
	return lines
}

// versions are those of the yardsticks that are no part of this program.
func (e Environment) versions() (text string) {
	for _, name := range slices.Sorted(maps.Keys(e.Yardsticks)) {
		if is := e.Yardsticks[name]; !strings.HasPrefix(is, NotFound) {
			text += ", " + name + " " + is
		}
	}
	return text
}

// An Environment is where, when and by which command something was measured.
type Environment struct {
	Time      time.Time     `json:"time"`
	Command   []string      `json:"command"` // the program and its arguments
	Go        string        `json:"go"`
	OS        string        `json:"os"`
	Arch      string        `json:"arch"`
	Cores     int           `json:"cores"`         // of this machine, as far as its processes may use them
	CPUs      int           `json:"cpus"`          // of them: those that the client may use at once
	CPUModel  string        `json:"cpu_model"`     // "": not known
	ClockStep time.Duration `json:"clock_step_ns"` // the least time that the clock tells apart
	Shared    bool          `json:"shared"`        // the servers run on the same ones

	// What the yardsticks that were asked for call themselves, or why there is none.
	Yardsticks map[string]string `json:"yardsticks,omitempty"`
}

func environment(shared bool) Environment {
	return Environment{
		Time:    time.Now().UTC().Truncate(time.Second),
		Command: os.Args,
		Go:      runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Cores: runtime.NumCPU(), CPUs: runtime.GOMAXPROCS(0), CPUModel: cpuModel("/proc/cpuinfo"), ClockStep: clockStep(), Shared: shared,
		Yardsticks: make(map[string]string),
	}
}

// clockStep is the least time by which the clock was seen to move.
func clockStep() time.Duration {
	step := time.Second
	for last, n := metrics.Now(), 0; n < 100; {
		if now := metrics.Now(); now > last {
			step, last, n = min(step, now-last), now, n+1
		}
	}
	return step
}

// cpuModel reads the processor's name from where Linux tells it, on most of its
// architectures; elsewhere there is no such file.
func cpuModel(path string) string {
	info, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
