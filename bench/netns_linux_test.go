package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/bench/benchtest"
	"lockstep/bench/check"
	"lockstep/bench/testbed"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/lincheck"
)

// inNetwork runs the test once more, in a network of its own, and reports whether this is that
// run. The network belongs to the process of that run: nothing outside of it changes, and the
// kernel removes all of it when the process has ended, however it ends. No rights are needed
// where users may make namespaces.
func inNetwork(t *testing.T) bool {
	t.Helper()
	if testing.Short() {
		t.Skip("takes several seconds")
	}
	if os.Getenv("LOCKSTEP_NETWORK") != "" {
		return true
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs the commands ip (iproute2) and nsenter (util-linux): %v", err)
		}
	}
	t.Parallel() // it waits
	inside := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	inside.Env = append(os.Environ(), "LOCKSTEP_NETWORK=1")
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := inside.CombinedOutput()
	switch text := string(out); {
	case inside.Process == nil:
		t.Skipf("needs namespaces of its own, which this system does not allow: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, text)
	case strings.Contains(text, "--- SKIP"):
		t.Skip(text)
	default:
		t.Log(text)
	}
	return false
}

// With a connection for each request, the ports run out where none in TIME_WAIT is used again.
// The report says how the throughput falls, and why.
func TestPortsRunOut(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	const ports = 12
	network{t}.must("link set lo up")
	for name, value := range map[string]string{"ip_local_port_range": fmt.Sprint(20001, 20000+ports), "tcp_tw_reuse": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0); err != nil {
			t.Skip(err)
		}
	}
	_, path, _ := benchtest.StartCluster(t, 1, 0, benchtest.ServeLocked)
	out := filepath.Join(t.TempDir(), "out.json")
	stdout := interrupted(t, func() { <-time.After(3 * time.Second) }, bench, "run", "-config", path, "-duration", "1h", "-conn", "per-request", "-o", out)
	const reason = "cannot assign requested address"
	r := readSaved(t, out).Runs[0]
	if r.FailedDials[reason] == 0 || len(r.FailedDials) != 1 || r.TimeWait < ports/2 || r.OK == 0 || r.OK > ports {
		t.Errorf("%d requests were answered, dials failed %v, %d sockets in TIME_WAIT, of %d ports", r.OK, r.FailedDials, r.TimeWait, ports)
	}
	for _, want := range []string{"× dialled again (" + reason + ")", "\nover time", "\nfrom 0 s", fmt.Sprint("\n", r.TimeWait, " sockets in TIME_WAIT")} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
}

// A network is the machines at the switch.
type network struct{ t *testing.T }

const machines = 3

func address(machine, port int) string { return fmt.Sprintf("10.0.0.%d:%d", machine+1, port) }

// newNetwork plugs in the machines, which lose packets if the kernel can. It skips the test if it may not.
func newNetwork(t *testing.T) network {
	const private = syscall.MS_REC | syscall.MS_PRIVATE
	if err := errors.Join(syscall.Mount("none", "/", "", private, ""), syscall.Mount("none", "/run", "tmpfs", 0, "")); err != nil {
		t.Skipf("needs mounts of its own, for ip netns: %v", err)
	}
	n := network{t}
	if out, err := exec.Command("ip", "link", "add", "switch", "type", "bridge").CombinedOutput(); err != nil {
		t.Skipf("needs a bridge: %v: %s", err, out)
	}
	n.must("link set lo up", "addr add 10.0.0.254/24 dev switch", "link set switch up")
	for i := range machines {
		n.must(fmt.Sprintf("netns add m%d", i),
			fmt.Sprintf("link add port%d type veth peer name eth0 netns m%d", i, i),
			fmt.Sprintf("link set port%d master switch up", i),
			fmt.Sprintf("-n m%d link set lo up", i),
			fmt.Sprintf("-n m%d addr add 10.0.0.%d/24 dev eth0", i, i+1),
			fmt.Sprintf("-n m%d link set eth0 up", i))
		if out, err := n.on(i, "tc", strings.Fields("qdisc add dev eth0 root netem delay 1ms loss 1%")...).CombinedOutput(); err != nil {
			t.Logf("machine %d loses no packets, as the kernel has no netem: %v: %s", i, err, out)
		}
	}
	return n
}

// must runs these commands of ip.
func (n network) must(each ...string) {
	n.t.Helper()
	for _, c := range each {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			n.t.Fatalf("ip %s: %v: %s", c, err, out)
		}
	}
}

// on returns a command that runs a program on a machine, no longer than the test.
func (n network) on(machine int, program string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/run/netns/m%d", machine), program}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// serve starts a node on each machine, and returns when they have met. The secret is only in the
// environment, and in the configuration that it returns.
func (n network) serve() (cfg cluster.Config, path string) {
	t := n.t
	bed, err := testbed.New(t.Context(), []string{"../stage4_bucketlock"}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bed.Close() })
	cfg, path = cluster.Default(), filepath.Join(t.TempDir(), "machines.json")
	cfg.Nodes, cfg.Clients = nil, nil
	for i := range machines {
		cfg.Nodes = append(cfg.Nodes, cluster.Node{Addr: address(i, 7001), Control: address(i, 7101)})
		cfg.Clients = append(cfg.Clients, cluster.Client{Control: address(i, 7201)})
	}
	if err := cfg.Save(path); err != nil {
		t.Fatal(err)
	}
	cfg.Secret = os.Getenv("LOCKSTEP_SECRET")
	for i := range machines {
		cmd := n.on(i, bed.Programs[0].Path, "-child", "-config", path) // each finds itself
		cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
		stdin, err := cmd.StdinPipe()
		if err := errors.Join(err, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	for serving := 0; serving < machines; control.Pause(t.Context(), 5*time.Millisecond) {
		if s, err := client.Stats(t.Context(), cfg, serving); err == nil && s.Serving {
			serving++
		}
	}
	return cfg, path
}

// Three machines, each with a server and a client, at a switch. They are network namespaces
// with an address of their own, and the switch is a bridge in the one where the test runs.
func TestMachines(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	n := newNetwork(t)
	t.Setenv("LOCKSTEP_SECRET", "known to the three machines")
	cfg, path := n.serve()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	var saved [machines]string
	for i := range machines {
		saved[i] = filepath.Join(t.TempDir(), "saved.json")
		cmd := n.on(i, self, "run", "-config", path, "-client", strconv.Itoa(i), "-c", "1", "-rate", "150", "-ops", "300", "-o", saved[i])
		cmd.Env = append(os.Environ(), "LOCKSTEP_BENCH=1")
		working.Go(func() { // ends with the command
			if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() != exitInvalid {
				t.Errorf("client %d: %v\n%s", i, err, out)
			}
		})
	}
	const victim = 1
	for busy, tries := false, 0; !busy && tries < 200; tries++ { // clients that have ended before say why
		control.Pause(t.Context(), 100*time.Millisecond)
		s, err := client.Stats(t.Context(), cfg, victim)
		busy = err == nil && s.Requests > 50 // of 5 in the warm-up, and 100 in the round
	}
	working.Go(func() { // ends with its plan
		found, err := check.Run(t.Context(), cfg, check.Plan{Length: 700 * time.Millisecond, Faults: true, Shared: true})
		if err != nil || found.Undecided() != nil || found.Verdict != lincheck.Linearizable {
			t.Errorf("through proxies that delay, stall and cut connections: %v (%v), want linearizable", found, err)
		}
	})
	n.cut(cfg, victim)
	working.Wait()

	first := readSaved(t, saved[0])
	for i := range machines {
		if s := readSaved(t, saved[i]); len(s.Runs) != 1 || !reflect.DeepEqual(s.Runs, first.Runs) {
			t.Fatalf("clients 0 and %d saved different rounds, or not one:\n%+v\n%+v", i, first.Runs, s.Runs)
		}
	}
	r := first.Runs[0]
	if r.OK != 300 || r.Connections != machines || r.Wrong+r.Misses+r.Unfinished != 0 || len(r.Errors) != 0 || len(r.Nodes) != machines {
		t.Errorf("the round is %+v, want 300 operations on 3 connections to 3 nodes, and no trouble", r)
	}
	if r.Latency["max"] < cutTime {
		t.Errorf("no request took longer than %v, but a node was cut off for %v", r.Latency["max"], cutTime)
	}
}

const cutTime = time.Second

// cut unplugs a machine and plugs it in again. It checks what a client at the switch notices:
// the node is silent, but is not said to be down, the others answer, and afterwards the
// same client finds the node again.
func (n network) cut(cfg cluster.Config, victim int) {
	t := n.t
	cl, err := client.Dial(t.Context(), cfg)
	if err != nil {
		t.Error(err)
		return
	}
	defer cl.Close()
	keys := make(map[int]string) // by node
	for i := range 100 {
		key := fmt.Sprint("cut ", i)
		keys[cfg.Owner(key)] = key
	}
	put := func(node int, limit time.Duration) (took time.Duration, err error) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err = cl.Put(ctx, keys[node], []byte("v"))
		return time.Since(began), err
	}
	n.must(fmt.Sprintf("link set port%d down", victim))
	for _, node := range []int{0, 2} {
		if took, err := put(node, 10*time.Second); err != nil {
			t.Errorf("put to node %d, which is not cut off: %v after %v", node, err, took)
		}
	}
	if took, err := put(victim, cutTime); !errors.Is(err, client.ErrUnknown) || took < cutTime {
		t.Errorf("put to a node that is cut off: %v after %v, want unknown after %v", err, took, cutTime)
	}
	n.must(fmt.Sprintf("link set port%d up", victim))
	if took, err := put(victim, 10*time.Second); err != nil {
		t.Errorf("put to a node that is no longer cut off: %v after %v", err, took)
	}
}
