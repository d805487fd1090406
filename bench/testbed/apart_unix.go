//go:build unix

package testbed

import (
	"os"
	"syscall"
)

// apart puts a process into a group of its own, so that signals from the terminal
// pass it by.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killApart ends a process that stands apart, and those that it has started.
func killApart(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }
