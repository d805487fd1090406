package notes

import (
	"lockstep/bench/report"
	"os"
	"testing"
)

func TestLook(t *testing.T) {
	dir := "/tmp/wt-out-figs/"
	for name, draw := range map[string]func([]data) (string, error){"dots": dots, "rate": rate, "gain": gain, "ceilings": ceilings, "ports": ports} {
		rep, err := report.Read(dir + name + ".json")
		if err != nil {
			t.Log(err)
			continue
		}
		rep.Summarize()
		svg, err := draw([]data{{name: name, report: rep}})
		if err != nil {
			t.Error(err)
		}
		os.WriteFile(dir+name+".svg", []byte(svg), 0o666)
		t.Log(name, len(svg))
	}
}
