// Package faults is a proxy that cuts, delays and stalls connections. It stands between
// clients and a server, and chooses a fault for each connection. It adds and reorders
// nothing: every byte that arrives was sent, in that order.
package faults

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"lockstep/common/control"
)

// A Kind is what goes wrong with a connection.
type Kind int

const (
	None  Kind = iota
	Cut        // the connection is closed, at both ends, after After bytes
	Hole       // bytes beyond the first After are dropped; the connection stays open
	Delay      // bytes beyond the first After arrive late, by Late
)

// A Way is a direction.
type Way int

const (
	Requests Way = iota // from client to server
	Answers             // from server to client, including the greeting
)

// A Fault says what goes wrong with one connection. The zero Fault does nothing.
type Fault struct {
	Kind  Kind
	Way   Way
	After int           // bytes that get through unharmed in this direction
	Late  time.Duration // for Delay
}

// A Proxy forwards connections to a server.
type Proxy struct {
	ln     net.Listener
	target string
	fault  func() Fault
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// NewProxy starts a proxy on a loopback port for the server at target. It calls fault
// for each connection.
func NewProxy(target string, fault func() Fault) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{ln: ln, target: target, fault: fault}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.work.Go(p.accept) // ends at Close
	return p, nil
}

// Addr returns the address that clients connect to.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Close ends all connections and waits for the proxy's goroutines.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.ln.Close()
	p.work.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(client, p.fault()) }) // ends with the connection, or at Close
	}
}

// serve forwards one connection until both directions have ended or it is cut.
func (p *Proxy) serve(client net.Conn, f Fault) {
	ctx, cut := context.WithCancel(p.ctx)
	defer cut()
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var both [2]Fault
	both[f.Way] = f
	var ways sync.WaitGroup
	ways.Go(func() { pass(ctx, cut, server, client, both[Requests]) })
	ways.Go(func() { pass(ctx, cut, client, server, both[Answers]) })
	ways.Wait()
}

// pass copies one direction, with its fault, and calls cut unless the direction ends
// with EOF.
func pass(ctx context.Context, cut func(), dst, src net.Conn, f Fault) {
	_, err := io.CopyN(dst, src, int64(f.After)) // io.EOF if there are fewer
	for buf := make([]byte, 4<<10); err == nil && f.Kind != Cut; {
		var n int
		n, err = src.Read(buf)
		if f.Kind == Delay {
			control.Pause(ctx, f.Late)
		}
		if f.Kind != Hole {
			dst.Write(buf[:n]) // if that fails, dst cannot be read either, and the other direction ends
		}
	}
	if err != io.EOF {
		cut()
		return
	}
	dst.(*net.TCPConn).CloseWrite()
}
