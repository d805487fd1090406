package yardstick

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"reflect"
	"strconv"
	"sync"

	"lockstep/bench/load"
	"lockstep/bench/workload"
	"lockstep/common/cluster"
	"lockstep/common/table"
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
	frames sync.Map          // []byte by all that its length depends on: how many operations of each kind
}

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
	var kinds [wire.Delete + 1]int
	for i := range ops {
		kinds[ops[i].Kind]++
	}
	frame, ok := e.frames.Load(kinds)
	if !ok {
		response := wire.Response{Code: wire.OK, Results: make([]wire.Result, len(ops)), Number: 1 << 15} // one of many
		e.answer(ops, response.Results)
		encoded, _ := wire.AppendResponse(nil, &response)
		frame, _ = e.frames.LoadOrStore(kinds, encoded)
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
