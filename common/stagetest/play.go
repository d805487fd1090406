//go:build interleave

package stagetest

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/common/metrics"
	"lockstep/common/node"
	"lockstep/common/wire"
)

// Play lets the reader be the scheduler of two clients of a store. Each adds 1 to n, with a get
// and then a put; the arguments behind -args say who goes on, one step each. Can an update be
// lost? The test fails however it ends, as go test shows nothing of a test that passes.
//
//	go test -tags interleave ./stage2_coarselock -run Play -args 1 2 2 1
func Play(t *testing.T, newStore func(*node.Node) Store) {
	if flag.NArg() == 0 {
		t.Skip("say which client goes on, step by step: -args 1 2 2 1")
	}
	t.Error(play(newStore(newNode()), flag.Args()))
}

// play returns the steps, and what came of them.
func play(store Store, clients []string) string {
	value := func() string { return string(store([]wire.Op{get("n")})[0].Value) }
	s := &scheduler{patience: 5 * time.Second, over: make(chan struct{}, 2), owner: make(map[*metrics.Mutex]*thread)}
	s.store = func([]wire.Op) []wire.Result {
		found, _ := strconv.Atoi(value())
		s.note(s.current, fmt.Sprintf("was answered %d, will put %d", found, found+1))
		return store([]wire.Op{put("n", strconv.Itoa(found+1))})
	}
	s.choose = func(able []*thread) *thread {
		var can []string
		for _, t := range able {
			can = append(can, strconv.Itoa(t.Client))
			if len(clients) > 0 && clients[0] == can[len(can)-1] {
				clients = clients[1:]
				return t
			}
		}
		s.wrong = fmt.Sprintf("now client %s can go on, and the arguments left are %v", strings.Join(can, " or "), clients)
		return nil
	}
	store([]wire.Op{put("n", "0")})
	s.control(func() { s.execute(1, []wire.Op{put("n", "")}, []wire.Op{put("n", "")}) })
	if s.wrong == "" {
		s.wrong = "an update is lost: each client added 1 to 0, and n is " + value()
		if value() == "2" {
			s.wrong = "no update is lost: n is 2"
		}
	}
	return fmt.Sprintf("%s\n\n     %-*sclient 2: n + 1%s", s.wrong, columnWidth, "client 1: n + 1", s.table)
}
