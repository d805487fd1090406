package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
)

// The protocols that are usually written first. Each looks right until it meets the case
// below:
//
//	go test ./common/wire -run Specimen -v

// show logs the prediction and the result, and fails the test if the result is not what
// the course says.
func show(t *testing.T, prediction string, got, want []string) {
	t.Helper()
	t.Logf("prediction: %s\nfound: %q", prediction, got)
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// A message is a line, and each Read is taken for a line. But TCP keeps only the order of
// bytes, not how they were split into writes.
func TestSpecimenOneReadIsOneMessage(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		writes           []string
	}{
		{"one write", "one message: which is why the mistake goes unnoticed", []string{"PUT color blue\n"}},
		{"two messages in one write", "two messages arrive as one", []string{"PUT color blue\nPUT shape round\n"}},
		{"one message in two writes", "one message arrives as two, and the first is valid", []string{"PUT color bl", "ue\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := tcp(t)
			var got []string
			for _, text := range c.writes {
				message := make([]byte, 1024)
				client.Write([]byte(text))
				n, err := server.Read(message) // the mistake
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(message[:n]))
			}
			show(t, c.prediction, got, c.writes)
		})
	}
}

// With reads up to the newline, a line arrives as a line. But now no value may contain a
// newline or a space.
func TestSpecimenDelimiters(t *testing.T) {
	for _, c := range []struct {
		name, prediction, value string
		want                    []string
	}{
		{"a word", "one message of three words", "blue", []string{"PUT|color|blue"}},
		{"a value with a space", "one word too many: which is the value?", "light blue", []string{"PUT|color|light|blue"}},
		{"a value with a newline", "a value can contain a command", "blue\nDELETE shape", []string{"PUT|color|blue", "DELETE|shape"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			lines := bufio.NewScanner(strings.NewReader("PUT color " + c.value + "\n"))
			for lines.Scan() {
				got = append(got, strings.Join(strings.Fields(lines.Text()), "|"))
			}
			show(t, c.prediction, got, c.want)
		})
	}
	t.Run("a frame", func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		frame, _ := AppendRequest(nil, &Request{Ops: []Op{{Kind: Put, Key: "color", Value: []byte("blue\nDELETE shape")}}})
		go func() { // ends when all is read, or the pipe closed
			for i := range frame {
				far.Write(frame[i : i+1])
			}
		}()
		c := &Conn{nc: near}
		var r Request
		if !c.Ready() || !c.ReadRequest(&r) {
			t.Fatal(c.Err())
		}
		show(t, "with a length prefix: the value arrives unchanged, in any number of pieces",
			[]string{r.Ops[0].Kind.String(), r.Ops[0].Key, string(r.Ops[0].Value)}, []string{"put", "color", "blue\nDELETE shape"})
	})
}

// A plain gob stream describes a type only before its first value, so its messages depend
// on each other.
func TestSpecimenSkippedFrame(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		skip             int
		want             []string
	}{
		{"none", "all are decoded", -1, []string{"a", "b", "c"}},
		{"the second", "the others are decoded", 1, []string{"a", "c"}},
		{"the first", "none can be decoded: the first one held the description", 0,
			[]string{"gob: unknown type id or corrupted data", "gob: unknown type id or corrupted data"}},
	} {
		t.Run("skip "+c.name, func(t *testing.T) {
			var sent, received bytes.Buffer
			enc, dec := gob.NewEncoder(&sent), gob.NewDecoder(&received)
			var got []string
			for i, key := range []string{"a", "b", "c"} {
				if err := enc.Encode(Op{Kind: Get, Key: key}); err != nil {
					t.Fatal(err)
				}
				frame := sent.Next(sent.Len())
				t.Logf("frame %d: %d bytes", i, len(frame))
				if i == c.skip {
					continue // refused unread, for example as too large
				}
				received.Write(frame)
				var op Op
				err := dec.Decode(&op)
				got = append(got, cmp.Or(op.Key, fmt.Sprint(err)))
			}
			show(t, c.prediction, got, c.want)
		})
	}
}

// Gob does not send zero fields, and Decode does not touch fields that were not sent.
func TestSpecimenReusedStruct(t *testing.T) {
	const get, put = 0, 1
	type request struct {
		Kind       int
		Key, Value string
	}
	var stream bytes.Buffer
	enc, dec := gob.NewEncoder(&stream), gob.NewDecoder(&stream)
	var got []string
	var r request // the mistake: reused
	for _, sent := range []request{{put, "color", "blue"}, {get, "shape", ""}} {
		if err := errors.Join(enc.Encode(sent), dec.Decode(&r)); err != nil {
			t.Fatal(err)
		}
		got = append(got, []string{"get ", "put "}[r.Kind]+r.Key+" "+r.Value)
	}
	show(t, "get shape arrives as put shape blue", got, []string{"put color blue", "put shape blue"})
}

// Decode reuses a byte slice that is long enough, so a value that was kept changes.
func TestSpecimenReusedSlice(t *testing.T) {
	var stream bytes.Buffer
	enc, dec := gob.NewEncoder(&stream), gob.NewDecoder(&stream)
	stored := make(map[string][]byte)
	var op Op // the mistake: reused
	for _, sent := range []Op{{Kind: Put, Key: "color", Value: []byte("blue")}, {Kind: Put, Key: "other", Value: []byte("grey")}} {
		if err := errors.Join(enc.Encode(sent), dec.Decode(&op)); err != nil {
			t.Fatal(err)
		}
		stored[op.Key] = op.Value
	}
	show(t, "the second put changes the first key, too",
		[]string{string(stored["color"]), string(stored["other"])}, []string{"grey", "grey"})
}
