package report

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/text"
)

// An Environment says where, when and by which command something was measured.
type Environment struct {
	Time      time.Time     `json:"time"`
	Command   []string      `json:"command"` // the program and its arguments
	Go        string        `json:"go"`
	OS        string        `json:"os"`
	Arch      string        `json:"arch"`
	Cores     int           `json:"cores"`         // that this process may use
	CPUs      int           `json:"cpus"`          // GOMAXPROCS: those that the client uses at once
	CPUModel  string        `json:"cpu_model"`     // "": not known
	ClockStep time.Duration `json:"clock_step_ns"` // the shortest time that the clock can measure
	Shared    bool          `json:"shared"`        // the servers use the same cores

	Yardsticks map[string]string `json:"yardsticks,omitempty"` // the versions of foreign servers, by name
	Missing    []string          `json:"missing,omitempty"`    // the yardsticks that were not found, and what to do
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

// clockStep returns the shortest time by which the clock was seen to advance.
func clockStep() time.Duration {
	step := time.Second
	for last, n := metrics.Now(), 0; n < 100; {
		if now := metrics.Now(); now > last {
			step, last, n = min(step, now-last), now, n+1
		}
	}
	return step
}

var modelName = regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`)

// cpuModel reads the name of the processor from the file in which Linux has it on most
// architectures. Other systems have no such file.
func cpuModel(path string) string {
	info, _ := os.ReadFile(path)
	if m := modelName.FindSubmatch(info); m != nil {
		return string(m[1])
	}
	return ""
}

// machine describes the programs and the machine in a line.
func (e Environment) machine() string {
	line := e.Go
	for _, name := range slices.Sorted(maps.Keys(e.Yardsticks)) {
		line += ", " + name + " " + e.Yardsticks[name]
	}
	line += fmt.Sprintf(", %s/%s, %s", e.OS, e.Arch, text.Plural(int64(e.Cores), "core"))
	if e.CPUModel != "" {
		line += " (" + e.CPUModel + ")"
	}
	if e.Shared {
		line += ", shared by servers and client"
	}
	if e.CPUs != e.Cores {
		line += fmt.Sprintf("; the client uses %d at once", e.CPUs)
	}
	return line
}
