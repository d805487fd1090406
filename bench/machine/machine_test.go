package machine

import (
	"net"
	"reflect"
	"slices"
	"testing"
	"testing/fstest"

	"lockstep/common/cluster"
)

func TestEnvironment(t *testing.T) {
	env := New(true)
	if env.Go == "" || env.OS == "" || env.Arch == "" || env.CPUs < 1 || env.Cores < 1 || len(env.Command) == 0 || !env.Shared || env.Time.IsZero() {
		t.Errorf("environment is %+v", env)
	}
	var e Environment
	if e.read(fstest.MapFS{}); !reflect.DeepEqual(e, Environment{}) {
		t.Errorf("without files the machine is %+v", e)
	}
	e.read(fstest.MapFS{
		"cpuinfo":              {Data: []byte("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Test CPU @ 2 GHz: fast\n\nmodel name\t: another\n")},
		"loadavg":              {Data: []byte("1.25 0.97 4.45 20/219 20552\n")},
		"meminfo":              {Data: []byte("MemTotal:       24683620 kB\nMemFree:        20189236 kB\n")},
		"sys/kernel/osrelease": {Data: []byte("6.18.44\n")},
	})
	e.Go, e.OS, e.Arch, e.Cores, e.CPUs = "go1.25", "linux", "amd64", 2, 2
	if got, want := e.String(), "go1.25, linux/amd64, 2 cores (Test CPU @ 2 GHz: fast), 23.5 GiB of memory, kernel 6.18.44, load average before 1.25"; got != want {
		t.Errorf("the machine is %q, want %q", got, want)
	}
}

// What is set and how programs were built is said if it is not as usual.
func TestChanges(t *testing.T) {
	t.Setenv("GOGC", "off")
	if e := New(true); e.Settings["GOGC"] != "off" {
		t.Errorf("with GOGC=off the settings are %v", e.Settings)
	}
	e := Environment{Built: map[string]string{"bench": "", "one": "-race=true", "three": "-tags=x", "two": "-race=true"},
		Settings: map[string]string{"GOGC": "off", "GOFLAGS": "-race"}}
	want := []string{"Set in the environment or with go env -w: GOFLAGS=-race, GOGC=off.", "Built with flags: one -race=true, three -tags=x, two -race=true."}
	if got := e.Changes(); !slices.Equal(got, want) {
		t.Errorf("the lines are %q, want %q", got, want)
	}
	if got := (Environment{Built: map[string]string{"bench": ""}}).Changes(); got != nil {
		t.Errorf("of nothing: %q", got)
	}
}

func TestLocal(t *testing.T) {
	nodes := map[string]bool{"127.0.0.1": true, "localhost": true, "::1": true, "192.0.2.1": false}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range own { // those off loopback, too
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLinkLocalUnicast() {
			nodes[network.IP.String()] = true
		}
	}
	for host, want := range nodes {
		if got := Local([]cluster.Node{{Addr: "127.0.0.2:1"}, {Addr: net.JoinHostPort(host, "7001")}}); got != want {
			t.Errorf("a node at %s is on this machine: %v, want %v", host, got, want)
		}
	}
}
