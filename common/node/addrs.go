package node

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"lockstep/common/cluster"
)

// findSelf returns the number of the node that this process is: the only node, or the
// only one whose Addr is an address of this machine. Host names are not looked up. If no
// node or several nodes qualify, the error says to pass -node, and lists the nodes.
func findSelf(nodes []cluster.Node, local []net.Addr) (int, error) {
	var mine []int
	var all []string
	for i, n := range nodes {
		host, _, _ := net.SplitHostPort(n.Addr)
		ip := net.ParseIP(host) // nil for a name
		isIP := func(a net.Addr) bool { return strings.HasPrefix(a.String(), ip.String()+"/") }
		if len(nodes) == 1 || host == "" || ip.IsUnspecified() || cluster.IsLoopback(host) || slices.ContainsFunc(local, isIP) {
			mine = append(mine, i)
		}
		all = append(all, fmt.Sprintf("%d is %s", i, n.Addr))
	}
	if len(mine) == 1 {
		return mine[0], nil
	}
	return 0, fmt.Errorf("cannot tell which node this is: %d of %d nodes have an address of this machine; pass -node N, where %s",
		len(mine), len(all), strings.Join(all, ", "))
}

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
