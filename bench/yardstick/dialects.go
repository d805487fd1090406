package yardstick

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"lockstep/bench/load"
	"lockstep/common/wire"
)

// A dialect is a protocol in which each operation is a command with an answer of its own, in
// order. A batch is a pipeline of commands and not an atomic step.
type dialect struct {
	append  func(dst []byte, op *wire.Op) []byte
	answers [wire.Delete + 1]map[string]wire.Status // to each kind of operation, without a value
	value   string                                  // starts the answer to a get, before the value's length
	refusal string                                  // starts an answer that refuses the command, before the reason
}

func (d *dialect) codec(in *bufio.Reader) load.Codec { return commands{in, d} }

func refusal(text string) error {
	return load.Refusal{Reason: fmt.Errorf("the server says: %s", text)}
}

func malformed(text []byte) error { return fmt.Errorf("malformed answer: %.60q", text) }

// redis is RESP. A batch is a pipeline of GET, SET and DEL, as its users send for throughput,
// and, unlike MULTI, not an atomic step.
var redis = &dialect{
	append: appendRedis,
	answers: [...]map[string]wire.Status{
		wire.Get:    {"$-1": wire.Missing},
		wire.Put:    {"+OK": wire.Replaced}, // or Created: it does not say
		wire.Delete: {":1": wire.Deleted, ":0": wire.Missing},
	},
	value:   "$",
	refusal: "-",
}

var redisCommands = [...]string{wire.Get: "*2\r\n$3\r\nGET\r\n", wire.Put: "*3\r\n$3\r\nSET\r\n", wire.Delete: "*2\r\n$3\r\nDEL\r\n"}

func appendRedis(dst []byte, op *wire.Op) []byte {
	dst = appendBulk(append(dst, redisCommands[op.Kind]...), op.Key)
	if op.Kind == wire.Put {
		dst = appendBulk(dst, op.Value)
	}
	return dst
}

func appendBulk[T string | []byte](dst []byte, text T) []byte {
	dst = strconv.AppendInt(append(dst, '$'), int64(len(text)), 10)
	dst = append(append(dst, "\r\n"...), text...)
	return append(dst, "\r\n"...)
}

// memcached is the meta commands of memcached.
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

var memcachedCommands = [...]string{wire.Get: "mg ", wire.Put: "ms ", wire.Delete: "md "}

func appendMemcached(dst []byte, op *wire.Op) []byte {
	dst = append(append(dst, memcachedCommands[op.Kind]...), op.Key...)
	switch op.Kind {
	case wire.Get:
		dst = append(dst, " v"...)
	case wire.Put:
		dst = strconv.AppendInt(append(dst, ' '), int64(len(op.Value)), 10)
		dst = append(append(dst, "\r\n"...), op.Value...)
	}
	return append(dst, "\r\n"...)
}

// commands is the codec of a dialect.
type commands struct {
	*bufio.Reader
	*dialect
}

func (c commands) Append(dst []byte, _ uint64, ops []wire.Op) ([]byte, error) {
	for i := range ops {
		dst = c.append(dst, &ops[i])
	}
	return dst, nil
}

func (c commands) Read(ops []wire.Op) (number uint64, results []wire.Result, err error) {
	results = make([]wire.Result, len(ops))
	var refused error
	for i := range ops {
		results[i], err = c.read(c.Reader, ops[i].Kind)
		if errors.As(err, new(load.Refusal)) {
			refused = err // the answers to the other commands follow
		} else if err != nil {
			return 0, nil, err
		}
	}
	if refused != nil {
		results = nil
	}
	return 0, results, refused
}

// read reads the answer to a command.
func (d *dialect) read(in *bufio.Reader, kind wire.OpKind) (r wire.Result, err error) {
	line, err := readLine(in)
	if err != nil {
		return r, err
	}
	if status, ok := d.answers[kind][string(line)]; ok {
		return wire.Result{Status: status}, nil
	}
	if why, ok := bytes.CutPrefix(line, []byte(d.refusal)); ok {
		return r, refusal(string(why))
	}
	size, ok := bytes.CutPrefix(line, []byte(d.value))
	size, _, _ = bytes.Cut(size, []byte(" ")) // memcached's flags may follow
	n, err := strconv.ParseUint(string(size), 10, 32)
	if !ok || kind != wire.Get || err != nil || n > wire.MaxValue {
		return r, malformed(line)
	}
	value := make([]byte, n+2)
	if _, err = io.ReadFull(in, value); err == nil && string(value[n:]) != "\r\n" {
		err = malformed(value[n:])
	}
	return wire.Result{Status: wire.Found, Value: value[:n:n]}, err
}

// readLine reads a line and returns it without its end. It is valid until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	line, whole := bytes.CutSuffix(line, []byte("\r\n"))
	if !whole && (err == nil || err == bufio.ErrBufferFull) {
		err = malformed(line)
	}
	return bytes.TrimRight(line, " "), err
}
