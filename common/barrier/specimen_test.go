package barrier

import (
	"testing"
)

// The two barriers that are usually written first. The search that finds no fault in the
// real one finds theirs:
//
//	go test ./common/barrier -run Specimen -v

// counting is the barrier that counts messages. A process that arrives writes "ready" to
// the others. Once it has counted as many "ready" as there are others, it writes "all
// ready" to them, and once it has counted as many of those, it starts.
type counting struct {
	came     [processes]bool // ever
	here     [processes]bool // and is up
	ready    [processes]int8 // messages counted
	allReady [processes]int8
	started  [processes]bool
	net      [2][processes][processes]int8 // messages in transit: by word, from and to
	faults   faults                        // that can still happen
}

type faults struct{ duplicates, unread, crashes, forged int8 }

var words = [2]string{"ready", "all ready"}

// write writes a word from process i to all others.
func (s *counting) write(word, i int) {
	for j := range processes {
		if j != i {
			s.net[word][i][j]++
		}
	}
}

// count counts a word at process j, and does what follows from it.
func (s *counting) count(word, j int) (bad string) {
	if word == 0 {
		if s.ready[j]++; s.ready[j] == processes-1 {
			s.write(1, j)
		}
		return ""
	}
	if s.allReady[j]++; s.allReady[j] == processes-1 {
		s.started[j] = true
		for _, came := range s.came {
			if !came {
				bad = ", and starts before all have arrived"
			}
		}
	}
	return bad
}

func (s counting) next() (events []edge[counting]) {
	add := func(to counting, fault bool, say string, a, b int, bad string) {
		events = append(events, edge[counting]{to, fault, say, a, b, bad})
	}
	for i := range processes {
		if !s.here[i] {
			to := s
			to.came[i], to.here[i] = true, true
			to.write(0, i)
			add(to, false, "%[1]d arrives and writes ready to all", i, 0, "")
		} else if s.faults.crashes > 0 && !s.started[i] {
			to := s
			to.faults.crashes--
			to.here[i], to.ready[i], to.allReady[i] = false, 0, 0
			add(to, true, "%[1]d crashes and loses its counts", i, 0, "")
		}
		for j := range processes {
			for word := range words {
				if i == j || !s.here[j] {
					continue
				}
				if s.faults.forged > 0 {
					to := s
					to.faults.forged--
					bad := to.count(word, j)
					add(to, true, "%[2]d counts a forged "+words[word]+" from %[1]d", i, j, bad)
				}
				if s.net[word][i][j] == 0 {
					continue
				}
				to := s
				to.net[word][i][j]--
				lost := to
				bad := to.count(word, j)
				add(to, false, "%[2]d counts "+words[word]+" from %[1]d", i, j, bad)
				if s.faults.duplicates > 0 {
					to.faults.duplicates--
					to.net[word][i][j]++
					add(to, true, "%[2]d counts "+words[word]+" from %[1]d, and another copy is in transit", i, j, bad)
				}
				if s.faults.unread > 0 {
					lost.faults.unread--
					add(lost, true, "%[1]d's "+words[word]+" to %[2]d is written, and never read", i, j, "")
				}
			}
		}
	}
	return events
}

func (s counting) done() bool { return s.started == [processes]bool{true, true, true} }

// single is the barrier of one goroutine. It asks each other process in turn and waits for
// the answer; then it answers the questions of the others.
type single struct {
	step [processes]int8 // 0: not arrived; 1, 2: waits for the first, second answer; then answers; then has started
}

func (s single) next() (events []edge[single]) {
	const answers, started = processes, 2*processes - 1
	for i, step := range s.step {
		to := s
		to.step[i]++
		switch {
		case step == 0:
			events = append(events, edge[single]{to: to, say: "%[1]d arrives, asks %[2]d, and waits for the answer", a: i, b: (i + 1) % processes})
		case step < answers:
			if j := (i + int(step)) % processes; answers <= s.step[j] && s.step[j] < started {
				to.step[j]++
				events = append(events, edge[single]{to: to, say: "%[2]d answers %[1]d", a: i, b: j})
			}
		}
	}
	return events
}

func (s single) done() bool {
	const started = 2*processes - 1
	return s.step == [processes]int8{started, started, started}
}

func TestSpecimen(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		faults
		want string
	}{
		{"no faults", "safe", faults{}, "safe"},
		{"one message arrives twice", "safe: it takes two duplicates to replace the third process", faults{duplicates: 1}, "safe"},
		{"two messages arrive twice", "unsafe: the duplicates are counted like another process", faults{duplicates: 2}, "unsafe"},
		{"two forged messages", "unsafe", faults{forged: 2}, "unsafe"},
		{"one write is never read", "stuck: no process writes anything twice", faults{unread: 1}, "stuck"},
		{"one crash and restart", "stuck", faults{crashes: 1}, "stuck"},
	} {
		t.Run("counting/"+c.name, func(t *testing.T) {
			v := search(counting{faults: c.faults}, counting.next, counting.done)
			show(t, c.prediction, c.want, v)
		})
	}
	t.Run("single goroutine", func(t *testing.T) {
		v := search(single{}, single.next, single.done)
		show(t, "stuck: all ask and none answers", "stuck", v)
	})
}

func show(t *testing.T, prediction, want string, v verdict) {
	t.Logf("prediction: %s\nfound: %s", prediction, v)
	got := "safe"
	switch {
	case v.unsafe != nil:
		got = "unsafe"
	case v.stuck:
		got = "stuck"
	}
	if got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
}
