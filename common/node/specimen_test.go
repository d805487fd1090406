package node

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/common/wire"
)

// Two servers that answer everything, and treat their clients badly. The tests run in bubbles
// of package synctest, whose clock jumps ahead when all goroutines wait:
//
//	go test ./common/node -run Specimen -v

// A worker is a channel with room for one value. It executes one turn at a time, in the order in which
// they come: who has sent a value has it. Each request takes 1 ms.
func slowly(ops []wire.Op) []wire.Result {
	<-time.After(time.Millisecond)
	return missing(ops)
}

// One client has thousands of gets in flight. Another one has one. How long does it wait for
// the answer, if both share a worker?
func TestSpecimenUnfairTurn(t *testing.T) {
	answerAll := func(n *Node, c *Conn) {
		for whole := true; whole && c.Unsent() < wire.MaxUnsent; _, _, whole = c.Next() { // the mistake
			n.Answer(c, slowly)
		}
	}
	for _, c := range []struct {
		name, prediction string
		answer           func(*Node, *Conn)
		least, most      time.Duration
	}{
		{"a turn is what has arrived", "seconds: the worker answers a full buffer of requests first",
			answerAll, 3 * time.Second, 6 * time.Second},
		{"a turn is 16 requests at most", "for 16 requests of the other client, and for its own",
			func(n *Node, c *Conn) { n.Answer(c, slowly) }, 17 * time.Millisecond, 17 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := slowestGet(t, c.answer)
				t.Logf("prediction: %s\nfound: of 5 gets the slowest takes %v", c.prediction, got)
				if got < c.least || got > c.most {
					t.Errorf("the slowest get takes %v, want %v to %v", got, c.least, c.most)
				}
			})
		})
	}
}

// slowestGet sends five gets, one after another, while another client of the worker always
// has more in flight than a buffer can hold.
func slowestGet(t *testing.T, answer func(*Node, *Conn)) (slowest time.Duration) {
	n, _ := newNode(nil)
	frame, _ := wire.AppendRequest(nil, &wire.Request{Ops: get("k")})
	frames := bytes.Repeat(frame, 10_000)
	single, other := connect(t, n, t.Context())
	near, far := net.Pipe()
	go io.Copy(io.Discard, near) // ends when near is closed, as the next one
	go func() {
		for err := error(nil); err == nil; _, err = near.Write(frames) {
		}
	}()
	pipelining := n.greet(t.Context(), far)
	worker := make(chan struct{}, 1)
	var all sync.WaitGroup
	defer all.Wait()
	defer near.Close()
	defer other.Close()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, c := range []*Conn{pipelining, single} {
		all.Go(func() { // ends with ctx, or when its client leaves
			for ctx.Err() == nil && c.Ready() {
				worker <- struct{}{}
				answer(n, c)
				<-worker
				c.Flush()
			}
		})
	}
	for range 5 {
		start := time.Now()
		if code := send(other, get("k"))[0]; code != wire.OK {
			t.Errorf("answered %v", code)
		}
		slowest = max(slowest, time.Since(start))
	}
	return slowest
}

// Eight clients share a worker and a queue with room for one: who finds both taken hears Busy.
// Seven clients back off then, and one sends again at once. How many answers does each get?
func TestSpecimenFreeRefusal(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		refuse           func(*Node, *Conn)
		least, most      float64 // the answers of the one, over the mean of the others
	}{
		{"Busy costs nothing", "the one takes each place that is freed, before the others ask again",
			func(n *Node, c *Conn) { n.Refuse(c); c.pause = 0 }, 3, 5}, // the mistake
		{"a pause follows Busy", "the one gains nothing: it backs off, too, since the server does so for it",
			(*Node).Refuse, 0.5, 1.25},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, others := answersInASecond(t, c.refuse), 0
				for _, answers := range got[1:] {
					others += answers
				}
				ratio := float64(got[0]) / float64(others) * float64(len(got)-1)
				t.Logf("prediction: %s\nfound: in 1 s, %d answers for the one, %v for the others: %.1f times their mean",
					c.prediction, got[0], got[1:], ratio)
				if ratio < c.least || ratio > c.most {
					t.Errorf("the one gets %.2f times what the others get, want %v to %v", ratio, c.least, c.most)
				}
			})
		})
	}
}

// answersInASecond returns how many answers each client gets. The first one ignores Busy.
// Each sends its next request about 1 ms after an answer.
func answersInASecond(t *testing.T, refuse func(*Node, *Conn)) (answers [8]int) {
	n, _ := newNode(nil)
	worker, places := make(chan struct{}, 1), make(chan struct{}, 2)
	var all sync.WaitGroup
	defer all.Wait()
	end := time.Now().Add(time.Second)
	for i := range answers {
		c, client := connect(t, n, t.Context())
		all.Go(func() { // ends when the client leaves
			defer c.Close()
			for c.Ready() {
				select {
				case places <- struct{}{}:
					worker <- struct{}{}
					n.Answer(c, slowly)
					<-worker
					<-places
				default:
					refuse(n, c)
				}
				c.Flush()
			}
		})
		all.Go(func() { // ends after a second
			defer client.Close()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			wait := func(d time.Duration) { <-time.After(d/2 + time.Duration(random.Int64N(int64(d)))) }
			for pause := time.Millisecond; time.Now().Before(end); {
				wait(100 * time.Microsecond) // for the network
				if send(client, get("k"))[0] == wire.OK {
					answers[i]++
					pause = time.Millisecond
					wait(time.Millisecond)
				} else if i > 0 {
					wait(pause)
					pause = min(2*pause, 100*time.Millisecond)
				}
			}
		})
	}
	all.Wait()
	return answers
}
