package cluster

import (
	"net"
	"strings"
	"testing"
)

func TestFindSelf(t *testing.T) {
	var local []net.Addr
	for _, cidr := range []string{"127.0.0.1/8", "10.0.0.7/24", "fd00::7/64"} {
		ip, network, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		local = append(local, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	for nodes, want := range map[string]int{ // -1: an error
		"192.0.2.1:1":                         0, // the only node
		"10.0.0.6:1 10.0.0.7:1 10.0.0.8:1":    1,
		"10.0.0.6:1 [fd00:0::7]:1":            1,
		"10.0.0.6:1 127.0.0.1:1":              1,
		"10.0.0.6:1 localhost:1":              1,
		"10.0.0.6:1 :1":                       1,
		"127.0.0.1:1 127.0.0.1:2 127.0.0.1:3": -1,
		"10.0.0.7:1 0.0.0.0:2":                -1,
		"10.0.0.6:1 10.0.0.8:1":               -1, // 10.0.0.8 is in the network, but not this machine
		"here.example:1 there.example:1":      -1,
	} {
		got, err := FindSelf("nodes", strings.Fields(nodes), local)
		if got != max(want, 0) || (err == nil) != (want >= 0) || err != nil && !strings.Contains(err.Error(), "which node this is") || err != nil && !strings.Contains(err.Error(), "pass -node N") {
			t.Errorf("self of %s = %d, %v, want %d, or an error that says -node", nodes, got, err, want)
		}
	}
}
