package benchtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// A fakeRedis answers like Redis, but for its mistake.
type fakeRedis struct {
	mistake string
	mu      sync.Mutex // guards what follows
	table   *table.Table
	last    []byte // the value that was set last
	served  int
}

func NewFakeRedis(mistake string) *fakeRedis {
	return &fakeRedis{mistake: mistake, table: table.New(cluster.Work{}, nil)}
}

func (f *fakeRedis) Serve(nc net.Conn) {
	in, out := bufio.NewReader(nc), bufio.NewWriter(nc)
	for {
		words, err := ReadWords(in)
		if err != nil {
			return
		}
		io.WriteString(out, f.answer(words))
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}

// readWords reads a command in Redis' protocol, RESP.
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

func (f *fakeRedis) answer(words []string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if words[0] == "INFO" {
		if f.mistake == "secretive" {
			return "-NOAUTH Authentication required.\r\n"
		}
		const info = "# Server\r\nredis_version:7.7.7\r\nredis_mode:standalone\r\n"
		return fmt.Sprintf("$%d\r\n%s\r\n", len(info), info)
	}
	if f.served++; f.mistake == "mortal" && f.served > 2000 {
		fmt.Println("Out of memory allocating 1000 bytes")
		os.Exit(1)
	}
	op := wire.Op{Kind: map[string]wire.OpKind{"GET": wire.Get, "SET": wire.Put, "DEL": wire.Delete}[words[0]], Key: words[1]}
	if op.Kind == wire.Put {
		op.Value = []byte(words[2])
		f.last = op.Value
	}
	switch r := f.table.Apply([]wire.Op{op})[0]; {
	case r.Status == wire.Found && f.mistake == "full" && f.served%2 == 0:
		return "-OOM command not allowed\r\n"
	case r.Status == wire.Found && f.mistake == "wrong":
		return fmt.Sprintf("$%d\r\n%s\r\n", len(f.last), f.last)
	case r.Status == wire.Found:
		return fmt.Sprintf("$%d\r\n%s\r\n", len(r.Value), r.Value)
	case op.Kind == wire.Put:
		return "+OK\r\n"
	case r.Status == wire.Deleted:
		return ":1\r\n"
	case op.Kind == wire.Delete:
		return ":0\r\n"
	}
	return "$-1\r\n"
}

// fakeRedisMain is a redis-server, with the mistake that mistake has asked for.
func FakeRedisMain() int {
	mistake := os.Getenv("LOCKSTEP_MISTAKE")
	if tell, err := net.Dial("tcp", os.Getenv("LOCKSTEP_TELL")); err == nil {
		fmt.Fprintln(tell, "started") // and stays open until the end
	}
	flag := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	switch mistake {
	case "dead":
		fmt.Println("Fatal config file error")
		return 1
	case "late":
		fmt.Println("still loading")
		select {}
	case "busy":
		for {
		}
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(flag("--bind"), flag("--port")))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for redis := NewFakeRedis(mistake); ; {
		nc, err := ln.Accept()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go redis.Serve(nc) // ends with the process
	}
}

// fakeRedisInPath makes the fake the only program in PATH.
func FakeRedisInPath(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "redis-server")); err != nil || runtime.GOOS == "windows" {
		t.Skip("a program cannot have two names here")
	}
	t.Setenv("PATH", dir)
}

// serveHere serves connections in this process until the end of the test.
func ServeHere(t *testing.T, serve func(net.Conn)) (addr string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup // until stop
	served.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer nc.Close()
				defer context.AfterFunc(ctx, func() { nc.Close() })()
				serve(nc)
			})
		}
	})
	stop = func() {
		cancel()
		ln.Close()
		served.Wait()
	}
	t.Cleanup(stop)
	return ln.Addr().String(), stop
}
