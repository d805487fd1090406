package progress

import (
	"os"
	"syscall"
	"unsafe"
)

var kernel = syscall.NewLazyDLL("kernel32.dll")
var setMode, screenInfo = kernel.NewProc("SetConsoleMode"), kernel.NewProc("GetConsoleScreenBufferInfo")

// columns returns the width of a console; false if f is not a console that knows escapes.
func columns(f *os.File) (n int, ok bool) {
	var mode uint32
	if syscall.GetConsoleMode(syscall.Handle(f.Fd()), &mode) != nil {
		return 0, false
	}
	const escapes = 0x0004 // ENABLE_VIRTUAL_TERMINAL_PROCESSING
	set, _, _ := setMode.Call(f.Fd(), uintptr(mode|escapes))
	info := struct{ width, height, x, y, attributes, left, top, right, bottom, maxWidth, maxHeight int16 }{right: -1}
	screenInfo.Call(f.Fd(), uintptr(unsafe.Pointer(&info)))
	return int(info.right-info.left) + 1, set != 0
}
