package node

import (
	"errors"
	"net"
	"syscall"

	"lockstep/common/cluster"
)

// listen opens the two ports of a node.
func listen(self cluster.Node) (service, control net.Listener, err error) {
	if service, err = net.Listen("tcp", self.Addr); err != nil {
		return nil, nil, err
	}
	if control, err = net.Listen("tcp", self.Control); err != nil {
		service.Close()
		return nil, nil, err
	}
	return service, control, nil
}

// hint says what can be done about an error of listen, or "". Windows has numbers of
// its own for these errors.
func hint(err error) string {
	var errno syscall.Errno
	errors.As(err, &errno)
	switch errno {
	case syscall.EADDRINUSE, 10048:
		return ": is another server running there? stop it, or choose another port"
	case syscall.EADDRNOTAVAIL, 10049:
		return ": this machine does not have that address: correct it, or pass the -node that this machine is"
	case syscall.EACCES, 10013:
		return ": ports below 1024 may need more rights: choose one from 1024 to 32767"
	}
	return ""
}
