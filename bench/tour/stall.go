package tour

import (
	"context"
	"net"
	"time"

	"lockstep/common/cluster"
	"lockstep/common/control"
	"lockstep/common/wire"
)

// stall is a client that sends half a request, stalls, sends the rest, reads the answer and
// leaves, again and again until ctx ends.
func stall(ctx context.Context, cfg cluster.Config, length time.Duration) {
	for ctx.Err() == nil {
		if stallOnce(ctx, cfg, length) != nil {
			control.Pause(ctx, time.Millisecond)
		}
	}
}

func stallOnce(ctx context.Context, cfg cluster.Config, length time.Duration) error {
	request, _ := wire.AppendRequest(nil, &wire.Request{Ops: []wire.Op{{Kind: wire.Get, Key: "stall"}}}) // which is valid
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", cfg.Nodes[0].Addr)
	if err != nil {
		return err
	}
	c, err := wire.Open(ctx, nc, wire.Hello{Purpose: wire.Service, Group: "nodes",
		Fingerprint: cfg.Fingerprint(), Secret: cfg.Secret}, wire.Limits{})
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, c.Stop)()
	half := len(request) / 2
	nc.Write(request[:half])
	control.Pause(ctx, length)
	nc.Write(request[half:])
	c.ReadResponse(new(wire.Response)) // fails if a write failed
	return c.Err()
}
