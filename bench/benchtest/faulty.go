package benchtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"lockstep/common/node"
)

// A Faulty watches the processes of the stage in testdata/faulty, or of a
// program whose main function calls FaultyMain or StageMain.
type Faulty struct {
	started, busy, ended chan bool // one value for each process
}

// NewFaulty gives this fault to the processes that start from now on until the end of the
// test; "" is none.
func NewFaulty(t *testing.T, fault string) *Faulty {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("LOCKSTEP_FAULT", fault)
	t.Setenv("LOCKSTEP_TELL", ln.Addr().String())
	t.Setenv("LOCKSTEP_SECRET", "")
	f := &Faulty{make(chan bool, 100), make(chan bool, 100), make(chan bool, 100)}
	var readers sync.WaitGroup
	readers.Go(func() { // ends with ln
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			f.started <- true
			readers.Go(func() { // ends with the process
				defer nc.Close()
				for lines := bufio.NewScanner(nc); lines.Scan(); {
					f.busy <- true
				}
				f.ended <- true
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		readers.Wait()
	})
	return f
}

// Started waits until n processes have started and, if busy, until one of them has
// answered many requests. Like Ended, it waits for as long as the test may take.
func (f *Faulty) Started(n int, busy bool) {
	receive(n, f.started)
	if busy {
		receive(1, f.busy)
	}
}

// Ended waits until n processes have ended.
func (f *Faulty) Ended(n int) { receive(n, f.ended) }

// AllEnded waits until all processes have ended, not counting those that Started waited for.
func (f *Faulty) AllEnded() { receive(len(f.started), f.ended) }

func receive(n int, from <-chan bool) {
	for range n {
		<-from
	}
}

// FaultyMain is the start of a program that a Faulty watches. It returns the program's
// fault, but never returns if that is "late" or "busy".
func FaultyMain() (fault string) {
	fault = os.Getenv("LOCKSTEP_FAULT")
	nc, err := net.Dial("tcp", os.Getenv("LOCKSTEP_TELL"))
	if err != nil {
		panic(err)
	}
	go nc.Read(make([]byte, 1)) // ends with the process; the garbage collector would close an unused connection
	for fault == "busy" {
	}
	if fault == "late" {
		select {}
	}
	return fault
}

// StageMain is the TestMain of a package that starts its own test binary as a stage. It
// has the fault of a Faulty, if any; "one" is a stage that serves one client at a time.
func StageMain(m *testing.M) {
	if !slices.Contains(os.Args, "-child") {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // of the stages: they end at once
		m.Run()
		return
	}
	switch fault := FaultyMain(); {
	case fault == "starting", fault == "absent" && os.Args[len(os.Args)-1] == "1": // never serves
		fmt.Fprintln(os.Stderr, "still starting")
		io.Copy(io.Discard, os.Stdin)
		return
	case fault == "stubborn": // ignores the end of standard input
		os.Args = slices.DeleteFunc(os.Args, func(arg string) bool { return arg == "-child" })
	case fault == "one":
		node.Main(ServeOne)
	}
	node.Main(ServeLocked)
}

// FaultyInPath makes this test's binary the only program in PATH, under this name. Its
// TestMain must call FaultyMain when it runs under that name.
func FaultyInPath(t *testing.T, name string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, name)); err != nil || runtime.GOOS == "windows" {
		t.Skip("needs symbolic links to programs")
	}
	t.Setenv("PATH", dir)
}
