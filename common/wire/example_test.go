package wire_test

import (
	"context"
	"fmt"
	"net"

	"lockstep/common/wire"
)

// The two ends of a connection: the server greets, the client checks the greeting, and each
// request has its answer.
func Example() {
	hello := wire.Hello{Purpose: wire.Service, Group: "nodes"}
	server, client := net.Pipe()
	go func() { // ends when the client has left
		c, err := wire.Greet(server, hello, wire.Limits{})
		var request wire.Request
		for err == nil && c.Ready() && c.ReadRequest(&request) {
			fmt.Println("asked for", request.Ops[0].Key)
			c.WriteResponse(&wire.Response{Code: wire.OK, Results: wire.Results{{Status: wire.Found, Value: []byte("blue")}}})
			c.Flush()
		}
	}()

	c, err := wire.Open(context.Background(), client, hello, wire.Limits{})
	if err != nil {
		fmt.Println(err) // such as wire.ErrMismatch
		return
	}
	defer c.Close()
	c.WriteRequest(&wire.Request{Ops: wire.Ops{{Kind: wire.Get, Key: "color"}}})
	c.Flush()
	var response wire.Response
	if c.ReadResponse(&response) { // otherwise, c.Err says why
		fmt.Printf("%v: %v, %s\n", response.Code, response.Results[0].Status, response.Results[0].Value)
	}
	// Output:
	// asked for color
	// ok: found, blue
}
