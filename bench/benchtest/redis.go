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

	"lockstep/common/wire"
)

// A FakeRedis answers as Redis does, except for its fault.
type FakeRedis struct {
	fault string
	apply func([]wire.Op) []wire.Result

	mu     sync.Mutex // guards what follows
	last   []byte     // the value that was set last
	served int
}

// NewFakeRedis returns a FakeRedis without keys. The fault "" is none.
func NewFakeRedis(fault string) *FakeRedis { return &FakeRedis{fault: fault, apply: Locked(nil)} }

// Serve accepts connections until ln is closed. Each connection ends when its client leaves.
func (f *FakeRedis) Serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go f.serveConn(nc)
	}
}

func (f *FakeRedis) serveConn(nc net.Conn) {
	defer nc.Close()
	in, out := bufio.NewReader(nc), bufio.NewWriter(nc)
	for {
		words, err := ReadWords(in)
		if err != nil {
			return
		}
		io.WriteString(out, f.Answer(words))
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}

// ReadWords reads a command in Redis's protocol, RESP.
func ReadWords(in *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	words := make([]string, n)
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		word := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(in, word); err != nil {
			return nil, err
		}
		words[i] = string(word[:size])
	}
	return words, nil
}

// Answer returns the answer to a command.
func (f *FakeRedis) Answer(words []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if words[0] == "INFO" {
		if f.fault == "secretive" {
			return "-NOAUTH Authentication required.\r\n"
		}
		return bulk([]byte("# Server\r\nredis_version:7.7.7\r\nredis_mode:standalone\r\n"))
	}
	if f.served++; f.fault == "mortal" && f.served > 2000 {
		panic("out of memory")
	}
	op := wire.Op{Kind: map[string]wire.OpKind{"GET": wire.Get, "SET": wire.Put, "DEL": wire.Delete}[words[0]], Key: words[1]}
	if op.Kind == wire.Put {
		op.Value = []byte(words[2])
		f.last = op.Value
	}
	switch r := f.apply([]wire.Op{op})[0]; {
	case r.Status == wire.Found && f.fault == "full" && f.served%2 == 0:
		return "-OOM command not allowed\r\n"
	case r.Status == wire.Found && f.fault == "wrong":
		return bulk(f.last)
	case r.Status == wire.Found:
		return bulk(r.Value)
	case r.Status == wire.Deleted:
		return ":1\r\n"
	case op.Kind == wire.Put:
		return "+OK\r\n"
	case op.Kind == wire.Delete:
		return ":0\r\n"
	}
	return "$-1\r\n"
}

func bulk(value []byte) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value) }

// FakeRedisMain is the main function of a redis-server with the fault that NewFaulty set.
func FakeRedisMain() error {
	fault := os.Getenv("LOCKSTEP_FAULT")
	if _, err := net.Dial("tcp", os.Getenv("LOCKSTEP_TELL")); err != nil { // stays open until the end
		return err
	}
	switch fault {
	case "dead":
		return fmt.Errorf("Fatal config file error")
	case "late":
		fmt.Println("still loading")
		select {}
	case "busy":
		for {
		}
	}
	flag := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	ln, err := net.Listen("tcp", net.JoinHostPort(flag("--bind"), flag("--port")))
	if err != nil {
		return err
	}
	return NewFakeRedis(fault).Serve(ln)
}

// FakeRedisInPath makes this test's binary the only program in PATH, under the name
// redis-server. Its TestMain must call FakeRedisMain then.
func FakeRedisInPath(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "redis-server")); err != nil || runtime.GOOS == "windows" {
		t.Skip("needs symbolic links to programs")
	}
	t.Setenv("PATH", dir)
}
