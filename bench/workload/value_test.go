package workload

import (
	"strings"
	"testing"

	"lockstep/common/cluster"
)

func TestValueText(t *testing.T) {
	const want = "key-017 by 3 #42 "
	got := string(appendValue(nil, "key-017", newStamp(3, 42), cluster.Bytes(30)))
	if len(got) != 30 || !strings.HasPrefix(got, want) {
		t.Errorf("value is %q (%d bytes), want %q and filler up to 30 bytes", got, len(got), want)
	}
	if filler := got[len(want):]; strings.Trim(filler, "abcdefghijklmnop") != "" {
		t.Errorf("filler is %q, want letters", filler)
	}
	if got := string(appendValue([]byte("before"), "key-017", newStamp(3, 42), cluster.Bytes(9))); got != "beforekey-017 b" {
		t.Errorf("value of 9 bytes, appended, gives %q, want %q", got, "beforekey-017 b")
	}
}

func TestVerify(t *testing.T) {
	const key = "key-017"
	stamps := []stamp{0, newStamp(1, 1), newStamp(3, 42), newStamp(90, 123456), newStamp(1<<27-1, 1<<numberBits-1)}
	for n := range 70 {
		size := cluster.Bytes(n)
		for _, s := range stamps {
			value := appendValue(nil, key, s, size)
			got, _, err := verify(nil, key, value, size)
			if err != nil {
				t.Fatalf("verify of %q: %v", value, err)
			}
			// The stamp that was read writes the same value, also where it could not be read whole.
			if again := appendValue(nil, key, got, size); string(again) != string(value) {
				t.Fatalf("stamp %d of %q writes %q", got, value, again)
			}
			if n >= 40 && got != s {
				t.Errorf("stamp of %q is %d, want %d", value, got, s)
			}
			for i := range value {
				bad := []byte(string(value))
				bad[i] ^= 1
				// Without filler, another digit in the stamp is another value.
				if _, _, err := verify(nil, key, bad, size); err == nil && n > 45 {
					t.Fatalf("verify accepts %q", bad)
				}
			}
		}
	}
}

func TestVerifyErrors(t *testing.T) {
	const key = "key-017"
	size, sizes := cluster.Bytes(60), cluster.Size{Min: 101, Max: 200}
	value := appendValue(nil, key, newStamp(3, 42), size)
	other := appendValue(nil, key, newStamp(4, 42), size)
	ranged := appendValue(nil, key, newStamp(3, 42), sizes)
	for _, test := range []struct {
		name  string
		bad   []byte
		sizes cluster.Size
	}{
		{"nil", nil, size},
		{"cut", value[:59], size},
		{"too long", append(append([]byte{}, value...), 'a'), size},
		{"of another key", appendValue(nil, "key-018", newStamp(3, 42), size), size},
		{"of another size", appendValue(nil, key, newStamp(3, 42), cluster.Bytes(50)), size},
		{"half and half", append(append([]byte{}, value[:40]...), other[40:]...), size},
		{"a leading zero", []byte(strings.Replace(string(value), "#42 ", "#042", 1)), size},
		{"a number too long", []byte("key-017 by 3 #99999999999999999999999999999999999999999999999"), size},
		{"by hand", []byte("blue"), size},
		{"zeros", make([]byte, 60), size},
		{"of a range, cut", ranged[:len(ranged)-1], sizes},
		{"of a range, cut in the stamp", ranged[:14], sizes},
		{"of a range, by another writer", append([]byte("key-017 by 4"), ranged[12:]...), sizes},
		{"too short for the range", []byte("key-017 "), cluster.Size{Min: 9, Max: 36}},
		{"too long for the range", []byte("key-017 "), cluster.Size{Min: 2, Max: 7}},
	} {
		if _, _, err := verify(nil, key, test.bad, test.sizes); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: verify of %q has the error %v, want one with the key", test.name, test.bad, err)
		}
	}
}

// The stamp determines the size of a value in a range, and all sizes are equally likely, also
// those that do not hold key and stamp: such a value is verified as far as it goes.
func TestValueRange(t *testing.T) {
	const key = "key-017"
	for _, sizes := range []cluster.Size{{Min: 16, Max: 1039}, {Min: 0, Max: 36}} {
		counts := make([]int, sizes.Max-sizes.Min+1)
		for number := range uint64(10_000) {
			s := newStamp(12, number)
			value := appendValue([]byte("before"), key, s, sizes)[len("before"):]
			counts[len(value)-sizes.Min]++
			want := s
			if len(value) < len(appendText(nil, key, s)) {
				want = unknown
			}
			if got, _, err := verify(nil, key, value, sizes); err != nil || got != want {
				t.Fatalf("verify of %q: stamp %d, error %v, want %d", value, got, err, want)
			}
			if n := len(value); n > 0 {
				value[n-1] ^= 64
				if _, _, err := verify(nil, key, value, sizes); err == nil {
					t.Fatalf("verify accepts %q", value)
				}
			}
		}
		if sum, limit := chiSquare(counts, func(int) float64 { return 1 }); sum > limit {
			t.Errorf("chi-square of the sizes %v is %.1f, want at most %.1f", sizes, sum, limit)
		}
	}
}
