package load

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"runtime"
)

// Pack encodes r so that it fits the payload of a barrier: the histograms of an hour of
// overload take 100 KB, and less than half of that compressed. A nil r becomes an empty Result.
func (r *Result) Pack() ([]byte, error) {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	err := errors.Join(json.NewEncoder(z).Encode(r), z.Close())
	return b.Bytes(), err
}

// Unpack decodes what Pack has encoded.
func Unpack(payload []byte) (*Result, error) {
	z, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	r := new(Result)
	return r, json.NewDecoder(z).Decode(r)
}

// Together returns the result of all client processes, which ran on one machine if local is
// set. They have seen the same servers, and the round lasted until the last of them was done.
func Together(all []*Result, local bool) *Result {
	sum := new(Result)
	for _, r := range all {
		sum.Merge(r)
		sum.Client = r.Client
		sum.Dur = max(sum.Dur, r.Dur)
		sum.Restarted = cmp.Or(sum.Restarted, r.Restarted)
		sum.Stalled, sum.Stall = max(sum.Stalled, r.Stalled), max(sum.Stall, r.Stall)
		sum.ServerCPU, sum.MachineCPU = max(sum.ServerCPU, r.ServerCPU), max(sum.MachineCPU, r.MachineCPU)
		if sum.Nodes == nil {
			sum.Nodes = r.Nodes
		}
		if local {
			sum.ClientCPU += r.ClientCPU
			sum.Cores = min(sum.Cores+r.Cores, float64(runtime.NumCPU()))
		} else if sum.ClientCPU <= r.ClientCPU { // each has cores of its own
			sum.ClientCPU, sum.Cores = r.ClientCPU, r.Cores
		}
	}
	return sum
}
