package tour

import (
	"fmt"

	"lockstep/bench/load"
	"lockstep/bench/report"
	"lockstep/common/text"
)

// conclude says what the tour has measured, whether it is as expected or not: a paragraph
// for each step from one stage to the next, and two more.
func conclude(rows []*row, gain *report.Ratio, held float64) (conclusion string) {
	one, two, pool, buckets := rows[0], rows[1], rows[2], rows[3]
	for _, paragraph := range []string{
		oneToTwo(one, two), twoToThree(two, pool), threeToFour(pool, buckets), withoutWork(gain, held), goroutines(two, pool),
	} {
		conclusion += "\n" + text.Wrap(paragraph, text.Columns)
	}
	return conclusion + "\nNext: read the four stages in order (NOTES.md is the guide), or\n" +
		"go run ./bench compare -stages 3,4 -work 1ms\n"
}

func oneToTwo(one, two *row) string {
	s := "1 to 2, a goroutine for each connection: "
	if one.kept.Starved > 0 {
		s += fmt.Sprintf("stage 1 serves one client at a time, so %d of %d starve when connections are kept", one.kept.Starved, one.kept.Connections)
	} else {
		s += "no client of stage 1 starved here"
	}
	if failure(one.stalled)+failure(two.stalled) != "" {
		return s + ". Beside a stalled client some requests failed, which shows nothing."
	}
	format := "; beside a stalled client the others take %s at p99 in stage 1 and %s in stage 2, which shows no gain."
	if faster(two.stalled, one.stalled, 2) {
		format = "; and a stalled client makes all others wait, %s at p99. In stage 2 the others do not wait for it: %s."
	}
	return s + fmt.Sprintf(format, response(one.stalled), response(two.stalled))
}

func twoToThree(two, pool *row) string {
	s := "2 to 3, a pool with a bounded queue: overloaded, "
	if failure(two.overload)+failure(pool.overload) != "" {
		return s + "not all clients were served (see the table), which shows nothing."
	}
	s += "stage 2 accepts every request, and takes " + slowest(two.overload) + ". "
	share := refused(pool.overload)
	switch {
	case pool.overload.Requests == 0:
		return s + "Stage 3 refused every request, which shows no gain."
	case share > 1 && faster(pool.overload, two.overload, 1):
		return s + fmt.Sprintf("Stage 3 refuses %.0f %% at once, and takes %s for the others. A pool is not there for speed, but to say no in time.",
			share, slowest(pool.overload))
	}
	return s + fmt.Sprintf("Stage 3 refused %.0f %%, and took %s, which shows no gain.", share, slowest(pool.overload))
}

// slowest says how long an overloaded stage took to answer.
func slowest(r *load.Result) string {
	if r.Unfinished > 0 {
		return fmt.Sprintf("%s at p99 (%s left at the end)", p99(r), text.Plural(r.Unfinished, "request"))
	}
	return p99(r) + " at p99"
}

func threeToFour(pool, buckets *row) string {
	s := "3 to 4, a lock for each bucket: with 1 ms of work under the lock, "
	if failure(pool.work)+failure(buckets.work) != "" {
		return s + "some requests failed, which shows nothing."
	}
	s += fmt.Sprintf("stage 3 does %s requests/s and stage 4 %s", throughput(pool.work), throughput(buckets.work))
	if times := perSecond(buckets.work) / perSecond(pool.work); times > 1.5 {
		return s + fmt.Sprintf(", %s times as many: only requests for the same bucket still wait for each other.", text.Sig(times, 2))
	}
	return s + ", which shows no gain."
}

func withoutWork(gain *report.Ratio, held float64) string {
	s := "Without work, what does stage 4 gain? "
	switch {
	case gain.Rounds == 0:
		s += "Not known: in no round did both answer. "
	case gain.NoDifference:
		s += "Nothing that can be shown: "
	case gain.Median > 1:
		s += "A little: "
	default:
		s += "It loses: "
	}
	if gain.Rounds > 0 {
		s += fmt.Sprintf("%s times stage 3, %s in %s. ", text.Sig3(gain.Median), gain.Bounds(), text.Plural(int64(gain.Rounds), "round"))
	}
	s += "Stage 3's lock was held " + text.Sig3(100*held) + " % of the time: "
	if held < 0.3 {
		return s + "a lock that is mostly free costs next to nothing, and many locks cannot cost less."
	}
	return s + "at so much, many locks could have gained."
}

func goroutines(two, pool *row) string {
	a, b := two.crowd, pool.crowd
	s := "A pool saves no goroutines in Go: "
	if b.Goroutines < a.Goroutines {
		s = "Here the pool had fewer goroutines: "
	}
	return s + fmt.Sprintf("stage 2 had %s with %s, stage 3 had %s with %s.",
		text.Count(int64(a.Goroutines)), text.Plural(a.Open, "connection"), text.Count(int64(b.Goroutines)), text.Count(b.Open))
}
