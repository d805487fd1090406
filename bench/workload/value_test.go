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
	size := cluster.Bytes(60)
	value := appendValue(nil, key, newStamp(3, 42), size)
	other := appendValue(nil, key, newStamp(4, 42), size)
	for name, bad := range map[string][]byte{
		"empty":             {},
		"nil":               nil,
		"cut":               value[:59],
		"too long":          append(append([]byte{}, value...), 'a'),
		"of another key":    appendValue(nil, "key-018", newStamp(3, 42), size),
		"of another size":   appendValue(nil, key, newStamp(3, 42), cluster.Bytes(50)),
		"half and half":     append(append([]byte{}, value[:40]...), other[40:]...),
		"a leading zero":    []byte(strings.Replace(string(value), "#42 ", "#042", 1)),
		"a number too long": []byte("key-017 by 3 #99999999999999999999999999999999999999999999999"),
		"by hand":           []byte("blue"),
		"zeros":             make([]byte, 60),
	} {
		if _, _, err := verify(nil, key, bad, size); err == nil {
			t.Errorf("%s: verify accepts %q", name, bad)
		} else if !strings.Contains(err.Error(), key) {
			t.Errorf("%s: the error %q does not name the key", name, err)
		}
	}
}

// The stamp determines the size of a value in a range, and all sizes are equally likely.
func TestValueRange(t *testing.T) {
	const key = "key-017"
	sizes := cluster.Size{Min: 101, Max: 200}
	counts := make([]int, 100)
	for writer := range uint64(20) {
		for number := range uint64(1000) {
			s := newStamp(writer, number)
			value := appendValue([]byte("before"), key, s, sizes)[len("before"):]
			counts[len(value)-sizes.Min]++
			if got, _, err := verify(nil, key, value, sizes); err != nil || got != s {
				t.Fatalf("verify of %q: stamp %d, error %v, want %d", value, got, err, s)
			}
		}
	}
	if sum, limit := chiSquare(counts, func(int) float64 { return 1 }); sum > limit {
		t.Errorf("chi-square of the sizes is %.1f, want at most %.1f", sum, limit)
	}
	value := appendValue(nil, key, newStamp(3, 42), sizes)
	for name, bad := range map[string][]byte{
		"cut":               value[:len(value)-1],
		"cut in the stamp":  value[:14],
		"of another writer": append([]byte("key-017 by 4"), value[12:]...),
	} {
		if _, _, err := verify(nil, key, bad, sizes); err == nil {
			t.Errorf("%s: verify accepts %q, where %q was stored", name, bad, value)
		}
	}
}

// Sizes that do not hold key and stamp are as likely as the others, and are verified as far as
// they go.
func TestSmallValueRange(t *testing.T) {
	const key = "key-017"
	sizes := cluster.Size{Min: 0, Max: 36}
	counts := make([]int, 37)
	for number := range uint64(37_000) {
		s := newStamp(12, number)
		value := appendValue(nil, key, s, sizes)
		counts[len(value)]++
		got, _, err := verify(nil, key, value, sizes)
		if whole := len(value) >= len(appendText(nil, key, s)); err != nil || whole && got != s || !whole && got != cut {
			t.Fatalf("verify of %q: stamp %d, error %v, want %d", value, got, err, s)
		}
		if n := len(value); n > 0 {
			value[n-1] ^= 64
			if _, _, err := verify(nil, key, value, sizes); err == nil {
				t.Fatalf("verify accepts %q", value)
			}
		}
	}
	if sum, limit := chiSquare(counts, func(int) float64 { return 1 }); sum > limit {
		t.Errorf("chi-square of the sizes is %.1f, want at most %.1f: %v", sum, limit, counts)
	}
	for _, size := range []cluster.Size{{Min: 9, Max: 36}, {Min: 2, Max: 7}} {
		if _, _, err := verify(nil, key, []byte("key-017 "), size); err == nil {
			t.Errorf("verify accepts 8 bytes of %v", size)
		}
	}
}
