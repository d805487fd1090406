package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
)

// startProfile starts profiling the process into dir, unless dir is empty. The function
// that it returns writes the files: cpu, heap, block and mutex for go tool pprof, trace
// for go tool trace.
func startProfile(dir string) (stop func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	err = os.MkdirAll(dir, 0o755)
	files := make(map[string]*os.File)
	for _, name := range []string{"cpu", "trace", "heap", "block", "mutex"} {
		if err == nil {
			files[name], err = os.Create(filepath.Join(dir, name+".out"))
		}
	}
	if err == nil {
		err = errors.Join(pprof.StartCPUProfile(files["cpu"]), trace.Start(files["trace"]))
	}
	if err != nil {
		return nil, fmt.Errorf("profiling into %s: %w", dir, err)
	}
	runtime.SetBlockProfileRate(10_000) // one sample for each 10 µs of blocking
	runtime.SetMutexProfileFraction(10) // one of 10 contentions
	return func() error {
		pprof.StopCPUProfile()
		trace.Stop()
		runtime.GC() // so that the heap profile shows what is in use now
		var err error
		for _, name := range []string{"heap", "block", "mutex"} {
			err = errors.Join(err, pprof.Lookup(name).WriteTo(files[name], 0))
		}
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return err
	}, nil
}
