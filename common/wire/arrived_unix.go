//go:build !windows

package wire

import "syscall"

// arrived reports whether a read of this socket would return at once: with bytes, at the
// end of the connection, or with an error. Sockets of package net do not block.
func arrived(socket uintptr) bool {
	_, _, err := syscall.Recvfrom(int(socket), make([]byte, 1), syscall.MSG_PEEK)
	return err != syscall.EAGAIN
}
