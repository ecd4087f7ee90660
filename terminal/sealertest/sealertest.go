// Package sealertest holds what every terminal.Sealer must do, as tests that any implementation runs.
package sealertest

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
)

// Device is one device under test.
type Device struct {
	// Open returns the sealer of the device, as after a restart. Sealers of one device open what others of it sealed.
	Open func(t *testing.T) terminal.Sealer
	// Insecure says that the key lies where what it seals lies.
	Insecure bool
}

// Run runs the suite. Each call of device makes another device, with another key.
func Run(t *testing.T, device func(t *testing.T) Device) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func(*testing.T) Device)
	}{
		{"RoundTrip", testRoundTrip},
		{"NeverTwice", testNeverTwice},
		{"Label", testLabel},
		{"Altered", testAltered},
		{"Truncated", testTruncated},
		{"OtherDevice", testOtherDevice},
		{"Keeps", testKeeps},
		{"Hides", testHides},
		{"Name", testName},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, device) })
	}
}

const label = "latchkey terminal slot-1"

func seal(t *testing.T, s terminal.Sealer, label string, plain []byte) []byte {
	t.Helper()
	sealed, err := s.Seal(label, plain)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(plain), err)
	}
	return sealed
}

func opens(t *testing.T, s terminal.Sealer, label string, sealed, want []byte) {
	t.Helper()
	got, err := s.Open(label, sealed)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(sealed), err)
	}
	defer got.Wipe()
	if !bytes.Equal(got.Expose(), want) {
		t.Errorf("%d bytes came back as %d others", len(want), got.Len())
	}
}

// refuses demands an error that terminals know as damaged state, and no text.
func refuses(t *testing.T, s terminal.Sealer, what, label string, sealed []byte) {
	t.Helper()
	got, err := s.Open(label, sealed)
	if !errors.Is(err, terminal.ErrState) || !got.IsZero() {
		t.Errorf("%s: %d bytes, %v, want none and ErrState", what, got.Len(), err)
	}
}

// pattern is text of a length.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + n)
	}
	return b
}

// testRoundTrip: lengths around a block, those of the files of a terminal, and nothing at all come back.
func testRoundTrip(t *testing.T, device func(*testing.T) Device) {
	d := device(t)
	s := d.Open(t)
	for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 400, 1088, 16384} {
		sealed := seal(t, s, label, pattern(n))
		opens(t, s, label, sealed, pattern(n))
		opens(t, d.Open(t), label, sealed, pattern(n))
	}
	opens(t, s, "", seal(t, s, "", []byte("x")), []byte("x"))
}

// testNeverTwice: the same text is never sealed to the same bytes, nor under the same random beginning.
func testNeverTwice(t *testing.T, device func(*testing.T) Device) {
	d := device(t)
	seen := map[string]bool{}
	for range 3 {
		s := d.Open(t)
		for range 50 {
			sealed := string(seal(t, s, label, pattern(64)))
			if seen[sealed] {
				t.Fatal("the same bytes twice")
			}
			seen[sealed] = true
		}
	}
}

func testLabel(t *testing.T, device func(*testing.T) Device) {
	s := device(t).Open(t)
	sealed := seal(t, s, label, pattern(40))
	for _, other := range []string{"", label[1:], label + "0", "latchkey terminal slot-2"} {
		refuses(t, s, fmt.Sprintf("label %q", other), other, sealed)
	}
	moved := seal(t, s, "ab", append([]byte("c"), pattern(15)...))
	refuses(t, s, "a label that goes on in the text", "abc", moved)
}

// testAltered flips each bit.
func testAltered(t *testing.T, device func(*testing.T) Device) {
	s := device(t).Open(t)
	sealed := seal(t, s, label, pattern(20))
	for i := range sealed {
		for bit := range 8 {
			b := bytes.Clone(sealed)
			b[i] ^= 1 << bit
			refuses(t, s, fmt.Sprintf("byte %d, bit %d", i, bit), label, b)
		}
	}
	opens(t, s, label, sealed, pattern(20)) // and works on
}

func testTruncated(t *testing.T, device func(*testing.T) Device) {
	s := device(t).Open(t)
	sealed := seal(t, s, label, pattern(33))
	for n := range sealed {
		refuses(t, s, fmt.Sprintf("%d of %d bytes", n, len(sealed)), label, sealed[:n])
	}
	refuses(t, s, "nothing", label, nil)
	refuses(t, s, "one byte more", label, append(bytes.Clone(sealed), 0))
	refuses(t, s, "a block more", label, append(bytes.Clone(sealed), make([]byte, 16)...))
}

func testOtherDevice(t *testing.T, device func(*testing.T) Device) {
	a, b := device(t).Open(t), device(t).Open(t)
	refuses(t, b, "sealed on another device", label, seal(t, a, label, pattern(40)))
}

// testKeeps: a sealer changes neither what it seals nor what it opens, and keeps no hold of it.
func testKeeps(t *testing.T, device func(*testing.T) Device) {
	s := device(t).Open(t)
	plain := pattern(48)
	sealed := seal(t, s, label, plain)
	if !bytes.Equal(plain, pattern(48)) {
		t.Error("Seal changed its text")
	}
	secret.Wipe(plain)
	before := bytes.Clone(sealed)
	opens(t, s, label, sealed, pattern(48))
	if !bytes.Equal(sealed, before) {
		t.Error("Open changed what was sealed")
	}
	opens(t, s, label, sealed, pattern(48))
}

// testHides: no eight bytes of a text stand in what was sealed.
func testHides(t *testing.T, device func(*testing.T) Device) {
	s := device(t).Open(t)
	plain := pattern(128)
	sealed := seal(t, s, label, plain)
	for i := range len(plain) - 7 {
		if bytes.Contains(sealed, plain[i:i+8]) {
			t.Fatalf("bytes %d to %d of the text stand in what was sealed", i, i+7)
		}
	}
}

func testName(t *testing.T, device func(*testing.T) Device) {
	d := device(t)
	if name := d.Open(t).Name(); name == "" || (name == terminal.InsecureFile) != d.Insecure {
		t.Errorf("it is called %q, which production asks for", name)
	}
}
