// Package machine says where, when and by which command something was measured.
package machine

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/node"
	"lockstep/common/text"
	"lockstep/common/wire"
)

// An Environment says where, when and by which command something was measured.
type Environment struct {
	Time     time.Time `json:"time"`
	Command  []string  `json:"command"` // the program and its arguments
	Go       string    `json:"go"`
	OS       string    `json:"os"`
	Arch     string    `json:"arch"`
	Cores    int       `json:"cores"`            // that this process may use
	CPUs     int       `json:"cpus"`             // GOMAXPROCS: those that the client uses at once
	CPUModel string    `json:"cpu_model"`        // "": not known
	Kernel   string    `json:"kernel,omitempty"` // its release; "": not known, as of the next two
	Memory   int64     `json:"memory_bytes,omitempty"`
	Load     float64   `json:"load_average,omitempty"` // over the minute before the measurement
	Shared   bool      `json:"shared"`                 // the servers use the same cores

	Settings map[string]string `json:"settings,omitempty"` // variables that are set and change what is built or how fast it runs
	Built    map[string]string `json:"built,omitempty"`    // the flags with which bench and each stage were built, as in "-race=true"

	Yardsticks map[string]string `json:"yardsticks,omitempty"` // the versions of foreign servers, by name
	Missing    []string          `json:"missing,omitempty"`    // the yardsticks that were not found, and what to do
}

// New returns the environment of this process. shared says that the servers use the same cores.
func New(shared bool) Environment {
	e := Environment{
		Time: time.Now().UTC().Truncate(time.Second), Command: os.Args,
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Cores: runtime.NumCPU(), CPUs: runtime.GOMAXPROCS(0), Shared: shared,
		Settings: make(map[string]string), Built: make(map[string]string), Yardsticks: make(map[string]string),
	}
	e.read(os.DirFS("/proc"))
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		e.Set(map[string]string{name: value})
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		e.SetBuilt("bench", info)
	}
	return e
}

// Version says which source and which Go this program was built from.
func Version() string {
	built, _ := debug.ReadBuildInfo() // which every program of a module has
	return fmt.Sprintf("lockstep %s, protocol %d, %s, %s/%s", cmp.Or(built.Main.Version, "(devel)"), wire.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Local reports whether all nodes run on this machine: it can listen at their addresses.
func Local(nodes []cluster.Node) bool {
	return !slices.ContainsFunc(nodes, func(n cluster.Node) bool {
		host, _, _ := net.SplitHostPort(n.Addr)
		return !cluster.IsLoopback(host) && node.Taken(net.JoinHostPort(host, "0"))
	})
}

// telling matches the variables that change what the go command builds, or how fast a
// program in Go runs.
var telling = regexp.MustCompile(`^(GO(FLAGS|DEBUG|EXPERIMENT|FIPS140|TOOLCHAIN|GC|MEMLIMIT|MAXPROCS|RACE|` +
	`386|AMD64|ARM|ARM64|LOONG64|MIPS|MIPS64|PPC64|RISCV64|WASM)|CGO_.+|CC|CXX)$`)

// Set notes those of the variables that change what is measured.
func (e *Environment) Set(variables map[string]string) {
	for name, value := range variables {
		if value != "" && telling.MatchString(name) {
			e.Settings[name] = value
		}
	}
}

// SetBuilt notes the flags with which a program was built, without those that all have.
func (e *Environment) SetBuilt(program string, info *debug.BuildInfo) {
	var flags []string
	for _, s := range info.Settings {
		if strings.HasPrefix(s.Key, "-") && s.Key != "-buildmode" && s.Key != "-compiler" {
			flags = append(flags, s.Key+"="+s.Value)
		}
	}
	e.Built[program] = strings.Join(flags, " ")
}

// read reads what Linux tells of the machine. Other systems have no such files, and some
// architectures no name of the processor.
func (e *Environment) read(proc fs.FS) {
	file := func(name string) string {
		data, _ := fs.ReadFile(proc, name)
		return string(data)
	}
	_, e.CPUModel, _ = strings.Cut(file("cpuinfo"), "\nmodel name\t: ")
	e.CPUModel, _, _ = strings.Cut(e.CPUModel, "\n")
	e.Kernel = strings.TrimSpace(file("sys/kernel/osrelease"))
	fmt.Sscan(file("loadavg"), &e.Load)
	fmt.Sscanf(file("meminfo"), "MemTotal: %d kB", &e.Memory)
	e.Memory <<= 10
}

// list writes the values that are not empty, each after its name.
func list(values map[string]string, is string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] != "" {
			all = append(all, name+is+values[name])
		}
	}
	return strings.Join(all, ", ")
}

// String describes the programs and the machine in a line.
func (e Environment) String() string {
	line := strings.TrimSuffix(e.Go+", "+list(e.Yardsticks, " "), ", ")
	add := func(known bool, format string, args ...any) {
		if known {
			line += fmt.Sprintf(format, args...)
		}
	}
	add(true, ", %s/%s, %s", e.OS, e.Arch, text.Plural(int64(e.Cores), "core"))
	add(e.CPUModel != "", " (%s)", e.CPUModel)
	add(e.Shared, ", shared by servers and client")
	add(e.Memory > 0, ", %s of memory", text.Bytes(e.Memory))
	add(e.Kernel != "", ", kernel %s, load average before %s", e.Kernel, text.Sig3(e.Load))
	add(e.CPUs != e.Cores, "; the client uses %d at once", e.CPUs)
	return line
}

// Changes says what was set and how programs were built, in a line each, if it is not as usual.
func (e Environment) Changes() (lines []string) {
	for _, is := range [][2]string{{"Set in the environment or with go env -w: ", list(e.Settings, "=")}, {"Built with flags: ", list(e.Built, " ")}} {
		if is[1] != "" {
			lines = append(lines, is[0]+is[1]+".")
		}
	}
	return lines
}
