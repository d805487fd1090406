package node

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
)

// FreeAddrs returns n different loopback addresses whose ports are free now, for servers
// that are about to start. The ports are below the ephemeral range, so that no client's
// socket takes one before a server does.
func FreeAddrs(n int) ([]string, error) {
	const low, high = 10_000, 32_000
	var addrs []string
	for range 100 * n {
		addr := fmt.Sprintf("127.0.0.1:%d", low+rand.IntN(high-low))
		if !slices.Contains(addrs, addr) && !Taken(addr) {
			addrs = append(addrs, addr)
		}
		if len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d free ports on 127.0.0.1 from %d to %d: stop some servers", n, low, high-1)
}

// Taken reports whether an address cannot be listened on.
func Taken(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		ln.Close()
	}
	return err != nil
}
