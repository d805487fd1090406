package testbed

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// freeAddrs returns n different loopback addresses whose ports are free now. Their
// ports are below the ephemeral range, in which a client's socket could take one
// between now and the server's start.
func FreeAddrs(n int) ([]string, error) {
	const low, high = 20_000, 32_000
	var addrs []string
	taken := make(map[int]bool)
	for range 100 * n {
		port := low + rand.IntN(high-low)
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if taken[port] || !free(addr) {
			continue
		}
		taken[port] = true
		if addrs = append(addrs, addr); len(addrs) == n {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports on 127.0.0.1 between %d and %d", n, low, high)
}

func free(addr string) bool {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	ln.Close()
	return true
}
