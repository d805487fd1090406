package yardstick

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"sync"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/cluster"
	"lockstep/common/metrics"
	"lockstep/common/table"
	"lockstep/common/wire"
)

// newNetRPC is what the standard library has for it: package net/rpc, which speaks gob
// over TCP and answers each request in a goroutine of its own, around one table behind
// one lock.
func newNetRPC() *Yardstick {
	return &Yardstick{Name: "net/rpc", dial: dialRPC}
}

// An rpcServer serves its method Apply.
type rpcServer struct {
	*rpc.Server
	rpcTable
}

type rpcTable struct {
	mu    sync.Mutex // guards table
	table *table.Table
}

func newRPCServer() *rpcServer {
	s := &rpcServer{Server: rpc.NewServer(), rpcTable: rpcTable{table: table.New(cluster.Work{}, nil)}}
	if err := s.RegisterName("Table", &s.rpcTable); err != nil {
		panic(err) // Apply is not as net/rpc wants it: a mistake in this file
	}
	return s
}

func (s *rpcServer) Serve(nc net.Conn) { s.ServeConn(nc) }

// Apply executes a request as one atomic step.
func (t *rpcTable) Apply(request *wire.Request, response *wire.Response) error {
	if err := request.Validate(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	response.Code, response.Results = wire.OK, t.table.Apply(request.Ops)
	return nil
}

// An rpcAsker is a client of an rpcServer.
type rpcAsker struct {
	*rpc.Client
	dialing time.Duration
}

func dialRPC(ctx context.Context, addr string) (load.Asker, error) {
	start := metrics.Now()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &rpcAsker{rpc.NewClient(nc), metrics.Now() - start}, nil
}

func (a *rpcAsker) Do(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	response := new(wire.Response)
	call := a.Go("Table.Apply", &wire.Request{Ops: ops}, response, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
	case <-ctx.Done():
		return nil, ctx.Err() // the answer, if it comes, is nobody's
	}
	switch err := call.Error; {
	case errors.Is(err, rpc.ErrShutdown):
		return nil, fmt.Errorf("%w: %w", client.ErrDown, err)
	case errors.As(err, new(rpc.ServerError)):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", client.ErrUnknown, err)
	}
	return response.Results, nil
}

// Once is Do: net/rpc never says Busy.
func (a *rpcAsker) Once(ctx context.Context, ops ...wire.Op) ([]wire.Result, error) {
	return a.Do(ctx, ops...)
}

func (a *rpcAsker) Counts() client.Counts { return client.Counts{Dials: 1, Dialing: a.dialing} }
