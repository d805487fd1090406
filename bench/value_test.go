package main

import (
	"strings"
	"testing"
)

func TestValueText(t *testing.T) {
	const want = "key-017 by 3 #42 "
	got := string(appendValue(nil, "key-017", newStamp(3, 42), 30))
	if len(got) != 30 || !strings.HasPrefix(got, want) {
		t.Errorf("value is %q (%d bytes), want %q and filler up to 30 bytes", got, len(got), want)
	}
	if filler := got[len(want):]; strings.Trim(filler, "abcdefghijklmnop") != "" {
		t.Errorf("filler is %q, want letters", filler)
	}
	if got := string(appendValue([]byte("before"), "key-017", newStamp(3, 42), 9)); got != "beforekey-017 b" {
		t.Errorf("value of 9 bytes, appended, gives %q, want %q", got, "beforekey-017 b")
	}
}

func TestVerify(t *testing.T) {
	const key = "key-017"
	stamps := []stamp{0, newStamp(1, 1), newStamp(3, 42), newStamp(90, 123456), newStamp(1<<27-1, 1<<numberBits-1)}
	for size := range 70 {
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
			if size >= 40 && got != s {
				t.Errorf("stamp of %q is %d, want %d", value, got, s)
			}
			for i := range value {
				bad := []byte(string(value))
				bad[i] ^= 1
				// Where there is no filler to tell, one digit more or less is another value.
				if _, _, err := verify(nil, key, bad, size); err == nil && size > 45 {
					t.Fatalf("verify accepts %q", bad)
				}
			}
		}
	}
}

func TestVerifyErrors(t *testing.T) {
	const key, size = "key-017", 60
	value := appendValue(nil, key, newStamp(3, 42), size)
	other := appendValue(nil, key, newStamp(4, 42), size)
	for name, bad := range map[string][]byte{
		"empty":             {},
		"nil":               nil,
		"cut":               value[:59],
		"too long":          append(append([]byte{}, value...), 'a'),
		"of another key":    appendValue(nil, "key-018", newStamp(3, 42), size),
		"of another size":   appendValue(nil, key, newStamp(3, 42), 50),
		"half and half":     append(append([]byte{}, value[:40]...), other[40:]...),
		"a leading zero":    []byte(strings.Replace(string(value), "#42 ", "#042", 1)),
		"a number too long": []byte("key-017 by 3 #99999999999999999999999999999999999999999999999"),
		"by hand":           []byte("blue"),
		"zeros":             make([]byte, size),
	} {
		if _, _, err := verify(nil, key, bad, size); err == nil {
			t.Errorf("%s: verify accepts %q", name, bad)
		} else if !strings.Contains(err.Error(), key) {
			t.Errorf("%s: the error %q does not name the key", name, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{30, 16 << 10} {
		b.Run("size="+count(int64(size)), func(b *testing.B) {
			value := appendValue(nil, "key-017", newStamp(3, 42), size)
			var scratch []byte
			for b.Loop() {
				_, scratch, _ = verify(scratch, "key-017", value, size)
			}
		})
	}
}
