package clients

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"lockstep/bench/load"
)

// Pack encodes r for Unpack.
func Pack(r *load.Result) ([]byte, error) {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	err := errors.Join(json.NewEncoder(z).Encode(r), z.Close())
	return b.Bytes(), err
}

// Unpack decodes what Pack has encoded. Its memory is bounded: days of load, and a hundred
// nodes, have less than this, and what is packed small is not unpacked large.
func Unpack(payload []byte) (*load.Result, error) {
	const size, objects = 4 << 20, 1 << 13
	z, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(z, size+1))
	if err != nil {
		return nil, err
	}
	if len(data) > size || bytes.Count(data, []byte("{")) > objects {
		return nil, fmt.Errorf("it has more than %d MiB or %d objects", size>>20, objects)
	}
	r := new(load.Result)
	return r, json.Unmarshal(data, r)
}

// Together returns the result of all client processes but those that are missing, which are
// nil. They ran on one machine if local is set. They have seen the same servers, and the round
// lasted until the last of them was done.
func Together(all []*load.Result, local bool) *load.Result {
	sum := new(load.Result)
	for _, r := range all {
		if r == nil {
			continue
		}
		sum.Merge(r)
		sum.Client = cmp.Or(sum.Client, r.Client)
		sum.Dur = max(sum.Dur, r.Dur)
		sum.Restarted = cmp.Or(sum.Restarted, r.Restarted)
		sum.Stalled, sum.Stall = max(sum.Stalled, r.Stalled), max(sum.Stall, r.Stall)
		if sum.Nodes == nil || r.ServerCPU > sum.ServerCPU { // the last to ask has seen most
			sum.Nodes, sum.ServerCPU = r.Nodes, r.ServerCPU
		}
		sum.TimeWait = max(sum.TimeWait, r.TimeWait)
		sum.ClientCPU += r.ClientCPU
		if sum.Cores += r.Cores; local {
			sum.Cores = min(sum.Cores, float64(runtime.NumCPU()))
		}
		if local || len(all) == 1 { // of several machines it is not known which programs are ours
			sum.MachineCPU = max(sum.MachineCPU, r.MachineCPU)
		}
	}
	if sum.Restarted != "" {
		sum.Nodes, sum.ServerCPU = nil, 0
	}
	return sum
}
