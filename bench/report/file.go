package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"lockstep/bench/workload"
)

const MaxReport = 256 << 20 // bytes

// readReport reads a file that -o has written.
func ReadReport(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxReport+1))
	if err == nil && len(data) > MaxReport {
		err = fmt.Errorf("it is larger than %d MiB", MaxReport>>20)
	}
	var rep *Report
	if err == nil {
		rep, err = Parse(data)
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not a report that bench -o has written: %w", path, err)
	}
	return rep, nil
}

// Parse reads a report, and makes its summary anew from the rounds.
func Parse(data []byte) (*Report, error) {
	var version struct{ Schema int }
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Schema != schema {
		return nil, fmt.Errorf("its schema is %d, and this program knows %d", version.Schema, schema)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	rep := new(Report)
	if err := dec.Decode(rep); err != nil {
		return nil, err
	}
	if err := rep.Config.Validate(workload.Rules()); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if rep.Sweep != nil {
		if err := rep.Sweep.Restore(rep.Config); err != nil {
			return nil, fmt.Errorf("sweep: %w", err)
		}
	}
	rep.Summary = rep.Summarize()
	if len(rep.Runs) > 0 && len(rep.Summary) == 0 {
		return nil, errors.New("its rounds are of none of its stages")
	}
	return rep, nil
}
