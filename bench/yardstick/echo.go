package yardstick

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"sync"

	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/wire"
)

// An echo is the limit of what a stage can reach on this machine: what is left of a
// server in Go, with a goroutine for each connection, without codec, table and locks,
// and with as many bytes each way. (A server that is built in another way, such as one
// event loop in C, may do better.) Its client encodes each request as a client of
// Lockstep does. The server reads the frame and answers, undecoded, with a frame of
// zeros as long as a right answer. Then the client decodes a right answer of that
// length, which it has at hand.
//
// The length is the number that a server cannot know without decoding: the client sends
// it in the header of the frame, 4 bytes as always:
//
//	2 bytes: length of the request - 1
//	2 bytes: length of the answer - 1
//
// A get is answered with the value that its key had at first. The one thing that makes
// an answer differ from a stage's in length is that values may differ in theirs, as
// answers at hand have the values of other keys.
type echo struct {
	values map[string][]byte // that each key had at first
	some   [][]byte          // the same, to take any

	mu     sync.Mutex // guards frames
	frames map[shape][]byte
}

// A shape is all that the length of an answer depends on.
type shape struct{ gets, puts, deletes int }

const frameHeader = 4 // bytes

func newEcho(work *workload.Workload) *Yardstick {
	return &Yardstick{Name: "echo", dial: load.DialLine(echoOf(work)), noCAS: "it stores nothing to compare with"}
}

func echoOf(work *workload.Workload) *echo {
	e := &echo{values: make(map[string][]byte), frames: make(map[shape][]byte)}
	for ops := range work.Preload {
		for _, op := range ops {
			e.values[op.Key] = op.Value
			e.some = append(e.some, op.Value)
		}
	}
	return e
}

func (e *echo) AppendRequest(dst []byte, ops []wire.Op) ([]byte, error) {
	frame, err := e.frame(ops)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	if dst, err = wire.AppendRequest(dst, &wire.Request{Ops: ops}); err != nil {
		return dst, err
	}
	header := dst[start:]
	binary.BigEndian.PutUint16(header[0:], uint16(len(header)-frameHeader-1))
	binary.BigEndian.PutUint16(header[2:], uint16(len(frame)-frameHeader-1))
	return dst, nil
}

func (e *echo) ReadAnswers(in *bufio.Reader, ops []wire.Op) ([]wire.Result, error) {
	frame, err := e.frame(ops)
	if err != nil {
		return nil, err
	}
	header, err := in.Peek(frameHeader)
	if err != nil {
		return nil, err
	}
	if got, want := binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(frame); got != want {
		return nil, fmt.Errorf("an answer of %d bytes where there should be %d", got, want)
	}
	if _, err := in.Discard(len(frame)); err != nil {
		return nil, err
	}
	var answer wire.Response
	if err := wire.DecodeResponse(frame[frameHeader:], &answer); err != nil {
		return nil, err
	}
	for i, op := range ops { // the same results, in the order of ops
		switch op.Kind {
		case wire.Get:
			answer.Results[i] = wire.Result{Status: wire.Found, Value: e.values[op.Key]}
		case wire.Put:
			answer.Results[i] = wire.Result{Status: wire.Replaced}
		default:
			answer.Results[i] = wire.Result{Status: wire.Deleted}
		}
	}
	return answer.Results, nil
}

// frame is a right answer to operations of the same kinds.
func (e *echo) frame(ops []wire.Op) (frame []byte, err error) {
	var s shape
	for i := range ops {
		switch ops[i].Kind {
		case wire.Get:
			s.gets++
		case wire.Put:
			s.puts++
		default:
			s.deletes++
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if frame = e.frames[s]; frame == nil {
		frame, err = e.newFrame(s)
		e.frames[s] = frame
	}
	return frame, err
}

func (e *echo) newFrame(s shape) ([]byte, error) {
	answer := wire.Response{Code: wire.OK}
	for i := range s.gets {
		answer.Results = append(answer.Results, wire.Result{Status: wire.Found, Value: e.some[i%len(e.some)]})
	}
	for range s.puts {
		answer.Results = append(answer.Results, wire.Result{Status: wire.Replaced})
	}
	for range s.deletes {
		answer.Results = append(answer.Results, wire.Result{Status: wire.Deleted})
	}
	return wire.AppendResponse(nil, &answer)
}

// serveEcho answers what a client asks for, with one write for all requests that have
// arrived.
func serveEcho(nc net.Conn) {
	in := bufio.NewReaderSize(nc, load.LineBuffer)
	for out := []byte(nil); ; {
		header, err := in.Peek(frameHeader)
		if err != nil {
			return
		}
		request, answer := 1+int(binary.BigEndian.Uint16(header)), 1+int(binary.BigEndian.Uint16(header[2:]))
		if _, err := in.Discard(frameHeader + request); err != nil {
			return
		}
		out = binary.BigEndian.AppendUint32(out, uint32(answer))
		out = append(out, make([]byte, answer)...)
		if in.Buffered() > 0 && len(out) < wire.MaxUnsent {
			continue
		}
		if _, err := nc.Write(out); err != nil {
			return
		}
		out = out[:0]
	}
}
