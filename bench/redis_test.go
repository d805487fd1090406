package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"

	"lockstep/bench/benchtest"
)

// A fakeRedis answers as Redis does, except for its fault.
type fakeRedis struct {
	fault string // "" is none

	mu     sync.Mutex // guards what follows
	values map[string]string
	last   string // the value that was set last
	served int
}

func newFakeRedis(fault string) *fakeRedis {
	return &fakeRedis{fault: fault, values: make(map[string]string)}
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
		return bulk("# Server\r\nredis_version:7.7.7\r\nredis_mode:standalone\r\n")
	}
	if f.served++; f.fault == "mortal" && f.served > 2000 {
		panic("out of memory")
	}
	value, found := f.values[words[1]]
	switch {
	case f.fault == "full" && f.served > 1000: // when the keys are stored
		return "-OOM command not allowed\r\n"
	case words[0] == "SET":
		f.last, f.values[words[1]] = words[2], words[2]
		return "+OK\r\n"
	case words[0] == "DEL":
		delete(f.values, words[1])
		return map[bool]string{true: ":1\r\n", false: ":0\r\n"}[found]
	case !found:
		return "$-1\r\n"
	case f.fault == "half full" && f.served%2 == 0:
		return "-OOM command not allowed\r\n"
	case f.fault == "wrong":
		return bulk(f.last)
	}
	return bulk(value)
}

func bulk(value string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value) }

// fakeRedisMain is the main function of a redis-server with the fault that NewFaulty set.
func fakeRedisMain() error {
	fault := benchtest.FaultyMain()
	if fault == "late" { // never serves
		select {}
	}
	flag := func(name string) string { return os.Args[slices.Index(os.Args, name)+1] }
	ln, err := net.Listen("tcp", net.JoinHostPort(flag("--bind"), flag("--port")))
	if err != nil {
		return err
	}
	return newFakeRedis(fault).serve(ln)
}
