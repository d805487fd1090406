package wire

import (
	"syscall"
	"unsafe"
)

var wsaPoll = syscall.NewLazyDLL("ws2_32.dll").NewProc("WSAPoll")

// arrived reports whether a read of this socket would return at once: with bytes, at the
// end of the connection, or with an error. A read itself would block, unless it is
// overlapped.
func arrived(socket uintptr) bool {
	fd := struct { // a WSAPOLLFD
		socket          uintptr
		events, happens int16
	}{socket: socket, events: 0x0100} // POLLRDNORM
	n, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&fd)), 1, 0)
	return n != 0
}
