package yardstick

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"

	"lockstep/bench/load"
	"lockstep/common/wire"
)

// pipelined is a dialect in which each operation is a command with an answer of its
// own. A batch is a pipeline of them, and no atomic step.
type pipelined struct {
	append func(dst []byte, op *wire.Op) []byte
	read   func(in *bufio.Reader, op *wire.Op) (wire.Result, error)
}

func (p pipelined) AppendRequest(dst []byte, ops []wire.Op) ([]byte, error) {
	for i := range ops {
		dst = p.append(dst, &ops[i])
	}
	return dst, nil
}

func (p pipelined) ReadAnswers(in *bufio.Reader, ops []wire.Op) ([]wire.Result, error) {
	results := make([]wire.Result, len(ops))
	var refused error
	for i := range ops {
		var err error
		switch results[i], err = p.read(in, &ops[i]); {
		case errors.As(err, new(load.Refusal)):
			refused = err
		case err != nil:
			return nil, err
		}
	}
	if refused != nil {
		return nil, refused
	}
	return results, nil
}

// readLine reads a line of an answer, and returns it without its end, until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	text, err := in.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return nil, malformed(text)
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	text, ok := bytes.CutSuffix(text, []byte("\r\n"))
	if !ok {
		return nil, malformed(text)
	}
	return text, nil
}

// readValue reads a value of as many bytes as size says, and the end of its line.
func readValue(in *bufio.Reader, size []byte, limit int) ([]byte, error) {
	n, err := strconv.Atoi(string(size))
	if err != nil || n < 0 || n > limit {
		return nil, fmt.Errorf("a value of %.20q bytes is announced, and %d are the most", size, limit)
	}
	value := make([]byte, n+2)
	if _, err := io.ReadFull(in, value); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	if string(value[n:]) != "\r\n" {
		return nil, malformed(value[n:])
	}
	return value[:n:n], nil
}

func malformed(text []byte) error { return fmt.Errorf("the answer makes no sense: %.60q", text) }

// exchange sends a request on a connection of its own, and has read read the answer.
func exchange(ctx context.Context, addr, request string, read func(*bufio.Reader) (string, error)) (string, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if _, err := io.WriteString(nc, request); err != nil {
		return "", err
	}
	return read(bufio.NewReaderSize(nc, load.LineBuffer))
}
