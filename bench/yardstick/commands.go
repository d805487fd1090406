package yardstick

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"

	"lockstep/bench/load"
	"lockstep/common/wire"
)

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
