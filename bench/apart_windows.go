package main

import (
	"os"
	"syscall"
)

// apart puts a process into a group of its own, so that Ctrl-C passes it by.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// interrupt ends a process, which cannot be asked to here.
func interrupt(p *os.Process) error { return p.Kill() }
