package yardstick

import (
	"bufio"
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"lockstep/common/wire"
)

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

func appendMemcached(dst []byte, op *wire.Op) []byte {
	switch op.Kind {
	case wire.Get:
		return append(append(append(dst, "mg "...), op.Key...), " v\r\n"...)
	case wire.Put:
		dst = append(append(append(dst, "ms "...), op.Key...), ' ')
		dst = append(strconv.AppendInt(dst, int64(len(op.Value)), 10), "\r\n"...)
		return append(append(dst, op.Value...), "\r\n"...)
	default:
		return append(append(append(dst, "md "...), op.Key...), "\r\n"...)
	}
}

func memcachedVersion(in *bufio.Reader) (string, error) {
	line, err := readLine(in)
	version, ok := strings.CutPrefix(string(line), "VERSION ")
	if err != nil || !ok {
		return "", cmp.Or(err, malformed(line))
	}
	if line, err = readLine(in); err == nil && string(line) != "MN" {
		err = fmt.Errorf("memcached %s does not know meta commands, which came with 1.6", version)
	}
	return version, err
}
