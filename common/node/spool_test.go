package node

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A slow writes when it is let.
type slow struct {
	strings.Builder
	let chan bool
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.let
	return s.Builder.Write(p)
}

func TestSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &slow{let: make(chan bool)}
		s := newSpool(w)
		for i := range 100 {
			fmt.Fprintf(s, "line %d\n", i)
			if i == 0 {
				synctest.Wait() // it is on its way to w
			}
		}
		began := time.Now()
		s.close()
		if took := time.Since(began); took != spoolTime {
			t.Errorf("close took %v, want %v: nobody takes the lines", took, spoolTime)
		}
		close(w.let)
		synctest.Wait()
		if got := w.String(); !strings.HasPrefix(got, "line 0\n(35 lines were lost here") || !strings.HasSuffix(got, "\nline 64\n") || strings.Count(got, "\n") != 66 {
			t.Errorf("written was %q, want 65 of the lines, and that 35 were lost", got)
		}
	})
	var all strings.Builder
	s := newSpool(&all)
	io.WriteString(s, "one\n")
	io.WriteString(s, "two\n")
	s.close()
	if got := all.String(); got != "one\ntwo\n" {
		t.Errorf("written was %q", got)
	}
}
