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
	var addrs []string
	for range 100 * n {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))
		if !slices.Contains(addrs, addr) && !Taken(addr) {
			addrs = append(addrs, addr)
		}
		if len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("fewer than %d free ports on 127.0.0.1 from 10000 to 31999: stop some servers", n)
}

// Taken reports whether an address cannot be listened on.
func Taken(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		ln.Close()
	}
	return err != nil
}
