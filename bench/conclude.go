package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"lockstep/common/client"
)

// conclude says in plain words what the tour has measured: a sentence a step, each
// for what came out and not for what should have.
func conclude(o *options, rows []*tourRow, gain *Ratio, held float64) error {
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
		b.WriteString("\n" + wrap(s, columns))
	}
	b.WriteString("\nNext: read the four stages in order (NOTES.md is the guide), or\n" +
		"go run ./bench compare -stages 3,4 -work 1ms\n")
	if answers(o) {
		b.WriteString("Your servers are up: go run ./bench run\n")
	}
	_, err := fmt.Fprint(o.stdout, b.String())
	return err
}

func oneToTwo(one, two *tourRow) string {
	s := "1 to 2, a goroutine for each connection: "
	if starve := one.kept.starves(); starve != "" {
		s += fmt.Sprintf("stage 1 serves one client at a time, and so %s when connections are kept", starve)
	} else {
		s += "here no client of stage 1 starved"
	}
	if a, b := one.stall.p99(), two.stall.p99(); a > 2*b {
		s += fmt.Sprintf("; one that stops makes all others wait, %s at p99. In stage 2 only the one that stops is late: %s.", span(a), span(b))
	} else {
		s += fmt.Sprintf("; beside one that stops, the others waited %s in stage 1 and %s in stage 2, which shows no cure.", span(a), span(b))
	}
	return s
}

func twoToThree(two, pool *tourRow) string {
	s := fmt.Sprintf("2 to 3, a pool with a bounded queue: overloaded, stage 2 takes in all that comes, and answers after %s at p99. ", over(two.over))
	if pool.over.refused() > 1 && pool.over.p99() < two.over.p99() {
		return s + fmt.Sprintf("Stage 3 says no at once to %.0f %%, and answers the others within %s. A pool is not for speed: it is for saying no in time.",
			pool.over.refused(), span(pool.over.p99()))
	}
	return s + fmt.Sprintf("Stage 3 refused %.0f %% and took %s: here the pool shows no gain.", pool.over.refused(), over(pool.over))
}

func over(r *result) string {
	if r.unfinished > 0 {
		return fmt.Sprintf("more than %s (%s never were answered)", span(r.p99()), count(r.unfinished))
	}
	return span(r.p99())
}

func threeToFour(pool, buckets *tourRow) string {
	a, b := pool.work.perSecond(), buckets.work.perSecond()
	s := fmt.Sprintf("3 to 4, a lock for each bucket: with 1 ms of work under the lock, stage 3 does %s requests/s and stage 4 %s, ", three(a), three(b))
	if b > 1.5*a {
		return s + fmt.Sprintf("%s times as many: only requests for one bucket still wait for each other.", three(b/a))
	}
	return s + "which shows no gain."
}

func withoutWork(gain *Ratio, held float64) string {
	s := "Without work, what does stage 4 gain? "
	switch {
	case gain.NoDifference:
		s += fmt.Sprintf("Nothing that can be shown: %s times stage 3, %s in %d rounds.", three(gain.Median), bounds(gain.interval), gain.Rounds)
	case gain.Median > 1:
		s += fmt.Sprintf("%s times stage 3, %s in %d rounds.", three(gain.Median), bounds(gain.interval), gain.Rounds)
	default:
		s += fmt.Sprintf("It loses: %s times stage 3, %s in %d rounds.", three(gain.Median), bounds(gain.interval), gain.Rounds)
	}
	return s + fmt.Sprintf(" Stage 3's lock was held %s %% of the time: a lock that nobody waits for costs next to nothing, and many cannot cost less.", three(100*held))
}

func crowd(two, pool *tourRow) string {
	s := fmt.Sprintf("A pool saves no goroutines in Go: with %s connections stage 2 had %s and stage 3 %s",
		count(two.crowded.Open), count(int64(two.crowded.Goroutines)), count(int64(pool.crowded.Goroutines)))
	if two.crowded.PeakMemory > 0 {
		const mib = 1 << 20
		s += fmt.Sprintf(", and %.0f and %.0f MiB of memory at the peak", float64(two.crowded.PeakMemory)/mib, float64(pool.crowded.PeakMemory)/mib)
	}
	return s + "."
}

// answers reports whether the servers of properties.json are up.
func answers(o *options) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	for i := range o.cfg.Nodes {
		if _, err := client.Stats(ctx, o.cfg, i); err != nil {
			return false
		}
	}
	return true
}
