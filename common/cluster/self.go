package cluster

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// FindSelf returns the number of the process that this one is in a group, "nodes" or
// "clients": the only one, or the only one whose address in addrs is an address of this
// machine, which has the addresses local. Host names are not looked up. If none or several
// qualify, the error says to pass the group's flag, and lists the addresses.
func FindSelf(group string, addrs []string, local []net.Addr) (int, error) {
	var mine []int
	var all []string
	for i, addr := range addrs {
		host, _, _ := net.SplitHostPort(addr)
		ip := net.ParseIP(host) // nil for a name
		isIP := func(a net.Addr) bool { return strings.HasPrefix(a.String(), ip.String()+"/") }
		if len(addrs) == 1 || host == "" || ip.IsUnspecified() || IsLoopback(host) || slices.ContainsFunc(local, isIP) {
			mine = append(mine, i)
		}
		all = append(all, fmt.Sprintf("%d is %s", i, addr))
	}
	if len(mine) == 1 {
		return mine[0], nil
	}
	one := strings.TrimSuffix(group, "s")
	return 0, fmt.Errorf("cannot tell which %s this is: %d of %d %s have an address of this machine; pass -%s N, where %s",
		one, len(mine), len(all), group, one, strings.Join(all, ", "))
}
