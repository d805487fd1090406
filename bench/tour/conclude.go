package tour

import (
	"fmt"
	"strings"

	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/text"
)

// conclude says in plain words what the tour has measured: a sentence a step, each
// for what came out and not for what should have.
func conclude(rows []*tourRow, gain *report.Ratio, held float64) string {
	one, two, pool, buckets := rows[0], rows[1], rows[2], rows[3]
	sentences := []string{
		oneToTwo(one, two),
		twoToThree(two, pool),
		threeToFour(pool, buckets),
		withoutWork(gain, held),
		crowd(two, pool),
	}
	var b strings.Builder
	for _, s := range sentences {
		b.WriteString("\n" + text.Wrap(s, text.Columns))
	}
	return b.String()
}

func oneToTwo(one, two *tourRow) string {
	s := "1 to 2, a goroutine for each connection: "
	if one.kept.Starved > 0 {
		s += fmt.Sprintf("stage 1 serves one client at a time, so %d of %d starve when connections are kept", one.kept.Starved, one.kept.Connections)
	} else {
		s += "no client of stage 1 starved here"
	}
	if fails(one.stall)+fails(two.stall) != "" {
		return s + ". Beside a client that stops, not every request was answered, which shows nothing."
	}
	a, b := p99Of(one.stall), p99Of(two.stall)
	if a > 2*b {
		return s + fmt.Sprintf("; and one that stops makes all others wait, %s at p99. In stage 2 the others do not wait for it: %s.", text.Duration(a), text.Duration(b))
	}
	return s + fmt.Sprintf("; beside one that stops, the others take %s at p99 in stage 1 and %s in stage 2, which shows no cure.", text.Duration(a), text.Duration(b))
}

func twoToThree(two, pool *tourRow) string {
	s := "2 to 3, a pool with a bounded queue: overloaded, "
	if fails(two.over)+fails(pool.over) != "" {
		return s + "not all clients were served (the table says how), which shows nothing."
	}
	s += "stage 2 takes in all that comes, and needs " + needs(two.over) + ". "
	switch share := refused(pool.over); {
	case pool.over.Requests == 0:
		return s + "Stage 3 refused everything: here the pool shows no gain."
	case share > 1 && p99Of(pool.over) < p99Of(two.over):
		return s + fmt.Sprintf("Stage 3 says no at once to %.0f %%, and needs %s for the others. A pool is not for speed: it is for saying no in time.",
			share, needs(pool.over))
	default:
		return s + fmt.Sprintf("Stage 3 refused %.0f %%, and needs %s: here the pool shows no gain.", share, needs(pool.over))
	}
}

// needs is how long the answers of an overloaded stage took.
func needs(r *load.Result) string {
	if r.Unfinished > 0 {
		return fmt.Sprintf("more than %s at p99 (%s requests were left at the end)", text.Duration(p99Of(r)), text.Count(r.Unfinished))
	}
	return text.Duration(p99Of(r)) + " at p99"
}

func threeToFour(pool, buckets *tourRow) string {
	s := "3 to 4, a lock for each bucket: with 1 ms of work under the lock, "
	if fails(pool.work)+fails(buckets.work) != "" {
		return s + "not every request was answered, which shows nothing."
	}
	a, b := perSecond(pool.work), perSecond(buckets.work)
	s += fmt.Sprintf("stage 3 does %s requests/s and stage 4 %s", text.Sig3(a), text.Sig3(b))
	if b > 1.5*a {
		return s + fmt.Sprintf(", %s times as many: only requests for one bucket still wait for each other.", text.Sig3(b/a))
	}
	return s + ", which shows no gain."
}

func withoutWork(gain *report.Ratio, held float64) string {
	s := "Without work, what does stage 4 gain? "
	times := fmt.Sprintf("%s times stage 3, %s in %d rounds. ", text.Sig3(gain.Median), gain.Bounds(), gain.Rounds)
	switch {
	case gain.Rounds == 0:
		s += "Not known: there was no round in which both answered. "
	case gain.NoDifference:
		s += "Nothing that can be shown: " + times
	case gain.Median > 1:
		s += "A little: " + times
	default:
		s += "It loses: " + times
	}
	s += "Stage 3's lock was held " + text.Sig3(100*held) + " % of the time: "
	if held < 0.3 {
		return s + "a lock that nobody waits for costs next to nothing, and many cannot cost less."
	}
	return s + "with so much, many locks could have gained."
}

func crowd(two, pool *tourRow) string {
	a, b := two.crowded, pool.crowded
	s := "A pool saves no goroutines in Go: "
	if b.Goroutines < a.Goroutines {
		s = "Here the pool had fewer goroutines: "
	}
	s += fmt.Sprintf("with %s connections stage 2 had %s, ", text.Count(a.Open), text.Count(int64(a.Goroutines)))
	if a.Open != b.Open {
		s += fmt.Sprintf("with %s ", text.Count(b.Open))
	}
	s += "stage 3 " + text.Count(int64(b.Goroutines))
	if a.PeakMemory > 0 && b.PeakMemory > 0 {
		const mib = 1 << 20
		s += fmt.Sprintf("; at the peak they took %.0f and %.0f MiB of memory", float64(a.PeakMemory)/mib, float64(b.PeakMemory)/mib)
	}
	return s + "."
}
