package yardstick

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"

	"lockstep/common/wire"
)

func malformed(text []byte) error { return fmt.Errorf("malformed answer: %.60q", text) }

// readLine reads a line and returns it without its end. It is valid until the next read.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	line, whole := bytes.CutSuffix(line, []byte("\r\n"))
	if !whole && (err == nil || err == bufio.ErrBufferFull) {
		err = malformed(line)
	}
	return bytes.TrimRight(line, " "), err
}

// readValue reads a value of size bytes, and the end of its line.
func readValue(in *bufio.Reader, size []byte) ([]byte, error) {
	n, err := strconv.ParseUint(string(size), 10, 32)
	if err != nil || n > wire.MaxValue {
		return nil, fmt.Errorf("malformed answer: the length of its value is %.20q, and the limit %d", size, wire.MaxValue)
	}
	value := make([]byte, n+2)
	_, err = io.ReadFull(in, value)
	if end := value[n:]; err == nil && string(end) != "\r\n" {
		err = malformed(end)
	}
	return value[:n:n], err
}
