package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"lockstep/common/client"
	"lockstep/common/wire"
)

// A textCodec sends "NUMBER KEY" for a get and reads "NUMBER VALUE", each on a line.
type textCodec struct{ *bufio.Reader }

func (c textCodec) Append(dst []byte, number uint64, ops []wire.Op) ([]byte, error) {
	return fmt.Appendf(dst, "%d %s\n", number, ops[0].Key), nil
}

func (c textCodec) Read([]wire.Op) (number uint64, results []wire.Result, err error) {
	line, err := c.ReadString('\n')
	if err != nil {
		return 0, nil, err
	}
	first, value, _ := strings.Cut(strings.TrimSpace(line), " ")
	number, err = strconv.ParseUint(first, 10, 64)
	return number, []wire.Result{{Status: wire.Found, Value: []byte(value)}}, err
}

// newTestStream returns a stream to serve, with no buffers between the two ends: a write
// waits until the other end reads.
func newTestStream(t *testing.T, serve func(net.Conn)) *stream {
	mine, its := net.Pipe()
	var server sync.WaitGroup
	server.Go(func() {
		defer its.Close()
		serve(its)
	})
	t.Cleanup(func() {
		mine.Close()
		server.Wait()
	})
	return &stream{codec: textCodec{bufio.NewReader(mine)}, nc: mine, idleSince: time.Now()}
}

// getAll makes this many calls at the same time, and fails the test unless each gets its own answer.
func getAll(t *testing.T, s *stream, calls, times int) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for i := range calls {
		wg.Go(func() {
			for n := range times {
				key := fmt.Sprintf("%d-%d", i, n)
				if r, err := s.do(ctx, []wire.Op{{Kind: wire.Get, Key: key}}); err != nil || string(r[0].Value) != key {
					t.Errorf("get %s = %v, error %v", key, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A server that takes no request before its last answer is read does not block calls, and
// answers may come in any order.
func TestStreamAnswers(t *testing.T) {
	for together, times := range map[int]int{1: 20, 50: 1} { // requests that are read before the answers are sent; of each call
		getAll(t, newTestStream(t, func(nc net.Conn) {
			in := bufio.NewReader(iotest.OneByteReader(nc))
			for {
				var lines []string
				for range together {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					lines = append(lines, line)
				}
				slices.Reverse(lines)
				io.WriteString(nc, strings.Join(lines, ""))
			}
		}), 50, times)
	}
}

// A slowConn's writes return when they are released.
type slowConn struct {
	net.Conn
	release chan struct{}
}

func (c slowConn) Write(b []byte) (int, error) {
	defer func() { <-c.release }()
	return c.Conn.Write(b)
}

// A call that is answered during its own write also sends the request of the call that reads.
func TestStreamWritesForTheReader(t *testing.T) {
	received, answer := make(chan bool), make(chan bool)
	s := newTestStream(t, func(nc net.Conn) {
		in := bufio.NewReader(nc)
		first, _ := in.ReadString('\n')
		received <- true
		<-answer
		io.WriteString(nc, first)
		second, _ := in.ReadString('\n')
		io.WriteString(nc, second)
	})
	release := make(chan struct{})
	s.nc = slowConn{s.nc, release}
	until := func(reached func() bool) {
		for ok := false; !ok; runtime.Gosched() {
			s.mu.Lock()
			ok = reached()
			s.mu.Unlock()
		}
	}
	var calls sync.WaitGroup
	calls.Go(func() { getAll(t, s, 1, 1) })
	<-received
	calls.Go(func() { getAll(t, s, 1, 1) })
	until(func() bool { return len(s.unsent) > 0 })
	answer <- true
	until(func() bool { return len(s.inFlight) == 1 })
	close(release)
	calls.Wait()
}

func TestStreamLost(t *testing.T) {
	for _, test := range []struct {
		name   string
		taken  int // bytes of the request, which has 4
		answer string
		want   error
	}{
		{"a request that was not sent whole", 3, "", errNotApplied},
		{"a request without an answer", 4, "", client.ErrUnknown},
		{"an answer to another request", 4, "7 k\n", client.ErrUnknown},
		{"a malformed answer", 4, "k\n", client.ErrUnknown},
	} {
		s := newTestStream(t, func(nc net.Conn) {
			io.ReadFull(nc, make([]byte, test.taken))
			if test.answer != "" { // an empty write would block
				io.WriteString(nc, test.answer)
			}
		})
		ops := []wire.Op{put("k")}
		if _, err := s.do(t.Context(), ops); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
		if _, err := s.do(t.Context(), ops); !errors.Is(err, errNotApplied) || s.good() {
			t.Errorf("after %s: error %v, good %v", test.name, err, s.good())
		}
	}
}
