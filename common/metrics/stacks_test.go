package metrics

import (
	"strings"
	"testing"
)

func waitHere(started chan<- bool, end <-chan bool) {
	started <- true
	<-end
}

func TestStacks(t *testing.T) {
	started, end := make(chan bool), make(chan bool)
	for range 2 {
		go waitHere(started, end) // until end is closed
		<-started
	}
	got := Stacks("no such word", "metrics.waitHere(")
	close(end)
	if len(got) != 2 || !strings.HasPrefix(got[0], "goroutine ") || !strings.Contains(got[1], "stacks_test.go:") {
		t.Errorf("the stacks are %q, want two", got)
	}
	if got := Stacks(); got != nil {
		t.Errorf("without a word: %q", got)
	}
}
