package testbed

import (
	"os"
	"syscall"
)

// apart puts a process into a group of its own, so that Ctrl-C passes it by.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// killApart ends a process. Those that it has started end by themselves.
func killApart(p *os.Process) error { return p.Kill() }
