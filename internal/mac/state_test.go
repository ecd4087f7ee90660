package mac

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"github.com/latchkey-pos/latchkey/internal/des"
)

const testKey = "0123456789abcdefFEDCBA98"

// kinds are ways to set a state, with the sizes it has then.
var kinds = []struct {
	name        string
	size, least int
	set         func(*State) error
}{
	{"retail", 8, 4, func(s *State) error { return s.SetRetail([]byte(testKey)[:16], Padding2) }},
	{"retail of three parts", 8, 4, func(s *State) error { return s.SetRetail([]byte(testKey), Padding3) }},
	{"CBC under TDES", 8, 4, func(s *State) error { return s.SetCBC(mustDES(testKey), Padding1) }},
	{"CBC under AES", 16, 4, func(s *State) error { return s.SetCBC(mustAES(testKey), Padding3) }},
	{"CMAC under TDES", 8, 4, func(s *State) error { return s.SetCMAC(mustDES(testKey)) }},
	{"CMAC under AES", 16, 4, func(s *State) error { return s.SetCMAC(mustAES(testKey)) }},
	{"HMAC-SHA-256", 32, 16, func(s *State) error { return s.SetHMAC(SHA256, []byte(testKey)) }},
	{"HMAC-SHA-384", 48, 24, func(s *State) error { return s.SetHMAC(SHA384, []byte(testKey)) }},
	{"HMAC-SHA-512", 64, 32, func(s *State) error { return s.SetHMAC(SHA512, bytes.Repeat([]byte(testKey), 6)) }},
}

func mustDES(key string) *des.Cipher {
	c, err := des.New([]byte(key))
	if err != nil {
		panic(err)
	}
	return c
}

func mustAES(key string) cipher.Block {
	c, err := aes.NewCipher([]byte(key))
	if err != nil {
		panic(err)
	}
	return c
}

// TestStateIsReused takes one state through every kind twice: nothing of the kind before is left.
func TestStateIsReused(t *testing.T) {
	t.Parallel()
	var reused State
	msg := []byte("0200 a message that fills more than one block of every kind there is, which takes some hundred and thirty bytes of text, more or less")
	for range 2 {
		for _, k := range kinds {
			var fresh State
			if err := errors.Join(k.set(&fresh), k.set(&reused)); err != nil {
				t.Fatal(err)
			}
			if reused.Size() != k.size || reused.MinSize() != k.least {
				t.Errorf("%s: %d to %d bytes, want %d to %d", k.name, reused.MinSize(), reused.Size(), k.least, k.size)
			}
			for n := range len(msg) + 1 {
				want, err := fresh.Append(nil, msg[:n], k.size)
				if err != nil {
					t.Fatal(err)
				}
				got, err := reused.Append([]byte("x"), msg[:n], k.size)
				if err != nil || string(got) != "x"+string(want) {
					t.Fatalf("%s of %d bytes: got %X, %v, want x%X", k.name, n, got, err, want)
				}
				if err := reused.Verify(msg[:n], want, k.size); err != nil {
					t.Errorf("%s of %d bytes: %v", k.name, n, err)
				}
			}
		}
	}
}

// TestAllocations: with a key set, nothing is allocated, and with an HMAC set before, keying neither.
func TestAllocations(t *testing.T) {
	msg, out := make([]byte, 1000), make([]byte, 0, maxSize)
	for _, k := range kinds {
		var s State
		if err := k.set(&s); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { out, _ = s.Append(out[:0], msg, k.size) }); n != 0 {
			t.Errorf("%s: Append allocates %v times", k.name, n)
		}
		if n := testing.AllocsPerRun(100, func() {
			var given [maxSize]byte
			copy(given[:], out)
			if s.Verify(msg, given[:k.size], k.size) != nil {
				panic("does not verify")
			}
		}); n != 0 {
			t.Errorf("%s: Verify allocates %v times", k.name, n)
		}
		if !strings.HasPrefix(k.name, "HMAC") {
			continue
		}
		key := bytes.Repeat([]byte(testKey), 6)
		if n := testing.AllocsPerRun(100, func() { _ = s.SetHMAC(Hash(k.size/16-1), key) }); n != 0 {
			t.Errorf("%s: another key allocates %v times", k.name, n)
		}
	}
	b := mustAES(testKey)
	var s State
	if n := testing.AllocsPerRun(100, func() { _ = s.SetCMAC(b) }); n != 0 {
		t.Errorf("CMAC: another key allocates %v times", n)
	}
}

// content are the bytes of the memory behind a pointer.
func content(v reflect.Value) []byte {
	return unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
}

// TestScratchIsWiped looks at the memory of state and hash: after a computation nothing of it is left, after Wipe nothing
// of the key.
func TestScratchIsWiped(t *testing.T) {
	t.Parallel()
	msg := bytes.Repeat([]byte("MESSAGE!"), 33)
	for _, k := range kinds {
		var s State
		if err := k.set(&s); err != nil {
			t.Fatal(err)
		}
		sum, err := s.Append(nil, msg, k.size)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(msg, sum, k.size); err != nil {
			t.Fatal(err)
		}
		st := *s.inner
		if st.sum != [maxSize]byte{} || st.last != [maxBlock]byte{} {
			t.Errorf("%s: the scratch holds %X and %X", k.name, st.sum, st.last)
		}
		hash := st.hash
		if hash != nil {
			unused := digests[Hash(k.size/16-1)-1]()
			if held, want := content(reflect.ValueOf(hash)), content(reflect.ValueOf(unused)); !bytes.Equal(held, want) {
				t.Errorf("%s: the hash holds %X, unused %X", k.name, held, want)
			}
		}
		s.Wipe()
		if *st != (state{des: st.des, hashes: st.hashes}) || s.Size() != 0 || s.MinSize() != 0 {
			t.Errorf("%s: left after Wipe: %+v", k.name, *st)
		}
		if st.des != nil && !keyless(st.des) {
			t.Errorf("%s: the cipher is not wiped", k.name)
		}
		if _, err := s.Append(nil, msg, k.size); !errors.Is(err, ErrKey) {
			t.Errorf("%s: Append after Wipe: %v", k.name, err)
		}
		s.Wipe()
	}
}

// wiped is a cipher that counts.
type wiped struct {
	cipher.Block
	n *int
}

func (w wiped) Wipe() { *w.n++ }

// TestCiphersAreTakenOver: a state wipes what it was set to, when it is wiped or set anew, and never before.
func TestCiphersAreTakenOver(t *testing.T) {
	t.Parallel()
	var s State
	counts := make([]int, 3)
	c := func(i int) wiped { return wiped{mustAES(testKey), &counts[i]} }
	want := func(what string, n ...int) {
		t.Helper()
		for i := range n {
			if (counts[i] > 0) != (n[i] > 0) {
				t.Errorf("%s: wiped %v, want %v", what, counts, n)
			}
		}
	}
	if err := errors.Join(s.SetCMAC(c(0))); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Append(nil, nil, 16)
	want("after use", 0, 0, 0)
	if err := s.SetCBC(c(1), Padding1); err != nil {
		t.Fatal(err)
	}
	want("set anew", 1, 0, 0)
	if err := s.SetRetail([]byte(testKey), Padding1); err != nil {
		t.Fatal(err)
	}
	want("set to a retail MAC", 1, 1, 0)
	if err := s.SetCBC(c(2), Padding1); err != nil {
		t.Fatal(err)
	}
	s.Wipe()
	want("after Wipe", 1, 1, 1)
	var kept int
	_ = CMAC(nil, wiped{mustAES(testKey), &kept}, nil)
	if _, err := CBC(nil, wiped{mustAES(testKey), &kept}, nil, Padding1); err != nil || kept != 0 {
		t.Errorf("the caller's cipher is wiped %d times, %v", kept, err)
	}
}

// TestPrintsNothing: fmt makes an address of a state, not its hundreds of bytes.
func TestPrintsNothing(t *testing.T) {
	t.Parallel()
	type holder struct{ s State }
	for _, k := range kinds {
		var s State
		if err := k.set(&s); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
			for _, v := range []any{s, &s, holder{s}, &holder{s}, []State{s}} {
				out := fmt.Sprintf(verb, v)
				if len(out) > 150 {
					t.Errorf("%s under %s prints more than an address: %s", k.name, verb, out)
				}
			}
		}
	}
}

// keyless reports whether a cipher has lost its key.
func keyless(c *des.Cipher) (is bool) {
	defer func() { is = recover() != nil }()
	c.Encrypt(make([]byte, 8), make([]byte, 8))
	return false
}
