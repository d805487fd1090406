package testbed

import (
	"os"
	"syscall"
)

// newGroup puts a process into its own group, out of reach of Ctrl-C in the terminal.
func newGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// killGroup kills a process. The processes that it has started end by themselves.
func killGroup(p *os.Process) error { return p.Kill() }
