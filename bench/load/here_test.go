package load

import (
	"testing"

	"lockstep/bench/workload"
	"lockstep/common/cluster"
)

// newTestWorkload returns the default workload, changed by change.
func newTestWorkload(t testing.TB, change func(*cluster.Workload)) *workload.Workload {
	t.Helper()
	cfg := cluster.Default().Workload
	change(&cfg)
	w, err := workload.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
