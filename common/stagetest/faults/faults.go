// Package faults is a network that fails on demand: a proxy between clients and a
// server that cuts connections after so many bytes, holds bytes up, or lets them
// disappear in one direction. It invents nothing: what arrives was sent, in order.
package faults

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// A Kind is what goes wrong with a connection.
type Kind int

const (
	None  Kind = iota
	Cut        // both ends find the connection closed after After bytes
	Hole       // bytes after the first After disappear; the connection stays open
	Delay      // bytes after the first After arrive late, by Late
)

// A Way is a direction.
type Way int

const (
	Requests Way = iota // from client to server
	Answers             // from server to client; the greeting, too
)

// A Fault is what goes wrong with one connection. The zero Fault is none.
type Fault struct {
	Kind  Kind
	Way   Way
	After int           // bytes of this way that get through first
	Late  time.Duration // Delay: how late each later piece arrives
}

// A Proxy passes connections on to a server. Its own address is Addr.
type Proxy struct {
	ln     net.Listener
	target string
	fault  func(n int) Fault
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// NewProxy returns a proxy on a loopback port to the server at target. fault is asked
// for each connection what goes wrong with it; n counts them from 0.
func NewProxy(target string, fault func(n int) Fault) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{ln: ln, target: target, fault: fault}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.work.Go(p.accept) // ends at Close
	return p, nil
}

// Addr is the address to which clients connect.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Close ends all connections, and waits for the proxy's goroutines.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.ln.Close()
	p.work.Wait()
	return err
}

func (p *Proxy) accept() {
	for n := 0; ; n++ {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.serve(client, p.fault(n)) }) // ends with the connection, or at Close
	}
}

// serve passes on one connection, until both directions have ended, or it is cut.
func (p *Proxy) serve(client net.Conn, f Fault) {
	ctx, cut := context.WithCancel(p.ctx)
	defer cut()
	defer client.Close()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() {
		past := time.Unix(1, 0)
		client.SetDeadline(past)
		server.SetDeadline(past)
	})()
	both := [2]Fault{f, f}
	both[1-f.Way] = Fault{}
	var ways sync.WaitGroup
	ways.Go(func() { pass(ctx, cut, server, client, both[Requests]) })
	ways.Go(func() { pass(ctx, cut, client, server, both[Answers]) })
	ways.Wait()
}

// pass copies one direction, with its fault.
func pass(ctx context.Context, cut func(), dst, src net.Conn, f Fault) {
	if f.Kind == Cut && f.After == 0 {
		cut()
		return
	}
	buf := make([]byte, 4<<10)
	for passed := 0; ; {
		n, err := src.Read(buf)
		now, later := buf[:n], []byte(nil)
		if left := max(f.After-passed, 0); f.Kind != None && n > left {
			now, later = buf[:left], buf[left:n]
		}
		passed += n
		if _, err := dst.Write(now); err != nil {
			cut()
			return
		}
		switch {
		case f.Kind == Cut && passed >= f.After:
			cut()
			return
		case f.Kind == Delay && len(later) > 0:
			select {
			case <-time.After(f.Late):
			case <-ctx.Done():
				return
			}
			if _, err := dst.Write(later); err != nil {
				cut()
				return
			}
		}
		if err == io.EOF {
			dst.(*net.TCPConn).CloseWrite()
			return
		}
		if err != nil {
			cut()
			return
		}
	}
}
