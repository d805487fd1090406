package notes

import (
	"lockstep/bench/figure"
	"lockstep/bench/report"
)

type data struct {
	name   string
	report *report.Report
	lanes  []figure.Panel
}
