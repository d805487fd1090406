//go:build unix

package main

import (
	"os"
	"syscall"
)

// apart puts a process into a group of its own, so that signals from the terminal
// pass it by.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// interrupt asks a process that stands apart to end, and those that it has started.
func interrupt(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGINT) }
