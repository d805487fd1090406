package progress

import (
	"os"
	"syscall"
	"unsafe"
)

var screenInfo = syscall.NewLazyDLL("kernel32.dll").NewProc("GetConsoleScreenBufferInfo")

// columns returns the width of a console; false if f is none.
func columns(f *os.File) (n int, ok bool) {
	var info struct{ width, height, x, y, attributes, left, top, right, bottom, maxWidth, maxHeight int16 }
	found, _, _ := screenInfo.Call(f.Fd(), uintptr(unsafe.Pointer(&info)))
	return int(info.right-info.left) + 1, found != 0
}
