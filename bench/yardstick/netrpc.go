package yardstick

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/gob"
	"net"
	"net/rpc"
	"reflect"
	"sync"

	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/table"
	"lockstep/common/wire"
)

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
