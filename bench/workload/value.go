package workload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"

	"lockstep/common/cluster"
)

// A stamp says which writer stored a value, and which of that writer's values it is. Key,
// stamp and sizes determine a value. Writer 0 is the preload, so the zero stamp is that of the
// value that each key has at first.
type stamp uint64 // writer << numberBits | number

const (
	numberBits       = 37
	absent     stamp = 1<<64 - 1 // the key has no value
	cut        stamp = 1<<64 - 2 // the value is too short to hold its stamp
)

func newStamp(writer, number uint64) stamp { return stamp(writer<<numberBits | number) }

// appendValue appends a value to b: the key, the stamp, and filler that depends on both, so
// that parts of two values never make a third:
//
//	key-017 by 3 #42 nkdpobcafhihg
//
// If sizes is a range, the value's size is a hash of its key and stamp, and each size is as
// likely as the others. A value that is too small for key and stamp ends early.
func appendValue(b []byte, key string, s stamp, sizes cluster.Size) []byte {
	start := len(b)
	b = appendText(b, key, s)
	x := uint64(crc32.ChecksumIEEE(b[start:]))
	// A checksum of consecutive numbers is not random enough to draw sizes from.
	size := sizes.Min + int(rand.NewPCG(x, x).Uint64()%uint64(sizes.Max-sizes.Min+1))
	for len(b)-start < size {
		x = x*6364136223846793005 + 1442695040888963407 // Knuth, TAOCP 2, 3.3.4
		// eight letters at once, a to p; 16 KiB take about 2 µs
		letters := 0x6161616161616161 + (x^x>>32)&0x0f0f0f0f0f0f0f0f
		b = binary.LittleEndian.AppendUint64(b, letters)
	}
	return b[:start+size]
}

// appendText appends what a value begins with. It ends with a space, so no such text is
// the beginning of another.
func appendText(b []byte, key string, s stamp) []byte {
	b = append(append(b, key...), " by "...)
	b = append(strconv.AppendUint(b, uint64(s>>numberBits), 10), " #"...)
	return append(strconv.AppendUint(b, uint64(s&(1<<numberBits-1)), 10), ' ')
}

// verify returns the stamp of a value read from key, or an error if no workload with values of
// these sizes stores it there. It writes the value again from its own stamp and compares all of
// it. Of a value that ends within its stamp, a range of sizes leaves open which size is right:
// the stamp is cut, and any size in the range is right. scratch is overwritten and returned
// for the next call.
func verify(scratch []byte, key string, value []byte, sizes cluster.Size) (stamp, []byte, error) {
	s := readStamp(key, value)
	scratch = appendText(scratch[:0], key, s)
	if n := len(value); sizes.Min < sizes.Max && sizes.Min <= n && n <= sizes.Max && n < len(scratch) {
		s, scratch = cut, scratch[:n]
	} else {
		scratch = appendValue(scratch[:0], key, s, sizes)
	}
	if bytes.Equal(value, scratch) {
		return s, scratch, nil
	}
	return 0, scratch, fmt.Errorf("%s: read %d bytes, %.60q, want %d bytes such as %.60q", key, len(value), value, len(scratch), scratch)
}

// readStamp reads the stamp where appendValue writes it. It checks nothing and takes missing
// numbers for 0, because verify compares the whole value.
func readStamp(key string, value []byte) stamp {
	text := value[min(len(key)+len(" by "), len(value)):]
	next := func() (n uint64) {
		for ; len(text) > 0 && '0' <= text[0] && text[0] <= '9'; text = text[1:] {
			n = 10*n + uint64(text[0]-'0')
		}
		text = text[min(len(" #"), len(text)):]
		return n
	}
	writer := next()
	return newStamp(writer, next())
}
