package yardstick

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// newMemcached returns memcached, with so much memory that it never evicts a value. A batch
// is a pipeline of meta commands and not an atomic step.
func newMemcached(w cluster.Workload) *Yardstick {
	return &Yardstick{
		Name: "memcached", program: "memcached",
		args: func(host, port, _ string) []string {
			memory := 64 + 2*w.Keys*wire.MaxValue>>20 // MiB; none is taken before it is needed
			args := []string{"-l", host, "-p", port, "-U", "0", "-m", strconv.Itoa(memory), "-c", strconv.Itoa(max(1024, 2*w.Connections))}
			if os.Getuid() == 0 {
				args = append(args, "-u", "root") // memcached insists on it
			}
			return args
		},
		noCAS:   "memcached compares versions, not values",
		codec:   memcachedCodec,
		version: memcachedVersion,
	}
}

func memcachedCodec(in *bufio.Reader) load.Codec { return commands{in, appendMemcached, readMemcached} }

// appendMemcached appends a meta command of memcached's protocol.
func appendMemcached(dst []byte, op *wire.Op) []byte {
	switch op.Kind {
	case wire.Get:
		return append(append(append(dst, "mg "...), op.Key...), " v\r\n"...)
	case wire.Put:
		dst = append(append(append(dst, "ms "...), op.Key...), ' ')
		dst = append(strconv.AppendInt(dst, int64(len(op.Value)), 10), "\r\n"...)
		return append(append(dst, op.Value...), "\r\n"...)
	default:
		return append(append(append(dst, "md "...), op.Key...), "\r\n"...)
	}
}

func readMemcached(in *bufio.Reader, op *wire.Op) (wire.Result, error) {
	text, err := readLine(in)
	if err != nil {
		return wire.Result{}, err
	}
	word, rest, _ := bytes.Cut(text, []byte(" "))
	switch is := string(word); {
	case is == "SERVER_ERROR":
		return wire.Result{}, refusal(string(rest))
	case op.Kind == wire.Put && is == "HD":
		return wire.Result{Status: wire.Replaced}, nil // or Created: it does not say
	case op.Kind == wire.Delete && is == "HD":
		return wire.Result{Status: wire.Deleted}, nil
	case op.Kind == wire.Delete && is == "NF", op.Kind == wire.Get && is == "EN":
		return wire.Result{Status: wire.Missing}, nil
	case op.Kind == wire.Get && is == "VA":
		size, _, _ := bytes.Cut(rest, []byte(" ")) // flags may follow
		value, err := readValue(in, size, wire.MaxValue)
		return wire.Result{Status: wire.Found, Value: value}, err
	}
	return wire.Result{}, malformed(text)
}

func memcachedVersion(ctx context.Context, addr string) (string, error) {
	return exchange(ctx, addr, "version\r\nmn\r\n", func(in *bufio.Reader) (string, error) {
		text, err := readLine(in)
		if err != nil {
			return "", err
		}
		version, ok := strings.CutPrefix(string(text), "VERSION ")
		if !ok {
			return "", malformed(text)
		}
		if text, err = readLine(in); err == nil && string(text) != "MN" {
			err = fmt.Errorf("memcached %s does not know meta commands, which came with 1.6", version)
		}
		return version, err
	})
}
