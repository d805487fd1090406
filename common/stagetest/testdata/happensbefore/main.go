// Command happensbefore writes a variable in one goroutine, and reads it in another one a tenth
// of a second later. Its argument says what comes in between: only time, or a channel, too.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	value := 0
	written := make(chan struct{})
	go func() {
		value = 42
		close(written)
	}()
	time.Sleep(100 * time.Millisecond) // by now it is written
	if os.Args[1] == "channel" {
		<-written
	}
	fmt.Println("the value is", value)
}
