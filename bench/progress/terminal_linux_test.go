package progress

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// A terminal says how wide it is; otherwise COLUMNS does, and otherwise it has 80 columns. One
// that is dumb is a log.
func TestTerminal(t *testing.T) {
	for _, test := range []struct {
		width         uint16
		columns, term string
		want          int
	}{
		{60, "100", "xterm", 60}, {120, "", "xterm", 120}, {0, "100", "xterm", 100}, {0, "", "xterm", 80}, {0, "wide", "", 80},
		{60, "", "dumb", 0},
	} {
		t.Setenv("TERM", test.term)
		t.Setenv("COLUMNS", test.columns)
		other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
		if err != nil {
			t.Skip(err)
		}
		defer other.Close()
		control := func(request uintptr, arg unsafe.Pointer) {
			if _, _, err := syscall.Syscall(syscall.SYS_IOCTL, other.Fd(), request, uintptr(arg)); err != 0 {
				t.Fatal(err)
			}
		}
		var unlock, number int32
		control(syscall.TIOCSPTLCK, unsafe.Pointer(&unlock))
		control(syscall.TIOCGPTN, unsafe.Pointer(&number))
		control(syscall.TIOCSWINSZ, unsafe.Pointer(&[4]uint16{24, test.width}))
		tty, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tty.Close()
		var l Line
		l.Open(tty, false)
		l.Say(strings.Repeat("x", 200))
		b := make([]byte, 1000)
		n, err := other.Read(b) // as far as it was drawn
		l.Stop()
		want := "\r" + strings.Repeat("x", max(test.want-1, 0)) + "\x1b[K\r"
		if test.want == 0 {
			want = "bench: " + strings.Repeat("x", 200) + "\r\n"
		}
		if got := string(b[:n]); got != want || err != nil {
			t.Errorf("%+v: wrote %q, want %q; error %v", test, got, want, err)
		}
	}
}
