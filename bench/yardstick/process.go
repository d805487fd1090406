package yardstick

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
)

// yardstickCommand is the command by which this program starts itself as a yardstick.
const Command = "yardstick"

// beYardstick is what a process of a yardstick does:
//
//	bench yardstick echo ADDR
//	bench yardstick net/rpc ADDR
//	bench yardstick keep PROGRAM ARGUMENTS
//
// Like a stage with -child it stops at the end of its standard input.
func Serve(ctx context.Context, args []string, stdin io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process, at the latest
		io.Copy(io.Discard, stdin)
		cancel()
	}()
	if len(args) < 2 {
		return fmt.Errorf("bench starts %s by itself", Command)
	}
	if args[0] == "keep" {
		return keep(ctx, args[1:])
	}
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	if args[0] == "echo" {
		return serveConns(ctx, ln, serveEcho)
	}
	return serveConns(ctx, ln, newRPCServer().Serve)
}

// serveConns serves each connection in a goroutine of its own, until ctx ends.
func serveConns(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	var conns sync.WaitGroup // each ends when its client leaves, or ctx does
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

// keep runs a program that does not stop at the end of its own standard input, until
// ctx ends. So it cannot outlive the one that has started it, however that ends. It
// keeps nothing on disk, and can be killed.
func keep(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s has ended by itself: %w", args[0], err)
}
