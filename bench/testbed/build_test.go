package testbed

import (
	"os"
	"path/filepath"
	"testing"
)

func TestStageDirs(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a [b] *?") // must not be taken for a pattern
	for _, dir := range []string{"stage1_one", "stage12_twelve", "stage2_a", "stage2_b", "mine"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Skip(err) // Windows
		}
	}
	for stage, want := range map[string]string{
		"1": "stage1_one", "12": "stage12_twelve", "stage1_one": "stage1_one", "mine": "mine", "./mine": "mine",
		"2": "", "3": "", "-1": "", "": "", "yours": "",
	} {
		dir, err := stageDir(root, stage)
		if want == "" && err == nil || want != "" && dir != filepath.Join(root, want) {
			t.Errorf("stage %q is in %q, %v, want %q", stage, dir, err, want)
		}
	}
	here, err := stageDir(root, "../testdata/faulty") // relative to the current directory
	if err != nil || filepath.Base(here) != "faulty" || !filepath.IsAbs(here) {
		t.Errorf("a path from here is %q, %v", here, err)
	}
}
