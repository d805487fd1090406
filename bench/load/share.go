package load

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
)

// pack makes a result small enough for a barrier's payload: the histograms of an hour
// of overload have 100 KB, and less than half of that when they are compressed. nil is nothing.
func (r *Result) Pack() ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // a level that there is
	err := errors.Join(json.NewEncoder(z).Encode(r), z.Close())
	return b.Bytes(), err
}

func Unpack(payload []byte) (*Result, error) {
	r := new(Result)
	if len(payload) == 0 {
		return r, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	return r, json.NewDecoder(z).Decode(r)
}

// together is the result of all clients: each has seen the same servers work, and
// the round lasted until the last of them was done.
func Together(all []*Result, local bool) *Result {
	sum := new(Result)
	for _, r := range all {
		sum.Merge(r)
		sum.Dur = max(sum.Dur, r.Dur)
		sum.ServerCPU = max(sum.ServerCPU, r.ServerCPU)
		if sum.Nodes == nil {
			sum.Nodes = r.Nodes
		}
		if local {
			sum.ClientCPU += r.ClientCPU
		} else {
			sum.ClientCPU = max(sum.ClientCPU, r.ClientCPU) // each has cores of its own
		}
	}
	return sum
}
