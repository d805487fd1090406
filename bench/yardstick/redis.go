package yardstick

import (
	"bufio"
	"errors"
	"strconv"
	"strings"

	"lockstep/common/wire"
)

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

func redisVersion(in *bufio.Reader) (string, error) {
	info, err := redis.read(in, wire.Get) // an answer of the same form
	_, version, ok := strings.Cut(string(info.Value), "redis_version:")
	if err == nil && !ok {
		err = errors.New("the server does not give a version of Redis")
	}
	version, _, _ = strings.Cut(version, "\r\n")
	return version, err
}
