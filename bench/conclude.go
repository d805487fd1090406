package main

import (
	"context"
	"fmt"
	"lockstep/common/text"
	"strings"
	"time"
)

// conclude says in plain words what the tour has measured: a sentence a step, each
// for what came out and not for what should have.
func conclude(ctx context.Context, o *options, rows []*tourRow, gain *Ratio, held float64) error {
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
		b.WriteString("\n" + text.Wrap(s, columns))
	}
	b.WriteString("\nNext: read the four stages in order (NOTES.md is the guide), or\n" +
		"go run ./bench compare -stages 3,4 -work 1ms\n")
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := statsOf(ctx, o.cfg); err == nil {
		b.WriteString("Your servers are up: go run ./bench run\n")
	}
	_, err := fmt.Fprint(o.stdout, b.String())
	return err
}

func oneToTwo(one, two *tourRow) string {
	s := "1 to 2, a goroutine for each connection: "
	if one.kept.starved > 0 {
		s += fmt.Sprintf("stage 1 serves one client at a time, so %d of %d starve when connections are kept", one.kept.starved, one.kept.connections)
	} else {
		s += "no client of stage 1 starved here"
	}
	if fails := one.stall.fails() + two.stall.fails(); fails != "" {
		return s + ". Beside a client that stops, not every request was answered, which shows nothing."
	}
	a, b := one.stall.p99(), two.stall.p99()
	if a > 2*b {
		return s + fmt.Sprintf("; and one that stops makes all others wait, %s at p99. In stage 2 the others do not wait for it: %s.", text.Duration(a), text.Duration(b))
	}
	return s + fmt.Sprintf("; beside one that stops, the others take %s at p99 in stage 1 and %s in stage 2, which shows no cure.", text.Duration(a), text.Duration(b))
}

func twoToThree(two, pool *tourRow) string {
	s := "2 to 3, a pool with a bounded queue: overloaded, "
	if fails := two.over.fails() + pool.over.fails(); fails != "" {
		return s + "not all clients were served (the table says how), which shows nothing."
	}
	s += "stage 2 takes in all that comes, and needs " + needs(two.over) + ". "
	switch refused := pool.over.refused(); {
	case pool.over.requests == 0:
		return s + "Stage 3 refused everything: here the pool shows no gain."
	case refused > 1 && pool.over.p99() < two.over.p99():
		return s + fmt.Sprintf("Stage 3 says no at once to %.0f %%, and needs %s for the others. A pool is not for speed: it is for saying no in time.",
			refused, needs(pool.over))
	default:
		return s + fmt.Sprintf("Stage 3 refused %.0f %%, and needs %s: here the pool shows no gain.", refused, needs(pool.over))
	}
}

// needs is how long the answers of an overloaded stage took.
func needs(r *result) string {
	if r.unfinished > 0 {
		return fmt.Sprintf("more than %s at p99 (%s requests were left at the end)", text.Duration(r.p99()), text.Count(r.unfinished))
	}
	return text.Duration(r.p99()) + " at p99"
}

func threeToFour(pool, buckets *tourRow) string {
	s := "3 to 4, a lock for each bucket: with 1 ms of work under the lock, "
	if fails := pool.work.fails() + buckets.work.fails(); fails != "" {
		return s + "not every request was answered, which shows nothing."
	}
	a, b := pool.work.perSecond(), buckets.work.perSecond()
	s += fmt.Sprintf("stage 3 does %s requests/s and stage 4 %s", text.Sig3(a), text.Sig3(b))
	if b > 1.5*a {
		return s + fmt.Sprintf(", %s times as many: only requests for one bucket still wait for each other.", text.Sig3(b/a))
	}
	return s + ", which shows no gain."
}

func withoutWork(gain *Ratio, held float64) string {
	s := "Without work, what does stage 4 gain? "
	times := fmt.Sprintf("%s times stage 3, %s in %d rounds. ", text.Sig3(gain.Median), bounds(gain.interval), gain.Rounds)
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
