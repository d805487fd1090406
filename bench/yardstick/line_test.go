package yardstick

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"lockstep/bench/load"
	"lockstep/common/client"
	"lockstep/common/wire"
)

var (
	testGet    = wire.Op{Kind: wire.Get, Key: "k"}
	testPut    = wire.Op{Kind: wire.Put, Key: "k", Value: []byte("value")}
	testDelete = wire.Op{Kind: wire.Delete, Key: "k"}
)

func TestCommands(t *testing.T) {
	for _, test := range []struct {
		name string
		pipelined
		want string
	}{
		{"redis", pipelined{appendRedis, readRedis},
			"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" + "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n" + "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"},
		{"memcached", pipelined{appendMemcached, readMemcached}, "mg k v\r\n" + "ms k 5\r\nvalue\r\n" + "md k\r\n"},
	} {
		got, err := test.AppendRequest(nil, []wire.Op{testGet, testPut, testDelete})
		if err != nil || string(got) != test.want {
			t.Errorf("%s: the request is %q, %v, want %q", test.name, got, err, test.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	const large = "99999999999"
	redis, memcached := pipelined{appendRedis, readRedis}, pipelined{appendMemcached, readMemcached}
	longest := strings.Repeat("v", wire.MaxValue)
	for _, test := range []struct {
		dialect load.Dialect
		op      wire.Op
		answer  string
		status  wire.Status
		value   string
		err     string // that loses the line; "refused: ..." does not
	}{
		{redis, testGet, "$5\r\nvalue\r\n", wire.Found, "value", ""},
		{redis, testGet, "$0\r\n\r\n", wire.Found, "", ""},
		{redis, testGet, "$2\r\n\r\n\r\n", wire.Found, "\r\n", ""},
		{redis, testGet, "$16384\r\n" + longest + "\r\n", wire.Found, longest, ""},
		{redis, testGet, "$-1\r\n", wire.Missing, "", ""},
		{redis, testPut, "+OK\r\n", wire.Replaced, "", ""},
		{redis, testDelete, ":1\r\n", wire.Deleted, "", ""},
		{redis, testDelete, ":0\r\n", wire.Missing, "", ""},
		{redis, testGet, "-WRONGTYPE it is a list\r\n", 0, "", "refused: the server says: WRONGTYPE it is a list"},
		{redis, testPut, "-\r\n", 0, "", "refused: the server says: "},
		{redis, testGet, "$" + large + "\r\n", 0, "", `a value of "99999999999" bytes is announced, and 16384 are the most`},
		{redis, testGet, "$16385\r\n" + longest + "v\r\n", 0, "", "16385"},
		{redis, testGet, "$-2\r\n", 0, "", "-2"},
		{redis, testGet, "$\r\n", 0, "", `""`},
		{redis, testGet, "$6\r\nvalue\r\n", 0, "", "unexpected EOF"},
		{redis, testGet, "$4\r\nvalue\r\n", 0, "", "makes no sense"},
		{redis, testGet, "$5\r\nval", 0, "", "unexpected EOF"},
		{redis, testGet, "$5\r\n", 0, "", "unexpected EOF"},
		{redis, testGet, "$5\nvalue\r\n", 0, "", "makes no sense"},
		{redis, testGet, "+OK\r\n", 0, "", `makes no sense: "+OK"`},
		{redis, testPut, "$-1\r\n", 0, "", "makes no sense"},
		{redis, testDelete, ":2\r\n", 0, "", "makes no sense"},
		{redis, testGet, "\r\n", 0, "", "makes no sense"},
		{redis, testGet, "\n", 0, "", "makes no sense"},
		{redis, testGet, "", 0, "", "unexpected EOF"},
		{redis, testGet, strings.Repeat("x", 1<<20), 0, "", "makes no sense"},

		{memcached, testGet, "VA 5\r\nvalue\r\n", wire.Found, "value", ""},
		{memcached, testGet, "VA 5 f0 t-1\r\nvalue\r\n", wire.Found, "value", ""},
		{memcached, testGet, "VA 0\r\n\r\n", wire.Found, "", ""},
		{memcached, testGet, "EN\r\n", wire.Missing, "", ""},
		{memcached, testPut, "HD\r\n", wire.Replaced, "", ""},
		{memcached, testPut, "HD \r\n", wire.Replaced, "", ""},
		{memcached, testDelete, "HD\r\n", wire.Deleted, "", ""},
		{memcached, testDelete, "NF\r\n", wire.Missing, "", ""},
		{memcached, testPut, "SERVER_ERROR out of memory storing object\r\n", 0, "", "refused: the server says: out of memory storing object"},
		{memcached, testPut, "CLIENT_ERROR bad data chunk\r\n", 0, "", "makes no sense"},
		{memcached, testPut, "NS\r\n", 0, "", "makes no sense"},
		{memcached, testGet, "ERROR\r\n", 0, "", `makes no sense: "ERROR"`},
		{memcached, testGet, "HD\r\n", 0, "", "makes no sense"},
		{memcached, testGet, "VA\r\n", 0, "", `""`},
		{memcached, testGet, "VA five\r\nvalue\r\n", 0, "", `"five"`},
		{memcached, testGet, "VA " + large + "\r\n", 0, "", large},
		{memcached, testGet, "VA 6\r\nvalue\r\n", 0, "", "unexpected EOF"},
		{memcached, testGet, "VA 4\r\nvalue\r\n", 0, "", "makes no sense"},
	} {
		in := bufio.NewReaderSize(strings.NewReader(test.answer), load.LineBuffer)
		results, err := test.dialect.ReadAnswers(in, []wire.Op{test.op})
		want, refused := strings.CutPrefix(test.err, "refused: ")
		switch {
		case test.err == "" && (err != nil || len(results) != 1 || results[0].Status != test.status || string(results[0].Value) != test.value || in.Buffered() > 0):
			t.Errorf("%v, answered %.60q: %v, %v, want %v; %d bytes are left", test.op.Kind, test.answer, results, err, test.status, in.Buffered())
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), want) || errors.As(err, new(load.Refusal)) != refused || results != nil):
			t.Errorf("%v, answered %.60q: %v, error %v, want %q", test.op.Kind, test.answer, results, err, test.err)
		}
	}
}

// scripted is a line to a server that answers the next request with the next text of
// the script, whatever it is, and at its end hangs up.
func scripted(t *testing.T, d load.Dialect, script ...string) load.Asker {
	t.Helper()
	addr, _ := serveHere(t, func(nc net.Conn) {
		request := make([]byte, 1<<10)
		for _, answer := range script {
			if _, err := nc.Read(request); err != nil {
				return
			}
			io.WriteString(nc, answer)
		}
	})
	a, err := load.DialLine(d)(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// A refusal leaves the line as it was. Whatever else goes wrong ends it: what comes
// after it would be taken for the next answer.
func TestLineErrors(t *testing.T) {
	redis := pipelined{appendRedis, readRedis}
	a := scripted(t, redis, "-ERR no\r\n$1\r\na\r\n", "$1\r\nb\r\n", "$1\r\n", "$1\r\nc\r\n")
	if _, err := a.Do(t.Context(), testGet, testGet); !errors.As(err, new(load.Refusal)) {
		t.Errorf("a refusal: error %v", err)
	}
	if r, err := a.Do(t.Context(), testGet); err != nil || string(r[0].Value) != "b" {
		t.Errorf("after a refusal: %v, %v, want the second answer", r, err)
	}
	a = scripted(t, redis, "garbage\r\n$1\r\na\r\n", "$1\r\nb\r\n")
	if _, err := a.Do(t.Context(), testGet); !errors.Is(err, client.ErrUnknown) || !strings.Contains(err.Error(), `"garbage"`) {
		t.Errorf("garbage: error %v, want unknown, and why", err)
	}
	if _, err := a.Do(t.Context(), testGet); !errors.Is(err, client.ErrDown) || !strings.Contains(err.Error(), `"garbage"`) {
		t.Errorf("after garbage: error %v, want down, and why", err)
	}
	a = scripted(t, redis, "$5\r\nval")
	if _, err := a.Do(t.Context(), testGet); !errors.Is(err, client.ErrUnknown) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("closed in the middle: error %v", err)
	}
	a = scripted(t, redis, "", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Do(ctx, testGet); err == nil {
		t.Error("a call that is given up is answered")
	}
}

// As many requests are in flight as there are calls, and each gets its own answer:
// this server answers nothing before it has seen them all.
func TestLineDepth(t *testing.T) {
	const depth = 16
	addr, _ := serveHere(t, func(nc net.Conn) {
		in := bufio.NewReader(nc)
		var keys []string
		for len(keys) < depth {
			words, err := readWords(in)
			if err != nil {
				return
			}
			keys = append(keys, words[1])
		}
		for _, key := range keys {
			io.WriteString(nc, "$"+strconv.Itoa(len(key))+"\r\n"+key+"\r\n")
		}
		in.ReadByte() // until the client leaves
	})
	a, err := load.DialLine(pipelined{appendRedis, readRedis})(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var calls sync.WaitGroup
	for i := range depth {
		calls.Go(func() {
			key := strconv.Itoa(i)
			if r, err := a.Do(t.Context(), wire.Op{Kind: wire.Get, Key: key}); err != nil || string(r[0].Value) != key {
				t.Errorf("call %s was answered %v, error %v: another's answer, or none", key, r, err)
			}
		})
	}
	calls.Wait()
}

// A server that takes no request before its answer to the last one is read holds up
// nobody, however many calls there are: there is no buffer between its end and this one.
func TestLineWithoutBuffers(t *testing.T) {
	mine, its := net.Pipe()
	var server sync.WaitGroup // ends with the connection
	server.Go(func() { serveUnbuffered(its) })
	defer server.Wait()
	l := load.NewLine(pipelined{appendRedis, readRedis}, mine, 0)
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			for range 20 {
				if r, err := l.Do(ctx, testPut, testGet); err != nil || string(r[1].Value) != "value" {
					t.Errorf("answered %v, error %v", r, err)
					return
				}
			}
		})
	}
	calls.Wait()
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		version func(context.Context, string) (string, error)
		answer  string
		want    string
		err     string
	}{
		{redisVersion, "$29\r\n# Server\r\nredis_version:6.2\r\n\r\n", "6.2", ""},
		{redisVersion, "$2\r\nhi\r\n", "", "which version"},
		{redisVersion, "-LOADING Redis is loading\r\n", "", "the server says: LOADING"},
		{redisVersion, "$99999999\r\n", "", "99999999"},
		{redisVersion, "HTTP/1.1 400 Bad Request\r\n", "", "makes no sense"},
		{redisVersion, "", "", "unexpected EOF"},
		{memcachedVersion, "VERSION 1.6.18\r\nMN\r\n", "1.6.18", ""},
		{memcachedVersion, "VERSION 1.5.22\r\nERROR\r\n", "1.5.22", "memcached 1.5.22 does not know meta commands"},
		{memcachedVersion, "VERSION 1.5.22\r\n", "1.5.22", "unexpected EOF"},
		{memcachedVersion, "ERROR\r\n", "", "makes no sense"},
	} {
		addr, _ := serveHere(t, func(nc net.Conn) {
			nc.Read(make([]byte, 1<<10))
			io.WriteString(nc, test.answer)
		})
		got, err := test.version(t.Context(), addr)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: version %q, error %v, want %q, %q", test.answer, got, err, test.want, test.err)
		}
	}
}

// serveUnbuffered answers requests of a put and a get. It reads a request only after the
// client has read the answer to the one before.
func serveUnbuffered(nc net.Conn) {
	for in := bufio.NewReader(iotest.OneByteReader(nc)); ; {
		for range 2 {
			if _, err := readWords(in); err != nil {
				return
			}
		}
		if _, err := io.WriteString(nc, "+OK\r\n$5\r\nvalue\r\n"); err != nil {
			return
		}
	}
}

// readWords reads a command in Redis's protocol, without line ends in its words.
func readWords(in *bufio.Reader) (words []string, err error) {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	for range n {
		var size int
		var word string
		if _, err := fmt.Fscanf(in, "$%d\r\n%s\r\n", &size, &word); err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return words, nil
}
