package yardstick

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"

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
	if !ok || kind != wire.Get {
		return r, malformed(line)
	}
	size, _, _ = bytes.Cut(size, []byte(" ")) // memcached's flags may follow
	r.Status = wire.Found
	r.Value, err = readValue(in, size)
	return r, err
}

func refusal(text string) error {
	return load.Refusal{Reason: fmt.Errorf("the server says: %s", text)}
}
