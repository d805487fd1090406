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

// commands is the codec of a protocol in which each operation is a command with an answer
// of its own, in order. A batch is a pipeline of commands and not an atomic step.
type commands struct {
	*bufio.Reader
	append func(dst []byte, op *wire.Op) []byte
	read   func(in *bufio.Reader, op *wire.Op) (wire.Result, error)
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
		results[i], err = c.read(c.Reader, &ops[i])
		if errors.As(err, new(load.Refusal)) {
			refused = err // the answers to the other commands follow
		} else if err != nil {
			return 0, nil, err
		}
	}
	if refused != nil {
		return 0, nil, refused
	}
	return 0, results, nil
}

func refusal(text string) error {
	return load.Refusal{Reason: fmt.Errorf("the server says: %s", text)}
}

func malformed(text []byte) error { return fmt.Errorf("malformed answer: %.60q", text) }

// readLine reads a line and returns it without its end. It is valid until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	line, whole := bytes.CutSuffix(line, []byte("\r\n"))
	if err == bufio.ErrBufferFull || err == nil && !whole {
		err = malformed(line)
	}
	return line, err
}

// readValue reads a value of size bytes, and the end of its line.
func readValue(in *bufio.Reader, size []byte, limit int) ([]byte, error) {
	n, err := strconv.Atoi(string(size))
	if err != nil || n < 0 || n > limit {
		return nil, fmt.Errorf("malformed answer: the length of its value is %.20q, and the limit %d", size, limit)
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

// exchange sends a request on a connection of its own and returns what read makes of the
// answer.
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
	return read(bufio.NewReaderSize(nc, bufferSize))
}
