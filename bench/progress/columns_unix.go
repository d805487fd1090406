//go:build unix

package progress

import (
	"os"
	"syscall"
	"unsafe"
)

// columns returns the width of a terminal, 0 if it does not say; false if f is not a terminal.
func columns(f *os.File) (n int, ok bool) {
	var size struct{ rows, columns, x, y uint16 } // a winsize
	_, _, err := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	return int(size.columns), err == 0
}
