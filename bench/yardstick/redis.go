package yardstick

import (
	"bufio"
	"context"
	"errors"
	"strconv"
	"strings"

	"lockstep/bench/load"
	"lockstep/common/cluster"
	"lockstep/common/wire"
)

// newRedis returns Redis, without persistence. A batch is a pipeline of GET, SET and DEL,
// which is what its users send for throughput. It is not an atomic step, as with MULTI.
func newRedis(w cluster.Workload) *Yardstick {
	return &Yardstick{
		Name: "redis", program: "redis-server",
		args: func(host, port, dir string) []string {
			return []string{"--bind", host, "--port", port, "--protected-mode", "yes", "--dir", dir,
				"--save", "", "--appendonly", "no", "--maxclients", strconv.Itoa(max(10_000, 2*w.Connections))}
		},
		noCAS:   "Redis would need a script for it",
		codec:   redisCodec,
		version: redisVersion,
	}
}

func redisCodec(in *bufio.Reader) load.Codec { return commands{in, appendRedis, readRedis} }

// appendRedis appends a command in Redis' protocol, RESP.
func appendRedis(dst []byte, op *wire.Op) []byte {
	switch op.Kind {
	case wire.Get:
		return appendBulk(append(dst, "*2\r\n$3\r\nGET\r\n"...), op.Key)
	case wire.Put:
		return appendBulk(appendBulk(append(dst, "*3\r\n$3\r\nSET\r\n"...), op.Key), op.Value)
	default:
		return appendBulk(append(dst, "*2\r\n$3\r\nDEL\r\n"...), op.Key)
	}
}

func appendBulk[T string | []byte](dst []byte, text T) []byte {
	dst = strconv.AppendInt(append(dst, '$'), int64(len(text)), 10)
	dst = append(append(dst, "\r\n"...), text...)
	return append(dst, "\r\n"...)
}

func readRedis(in *bufio.Reader, op *wire.Op) (wire.Result, error) {
	text, err := readLine(in)
	if err != nil {
		return wire.Result{}, err
	}
	switch is := string(text); {
	case is == "":
	case is[0] == '-':
		return wire.Result{}, refusal(is[1:])
	case op.Kind == wire.Put && is == "+OK":
		return wire.Result{Status: wire.Replaced}, nil // or Created: it does not say
	case op.Kind == wire.Delete && is == ":1":
		return wire.Result{Status: wire.Deleted}, nil
	case op.Kind == wire.Delete && is == ":0", op.Kind == wire.Get && is == "$-1":
		return wire.Result{Status: wire.Missing}, nil
	case op.Kind == wire.Get && is[0] == '$':
		value, err := readValue(in, text[1:], wire.MaxValue)
		return wire.Result{Status: wire.Found, Value: value}, err
	}
	return wire.Result{}, malformed(text)
}

func redisVersion(ctx context.Context, addr string) (string, error) {
	return exchange(ctx, addr, "*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n", func(in *bufio.Reader) (string, error) {
		text, err := readLine(in)
		switch {
		case err != nil:
			return "", err
		case len(text) > 0 && text[0] == '-':
			return "", refusal(string(text[1:]))
		case len(text) == 0 || text[0] != '$':
			return "", malformed(text)
		}
		info, err := readValue(in, text[1:], wire.MaxFrame)
		if err != nil {
			return "", err
		}
		_, version, ok := strings.Cut(string(info), "redis_version:")
		if !ok {
			return "", errors.New("the server does not give a version of Redis")
		}
		version, _, _ = strings.Cut(version, "\r\n")
		return version, nil
	})
}
