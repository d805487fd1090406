package wire

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"net"
	"slices"
	"strings"
	"testing"
)

// Protocols that everybody writes first. They are kept because each looks right
// until it meets the case that is below:
//
//	go test ./common/wire -run Specimen -v

// show prints what was expected and what came of it, and fails the test if that
// is not what the course says.
func show(t *testing.T, prediction string, got, want []string) {
	t.Helper()
	t.Logf("prediction: %s\nfound: %q", prediction, got)
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// A line is a message, and a Read is taken to be a line. TCP keeps the order of
// bytes, and nothing of how they were written.
func TestSpecimenOneReadIsOneMessage(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		writes, want     []string
	}{
		{"one write", "one message: this is why the mistake is believed",
			[]string{"PUT color blue\n"}, []string{"PUT color blue\n"}},
		{"two messages in one write", "two messages arrive as one",
			[]string{"PUT color blue\nPUT shape round\n"}, []string{"PUT color blue\nPUT shape round\n"}},
		{"one message in two writes", "one message arrives as two, and the first is a valid one",
			[]string{"PUT color bl", "ue\n"}, []string{"PUT color bl", "ue\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := tcp(t)
			var got []string
			for _, text := range c.writes {
				if _, err := client.Write([]byte(text)); err != nil {
					t.Fatal(err)
				}
				message := make([]byte, 1024)
				n, err := server.Read(message) // the mistake
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(message[:n]))
			}
			show(t, c.prediction, got, c.want)
		})
	}
}

// Read to the newline, a line is a line however it arrives. But now no value may
// hold what ends a line, or a word.
func TestSpecimenDelimiters(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		value            string
		want             []string
	}{
		{"a word", "one message of three words",
			"blue", []string{"PUT|color|blue"}},
		{"a value with a space", "a word too many: what is the value?",
			"light blue", []string{"PUT|color|light|blue"}},
		{"a value with a newline", "whoever chooses a value can give commands",
			"blue\nDELETE shape", []string{"PUT|color|blue", "DELETE|shape"}},
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
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		frame, err := AppendRequest(nil, &Request{Ops: []Op{{Kind: Put, Key: "color", Value: []byte("blue\nDELETE shape")}}})
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends when all is read, or the pipe closed
			for i := range frame {
				client.Write(frame[i : i+1])
			}
		}()
		c := newConn(server, Limits{})
		var r Request
		if !c.Ready() || !c.ReadRequest(&r) {
			t.Fatal(c.Err())
		}
		show(t, "a length in front: the value is itself, in however many pieces it comes",
			[]string{r.Ops[0].Kind.String(), r.Ops[0].Key, string(r.Ops[0].Value)}, []string{"put", "color", "blue\nDELETE shape"})
	})
}

// A plain gob stream describes a type before its first value, and only then: the
// messages of one stream are not independent.
func TestSpecimenSkippedFrame(t *testing.T) {
	for _, c := range []struct {
		name, prediction string
		skip             int
		want             []string
	}{
		{"none", "all are decoded", -1, []string{"a", "b", "c"}},
		{"the second", "the others are decoded", 1, []string{"a", "c"}},
		{"the first", "no other can be decoded: the first one held the description", 0,
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
					continue // refused unread, say because it was too large
				}
				received.Write(frame)
				var op Op
				if err := dec.Decode(&op); err != nil {
					got = append(got, err.Error())
				} else {
					got = append(got, op.Key)
				}
			}
			show(t, c.prediction, got, c.want)
		})
	}
}

// Gob leaves fields out that are zero, and Decode leaves alone what is left out.
func TestSpecimenReusedStruct(t *testing.T) {
	const get, put = 0, 1
	type request struct {
		Kind       int
		Key, Value string
	}
	var stream bytes.Buffer
	enc, dec := gob.NewEncoder(&stream), gob.NewDecoder(&stream)
	var got []string
	var r request // the mistake: one for all
	for _, sent := range []request{{put, "color", "blue"}, {get, "shape", ""}} {
		if err := enc.Encode(sent); err != nil {
			t.Fatal(err)
		}
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got = append(got, []string{"get ", "put "}[r.Kind]+r.Key+" "+r.Value)
	}
	show(t, "get shape arrives as put shape blue", got, []string{"put color blue", "put shape blue"})
}

// Decode fills in a byte slice that is there, if it is long enough. Who has kept
// it sees it change.
func TestSpecimenReusedSlice(t *testing.T) {
	var stream bytes.Buffer
	enc, dec := gob.NewEncoder(&stream), gob.NewDecoder(&stream)
	stored := make(map[string][]byte)
	var op Op // the mistake: one for all
	for _, sent := range []Op{{Kind: Put, Key: "color", Value: []byte("blue")}, {Kind: Put, Key: "other", Value: []byte("grey")}} {
		if err := enc.Encode(sent); err != nil {
			t.Fatal(err)
		}
		if err := dec.Decode(&op); err != nil {
			t.Fatal(err)
		}
		stored[op.Key] = op.Value
	}
	show(t, "the second put changes the first key, too",
		[]string{string(stored["color"]), string(stored["other"])}, []string{"grey", "grey"})
}
