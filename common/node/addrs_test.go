package node

import (
	"fmt"
	"net"
	"slices"
	"testing"
)

func TestFreeAddrs(t *testing.T) {
	addrs, err := FreeAddrs(6)
	if slices.Sort(addrs); err != nil || len(slices.Compact(slices.Clone(addrs))) != 6 {
		t.Errorf("the addresses are %v, error %v, want 6 different ones", addrs, err)
	}
	for _, addr := range addrs {
		var port int
		if _, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port); err != nil || port < 1024 || port > 32767 || Taken(addr) {
			t.Errorf("%s is not free, on loopback, below the ephemeral range", addr)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if !Taken(ln.Addr().String()) {
		t.Errorf("%v is not taken", ln.Addr())
	}
}
