package yardstick

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
)

// Command is the command of bench that runs a yardstick, see Serve.
const Command = "yardstick"

// Serve is what bench does in a process of a yardstick:
//
//	bench yardstick echo ADDR
//	bench yardstick net/rpc ADDR
//	bench yardstick keep PROGRAM ARGUMENTS
//
// It returns at the end of stdin, like a stage with -child.
func Serve(ctx context.Context, args []string, stdin io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process, at the latest
		io.Copy(io.Discard, stdin)
		cancel()
	}()
	serve := map[string]func(net.Conn){"echo": serveEcho, "net/rpc": newRPCServer()}
	if len(args) < 2 || args[0] != "keep" && serve[args[0]] == nil {
		return fmt.Errorf("%s needs a yardstick and an address: bench starts it by itself, use compare -against", Command)
	}
	if args[0] == "keep" {
		return keep(ctx, args[1:])
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	return serveConns(ctx, ln, serve[args[0]])
}

// serveConns serves each connection in a goroutine of its own, until ctx ends.
func serveConns(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	var conns sync.WaitGroup // each ends with its client or ctx
	defer conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		nc, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		conns.Go(func() {
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			serve(nc)
		})
	}
}

// keep runs a program until ctx ends. The program does not stop at the end of its own
// standard input, but keep does, so that it cannot outlive the process that started keep.
// The program has nothing on disk, so it can be killed.
func keep(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s has ended: %w", args[0], cmp.Or(err, errors.New("exit status 0")))
}
