package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"

	"lockstep/bench/benchtest"
	"lockstep/common/wire"
)

// A fakeRedis answers as Redis does, except for its fault.
type fakeRedis struct {
	fault string
	apply func([]wire.Op) []wire.Result

	mu     sync.Mutex // guards what follows
	last   []byte     // the value that was set last
	served int
}

// newFakeRedis returns a fakeRedis without keys. The fault "" is none.
func newFakeRedis(fault string) *fakeRedis {
	return &fakeRedis{fault: fault, apply: benchtest.Locked(nil)}
}

// serve accepts connections until ln is closed. Each connection ends when its client leaves.
func (f *fakeRedis) serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go f.serveConn(nc)
	}
}

func (f *fakeRedis) serveConn(nc net.Conn) {
	defer nc.Close()
	in, out := bufio.NewReader(nc), bufio.NewWriter(nc)
	for {
		words, err := readWords(in)
		if err != nil {
			return
		}
		io.WriteString(out, f.answer(words))
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
}

// readWords reads a command in Redis's protocol, RESP.
func readWords(in *bufio.Reader) ([]string, error) {
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

// answer returns the answer to a command.
func (f *fakeRedis) answer(words []string) string {
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

// fakeRedisMain is the main function of a redis-server with the fault that NewFaulty set.
func fakeRedisMain() error {
	fault := benchtest.FaultyMain()
	if fault == "dead" {
		return errors.New("Fatal config file error")
	}
	flag := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	ln, err := net.Listen("tcp", net.JoinHostPort(flag("--bind"), flag("--port")))
	if err != nil {
		return err
	}
	return newFakeRedis(fault).serve(ln)
}
