package yardstick

import (
	"bufio"
	"errors"
	"strings"
	"testing"

	"lockstep/bench/load"
	"lockstep/common/wire"
)

var (
	testGet    = wire.Op{Kind: wire.Get, Key: "k"}
	testPut    = wire.Op{Kind: wire.Put, Key: "k", Value: []byte("value")}
	testDelete = wire.Op{Kind: wire.Delete, Key: "k"}
)

func TestCommands(t *testing.T) {
	for _, test := range []struct {
		name  string
		codec func(*bufio.Reader) load.Codec
		want  string
	}{
		{"redis", redis.codec,
			"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" + "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n" + "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"},
		{"memcached", memcached.codec, "mg k v\r\n" + "ms k 5\r\nvalue\r\n" + "md k\r\n"},
	} {
		got, err := test.codec(nil).Append(nil, 1, []wire.Op{testGet, testPut, testDelete})
		if err != nil || string(got) != test.want {
			t.Errorf("%s: the request is %q, %v, want %q", test.name, got, err, test.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	longest := strings.Repeat("v", wire.MaxValue)
	for _, test := range []struct {
		*dialect
		op     wire.Op
		answer string
		status wire.Status
		value  string
		err    string // that ends the connection; "refused: ..." does not
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
		{redis, testGet, "$99999999999\r\n", 0, "", "99999999999"},
		{redis, testGet, "$16385\r\n" + longest + "v\r\n", 0, "", "16385"},
		{redis, testGet, "$-2\r\n", 0, "", "-2"},
		{redis, testGet, "$\r\n", 0, "", `"$"`},
		{redis, testGet, "$4\r\nvalue\r\n", 0, "", "malformed answer"},
		{redis, testGet, "$5\r\nval", 0, "", "EOF"},
		{redis, testGet, "$5\nvalue\r\n", 0, "", "malformed answer"},
		{redis, testGet, "+OK\r\n", 0, "", `malformed answer: "+OK"`},
		{redis, testPut, "$-1\r\n", 0, "", "malformed answer"},
		{redis, testGet, "", 0, "", "EOF"},
		{redis, testGet, strings.Repeat("x", 1<<20), 0, "", "malformed answer"},

		{memcached, testGet, "VA 5\r\nvalue\r\n", wire.Found, "value", ""},
		{memcached, testGet, "VA 5 f0 t-1\r\nvalue\r\n", wire.Found, "value", ""},
		{memcached, testGet, "EN\r\n", wire.Missing, "", ""},
		{memcached, testPut, "HD\r\n", wire.Replaced, "", ""},
		{memcached, testPut, "HD \r\n", wire.Replaced, "", ""},
		{memcached, testDelete, "HD\r\n", wire.Deleted, "", ""},
		{memcached, testDelete, "NF\r\n", wire.Missing, "", ""},
		{memcached, testPut, "SERVER_ERROR out of memory storing object\r\n", 0, "", "refused: the server says: out of memory storing object"},
		{memcached, testPut, "CLIENT_ERROR bad data chunk\r\n", 0, "", "malformed answer"},
		{memcached, testGet, "ERROR\r\n", 0, "", `malformed answer: "ERROR"`},
		{memcached, testGet, "VA five\r\nvalue\r\n", 0, "", `"VA five"`},
	} {
		in := bufio.NewReaderSize(strings.NewReader(test.answer), bufferSize)
		_, results, err := test.codec(in).Read([]wire.Op{test.op})
		want, refused := strings.CutPrefix(test.err, "refused: ")
		switch {
		case test.err == "" && (err != nil || len(results) != 1 || results[0].Status != test.status || string(results[0].Value) != test.value || in.Buffered() > 0):
			t.Errorf("%v, answered %.60q: %v, %v, want %v; %d bytes are left", test.op.Kind, test.answer, results, err, test.status, in.Buffered())
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), want) || errors.As(err, new(load.Refusal)) != refused):
			t.Errorf("%v, answered %.60q: %v, error %v, want %q", test.op.Kind, test.answer, results, err, test.err)
		}
	}
	// A refusal of one operation leaves nothing that could be taken for the next answer.
	in := bufio.NewReader(strings.NewReader("-ERR no\r\n$1\r\na\r\n"))
	if _, results, err := redis.codec(in).Read([]wire.Op{testGet, testGet}); !errors.As(err, new(load.Refusal)) || results != nil || in.Buffered() > 0 {
		t.Errorf("one of two refused: results %v, error %v; %d bytes are left", results, err, in.Buffered())
	}
}

func TestVersions(t *testing.T) {
	for _, test := range []struct {
		version           func(*bufio.Reader) (string, error)
		answer, want, err string
	}{
		{redisVersion, "$29\r\n# Server\r\nredis_version:6.2\r\n\r\n", "6.2", ""},
		{redisVersion, "$2\r\nhi\r\n", "", "a version of Redis"},
		{redisVersion, "-LOADING Redis is loading\r\n", "", "the server says: LOADING"},
		{redisVersion, "$99999999\r\n", "", "99999999"},
		{redisVersion, "HTTP/1.1 400 Bad Request\r\n", "", "malformed answer"},
		{redisVersion, "", "", "EOF"},
		{memcachedVersion, "VERSION 1.6.18\r\nMN\r\n", "1.6.18", ""},
		{memcachedVersion, "VERSION 1.5.22\r\nERROR\r\n", "1.5.22", "memcached 1.5.22 does not know meta commands"},
		{memcachedVersion, "VERSION 1.5.22\r\n", "1.5.22", "EOF"},
		{memcachedVersion, "ERROR\r\n", "", "malformed answer"},
	} {
		got, err := test.version(bufio.NewReader(strings.NewReader(test.answer)))
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: version %q, error %v, want %q, %q", test.answer, got, err, test.want, test.err)
		}
	}
}
