package yardstick

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"

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
		codec:   memcached.codec,
		hello:   "version\r\nmn\r\n",
		version: memcachedVersion,
	}
}

var memcached = &dialect{
	append: appendMemcached,
	answers: [...]map[string]wire.Status{
		wire.Get:    {"EN": wire.Missing},
		wire.Put:    {"HD": wire.Replaced}, // or Created: it does not say
		wire.Delete: {"HD": wire.Deleted, "NF": wire.Missing},
	},
	value:   "VA ",
	refusal: "SERVER_ERROR ",
}

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

func memcachedVersion(in *bufio.Reader) (string, error) {
	line, err := readLine(in)
	version, ok := strings.CutPrefix(string(line), "VERSION ")
	if err != nil || !ok {
		return "", cmp.Or(err, malformed(line))
	}
	if line, err = readLine(in); err == nil && string(line) != "MN" {
		err = fmt.Errorf("memcached %s does not know meta commands, which came with 1.6", version)
	}
	return version, err
}
