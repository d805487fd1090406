package yardstick

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"net"
	"net/rpc"
	"reflect"
	"sync"

	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// An echo is the limit of what a stage can reach on this machine: a server in Go with a
// goroutine for each connection and as many bytes each way, but without codec, table and
// locks. (A server that is built in another way, such as one event loop in C, may be
// faster.) Its client encodes each request as a client of Lockstep does. The server
// answers the frame, undecoded, with a frame of zeros as long as a right answer. Then the
// client decodes a right answer of that length, which it has prepared.
//
// The server cannot know that length without decoding, so the client sends it in the
// header of the frame, which has 4 bytes as always:
//
//	2 bytes: length of the request - 1
//	2 bytes: length of the answer - 1
//
// A get is answered with the value that its key had at first. So where sizes of values
// differ, an answer may be longer or shorter than a stage's.
type echo struct {
	values map[string][]byte // that each key had at first
	frames sync.Map          // []byte by shape
}

// A shape is all that the length of an answer depends on: how many operations of each kind.
type shape [wire.Delete + 1]int

const frameHeader = 4 // bytes

func newEcho(work *workload.Workload) *Yardstick {
	e := &echo{values: make(map[string][]byte)}
	for i := range work.Keys {
		put := work.Preload(i, 1)[0]
		e.values[put.Key] = put.Value
	}
	return &Yardstick{Name: "echo", version: noVersion, noCAS: "it stores nothing to compare with",
		codec: func(in *bufio.Reader) load.Codec { return echoCodec{in, e} }}
}

// frame returns the frame of a right answer to operations of the same kinds. It is not too
// large, as no batch of a workload is.
func (e *echo) frame(ops []wire.Op) []byte {
	var s shape
	for i := range ops {
		s[ops[i].Kind]++
	}
	frame, ok := e.frames.Load(s)
	if !ok {
		response := wire.Response{Code: wire.OK, Results: make([]wire.Result, len(ops)), Number: 1 << 15} // one of many
		e.answer(ops, response.Results)
		encoded, _ := wire.AppendResponse(nil, &response)
		frame, _ = e.frames.LoadOrStore(s, encoded)
	}
	return frame.([]byte)
}

// answer sets the right results.
func (e *echo) answer(ops []wire.Op, results []wire.Result) {
	right := [...]wire.Status{wire.Get: wire.Found, wire.Put: wire.Replaced, wire.Delete: wire.Deleted}
	for i := range ops {
		results[i] = wire.Result{Status: right[ops[i].Kind]}
		if ops[i].Kind == wire.Get {
			results[i].Value = e.values[ops[i].Key]
		}
	}
}

type echoCodec struct {
	*bufio.Reader
	*echo
}

func (c echoCodec) Append(dst []byte, _ uint64, ops []wire.Op) ([]byte, error) {
	start := len(dst)
	dst, err := wire.AppendRequest(dst, &wire.Request{Ops: ops})
	if err != nil {
		return dst, err
	}
	frame := c.frame(ops)
	header := dst[start:]
	binary.BigEndian.PutUint16(header[0:], uint16(len(header)-frameHeader-1))
	binary.BigEndian.PutUint16(header[2:], uint16(len(frame)-frameHeader-1))
	return dst, nil
}

func (c echoCodec) Read(ops []wire.Op) (number uint64, results []wire.Result, err error) {
	frame := c.frame(ops)
	header, err := c.Peek(frameHeader)
	if err != nil {
		return 0, nil, err
	}
	if got, want := binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(frame); got != want {
		return 0, nil, fmt.Errorf("the answer has %d bytes, want %d", got, want)
	}
	_, err = c.Discard(len(frame))
	var response wire.Response
	if err = cmp.Or(err, wire.DecodeResponse(frame[frameHeader:], &response)); err != nil {
		return 0, nil, err
	}
	c.answer(ops, response.Results)
	return 0, response.Results, nil
}

// serveEcho answers requests, with one write for all that have arrived.
func serveEcho(nc net.Conn) {
	in, out := bufio.NewReaderSize(nc, bufferSize), bufio.NewWriterSize(nc, wire.MaxUnsent)
	frame := make([]byte, frameHeader+wire.MaxFrame)
	for {
		header, err := in.Peek(frameHeader)
		if err != nil {
			return
		}
		request, answer := 1+int(binary.BigEndian.Uint16(header)), 1+int(binary.BigEndian.Uint16(header[2:]))
		if _, err := in.Discard(frameHeader + request); err != nil {
			return
		}
		binary.BigEndian.PutUint32(frame, uint32(answer))
		out.Write(frame[:frameHeader+answer])
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// An rpcTable is the service of the server.
type rpcTable struct {
	mu    sync.Mutex // guards table
	table *table.Table
}

// newRPCServer returns the function that serves a connection.
func newRPCServer() (serve func(net.Conn)) {
	s := rpc.NewServer()
	s.RegisterName("Table", &rpcTable{table: table.New(cluster.Work{}, nil)}) // Apply has the signature that net/rpc needs
	return func(nc net.Conn) { s.ServeConn(nc) }
}

// RPCRequest and RPCResponse have plain lists, which gob handles by reflection. Package rpc
// wants them exported.
type RPCRequest struct{ Ops []wire.Op }
type RPCResponse struct{ Results []wire.Result }

// Apply executes a request as one atomic step.
func (t *rpcTable) Apply(request *RPCRequest, response *RPCResponse) error {
	if err := (&wire.Request{Ops: request.Ops}).Validate(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	response.Results = t.table.Apply(request.Ops)
	return nil
}

// An rpcCodec sends what an rpc.Client sends. Answers come in any order.
type rpcCodec struct {
	*bufio.Reader
	out bytes.Buffer
	enc *gob.Encoder // to out
	dec *gob.Decoder
}

func newRPCCodec(in *bufio.Reader) load.Codec {
	c := &rpcCodec{Reader: in, dec: gob.NewDecoder(in)}
	c.enc = gob.NewEncoder(&c.out)
	return c
}

func (c *rpcCodec) Append(dst []byte, number uint64, ops []wire.Op) ([]byte, error) {
	c.out.Reset()
	c.enc.Encode(&rpc.Request{ServiceMethod: "Table.Apply", Seq: number}) // a buffer takes everything
	c.enc.Encode(&RPCRequest{ops})                                        // also what breaks the rules: the server says so
	return append(dst, c.out.Bytes()...), nil
}

func (c *rpcCodec) Read([]wire.Op) (number uint64, results []wire.Result, err error) {
	var header rpc.Response
	if err := c.dec.Decode(&header); err != nil {
		return 0, nil, err
	}
	if header.Error != "" {
		err = c.dec.DecodeValue(reflect.Value{}) // skips the empty body
		return header.Seq, nil, cmp.Or(err, refusal(header.Error))
	}
	var response RPCResponse
	err = c.dec.Decode(&response)
	return header.Seq, response.Results, err
}
