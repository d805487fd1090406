//go:build unix

package testbed

import (
	"os"
	"syscall"
)

// newGroup puts a process into its own group, out of reach of signals from the terminal.
func newGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a process started with newGroup, and the processes that it has started.
func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }
