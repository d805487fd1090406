package barrier_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"lockstep/common/barrier"
)

// Three processes, here in one program, meet before they start and when they are done.
// The second time each brings its result.
func Example() {
	var ports []net.Listener
	var addrs []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			return
		}
		ports, addrs = append(ports, ln), append(addrs, ln.Addr().String())
	}

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	process := func(self int) {
		b := barrier.New(ports[self], barrier.Config{Group: "clients", Self: self, Peers: addrs})
		defer b.Close()
		if _, err := b.Wait(ctx, nil); err != nil {
			fmt.Println(err)
			return
		}
		result := fmt.Sprint(100 * (self + 1)) // of work that begins at the same time everywhere
		results, err := b.Wait(ctx, []byte(result))
		fmt.Printf("%s %v\n", results, err)
	}
	var wg sync.WaitGroup
	for self := range ports {
		wg.Go(func() { process(self) })
	}
	wg.Wait()
	// Output:
	// [100 200 300] <nil>
	// [100 200 300] <nil>
	// [100 200 300] <nil>
}
