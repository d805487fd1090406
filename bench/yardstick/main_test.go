package yardstick

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/bench/benchtest"
)

// The program that starts a yardstick is also the yardstick: here, the test binary.
// Under another name it is a redis-server that a test has put into PATH.
func TestMain(m *testing.M) {
	switch {
	case strings.HasPrefix(filepath.Base(os.Args[0]), "redis-server"):
		benchtest.FaultyMain()
		os.Exit(1)
	case len(os.Args) > 1 && os.Args[1] == Command:
		if err := Serve(context.Background(), os.Args[2:], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}
