package yardstick

import (
	"bufio"
	"fmt"
	"strconv"

	"lockstep/bench/load"
	"lockstep/common/wire"
)

// A dialect is a protocol in which each operation is a command with an answer of its own, in
// order. A batch is a pipeline of commands and not an atomic step.
type dialect struct {
	append  func(dst []byte, op *wire.Op) []byte
	answers [wire.Delete + 1]map[string]wire.Status // to each kind of operation, without a value
	value   string                                  // starts the answer to a get, before the value's length
	refusal string                                  // starts an answer that refuses the command, before the reason
}

func (d *dialect) codec(in *bufio.Reader) load.Codec { return commands{in, d} }

func refusal(text string) error {
	return load.Refusal{Reason: fmt.Errorf("the server says: %s", text)}
}

func malformed(text []byte) error { return fmt.Errorf("malformed answer: %.60q", text) }

// redis is RESP. A batch is a pipeline of GET, SET and DEL, which is what its users send for
// throughput. It is not an atomic step, as with MULTI.
var redis = &dialect{
	append: appendRedis,
	answers: [...]map[string]wire.Status{
		wire.Get:    {"$-1": wire.Missing},
		wire.Put:    {"+OK": wire.Replaced}, // or Created: it does not say
		wire.Delete: {":1": wire.Deleted, ":0": wire.Missing},
	},
	value:   "$",
	refusal: "-",
}

var redisCommands = [...]string{wire.Get: "*2\r\n$3\r\nGET\r\n", wire.Put: "*3\r\n$3\r\nSET\r\n", wire.Delete: "*2\r\n$3\r\nDEL\r\n"}

func appendRedis(dst []byte, op *wire.Op) []byte {
	dst = appendBulk(append(dst, redisCommands[op.Kind]...), op.Key)
	if op.Kind == wire.Put {
		dst = appendBulk(dst, op.Value)
	}
	return dst
}

func appendBulk[T string | []byte](dst []byte, text T) []byte {
	dst = strconv.AppendInt(append(dst, '$'), int64(len(text)), 10)
	dst = append(append(dst, "\r\n"...), text...)
	return append(dst, "\r\n"...)
}

// memcached is its meta commands.
var memcached = &dialect{
	append: appendMemcached,
	answers: [...]map[string]wire.Status{
		wire.Get:    {"EN": wire.Missing},
		wire.Put:    {"HD": wire.Replaced}, // or Created: it does not say
		wire.Delete: {"HD": wire.Deleted, "NF": wire.Missing},
	},
	value:   "VA ",
	refusal: "SERVER_ERROR ",
}

var memcachedCommands = [...]string{wire.Get: "mg ", wire.Put: "ms ", wire.Delete: "md "}

func appendMemcached(dst []byte, op *wire.Op) []byte {
	dst = append(append(dst, memcachedCommands[op.Kind]...), op.Key...)
	switch op.Kind {
	case wire.Get:
		dst = append(dst, " v"...)
	case wire.Put:
		dst = strconv.AppendInt(append(dst, ' '), int64(len(op.Value)), 10)
		dst = append(append(dst, "\r\n"...), op.Value...)
	}
	return append(dst, "\r\n"...)
}
