package mac

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"math"
	"testing"
)

// odd is a cipher with blocks of another size.
type odd int

func (o odd) BlockSize() int          { return int(o) }
func (o odd) Encrypt(dst, src []byte) { copy(dst, src) }
func (o odd) Decrypt(dst, src []byte) { copy(dst, src) }

var _ cipher.Block = odd(0)

type hostile struct {
	name string
	want error
	try  func(s *State) error
}

// hostileSettings are keys, ciphers, paddings and hashes that no algorithm takes.
func hostileSettings() (all []hostile) {
	add := func(name string, want error, try func(*State) error) { all = append(all, hostile{name, want, try}) }
	for n := range 66 {
		if n != 16 && n != 24 {
			add(fmt.Sprintf("retail key of %d bytes", n), ErrKey, func(s *State) error { return s.SetRetail(make([]byte, n), Padding2) })
		}
	}
	for _, p := range []Padding{0, 4, 5, 127, 255} {
		for _, n := range []int{16, 24} {
			add(fmt.Sprintf("retail padding %d under %d bytes", p, n), ErrPadding, func(s *State) error { return s.SetRetail(make([]byte, n), p) })
		}
		add(fmt.Sprintf("CBC padding %d", p), ErrPadding, func(s *State) error { return s.SetCBC(mustAES(testKey), p) })
	}
	for _, size := range []int{0, 1, 4, 7, 9, 12, 15, 17, 24, 32, 64, 128, 256} {
		add(fmt.Sprintf("CMAC with blocks of %d", size), ErrKey, func(s *State) error { return s.SetCMAC(odd(size)) })
		add(fmt.Sprintf("CBC with blocks of %d", size), ErrKey, func(s *State) error { return s.SetCBC(odd(size), Padding1) })
	}
	add("CMAC without cipher", ErrKey, func(s *State) error { return s.SetCMAC(nil) })
	add("CBC without cipher", ErrKey, func(s *State) error { return s.SetCBC(nil, Padding1) })
	for _, h := range []Hash{0, 4, 5, 128, 255} {
		add(fmt.Sprintf("HMAC with hash %d", h), ErrKey, func(s *State) error { return s.SetHMAC(h, []byte(testKey)) })
	}
	for h := SHA256; h <= SHA512; h++ {
		add(fmt.Sprintf("HMAC %d without key", h), ErrKey, func(s *State) error { return s.SetHMAC(h, nil) })
	}
	return all
}

// hostileUses are lengths that no MAC has, and MACs of other lengths than required.
func hostileUses(setting func(*State) error, size, least int) (all []hostile) {
	add := func(name string, want error, try func(*State) error) {
		all = append(all, hostile{name, want, func(s *State) error {
			if err := setting(s); err != nil {
				return err
			}
			return try(s)
		}})
	}
	msg := []byte("hostile")
	for _, length := range []int{math.MinInt, -1, 0, 1, 2, 3, least - 1, size + 1, size + 8, 65, 128, math.MaxInt} {
		add(fmt.Sprintf("MAC of %d bytes", length), ErrLength, func(s *State) error {
			got, err := s.Append([]byte("x"), msg, length)
			if string(got) != "x" {
				return fmt.Errorf("Append gave %X and %v", got, err)
			}
			return err
		})
		add(fmt.Sprintf("check of a MAC of %d bytes", length), ErrLength, func(s *State) error { return s.Verify(msg, make([]byte, 8), length) })
	}
	for _, given := range []int{-1, 0, 1, 3, least - 1, size/2 + 1, size - 1, size + 1, 64, 65} {
		if given == size {
			continue
		}
		add(fmt.Sprintf("%d bytes of the right MAC", given), ErrVerify, func(s *State) error {
			sum, err := s.Append(nil, msg, size)
			if err != nil {
				return err
			}
			if given < 0 {
				return s.Verify(msg, nil, size)
			}
			return s.Verify(msg, append(sum, make([]byte, 65)...)[:given], size)
		})
	}
	add("longer than required", ErrVerify, func(s *State) error {
		sum, err := s.Append(nil, msg, size)
		if err != nil {
			return err
		}
		return s.Verify(msg, sum, size-1)
	})
	return all
}

// TestHostile wants each refusal of its class, and a state that is refused its key to have none.
func TestHostile(t *testing.T) {
	t.Parallel()
	n := 0
	for _, c := range hostileSettings() {
		n++
		s := new(State)
		if err := s.SetCMAC(mustAES(testKey)); err != nil {
			t.Fatal(err)
		}
		if err := c.try(s); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if s.Size() != 0 {
			t.Errorf("%s: refused, and the key of before is still there", c.name)
		}
	}
	for _, k := range kinds {
		for _, c := range hostileUses(k.set, k.size, k.least) {
			n++
			if err := c.try(new(State)); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: got %v, want %v", k.name, c.name, err, c.want)
			}
		}
	}
	var none State
	if _, err := none.Append(nil, nil, 8); !errors.Is(err, ErrKey) {
		t.Errorf("Append without a key: %v", err)
	}
	if err := none.Verify(nil, make([]byte, 8), 8); !errors.Is(err, ErrKey) {
		t.Errorf("Verify without a key: %v", err)
	}
	none.Wipe()
	if none.Size() != 0 || none.MinSize() != 0 {
		t.Error("a state without a key has a size")
	}
	if n += 2; n < 300 {
		t.Errorf("%d hostile inputs, want at least 300", n)
	}
	t.Logf("hostile inputs: %d", n)
}

func TestCMACPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a cipher of other blocks is accepted")
		}
	}()
	CMAC(nil, odd(32), nil)
}

// FuzzVerify flips one bit anywhere: of the message, of the MAC or of its length. Only the MAC itself is accepted.
func FuzzVerify(f *testing.F) {
	for i := range kinds {
		f.Add(uint8(i), uint8(8), []byte("4012345678909D987"), uint16(3*i))
	}
	f.Add(uint8(0), uint8(4), []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, kind, length uint8, msg []byte, flip uint16) {
		k := kinds[int(kind)%len(kinds)]
		var s State
		if err := k.set(&s); err != nil {
			t.Fatal(err)
		}
		n := k.least + int(length)%(k.size-k.least+1)
		sum, err := s.Append(nil, msg, n)
		if err != nil || len(sum) != n {
			t.Fatalf("%s: %X, %v", k.name, sum, err)
		}
		if err := s.Verify(msg, sum, n); err != nil {
			t.Fatalf("%s: the MAC itself: %v", k.name, err)
		}
		both := append(bytes.Clone(sum), msg...)
		at := int(flip) % (8 * len(both))
		both[at/8] ^= 1 << (at % 8)
		bad, other := both[:n], both[n:]
		if err := s.Verify(other, bad, n); err != ErrVerify {
			t.Fatalf("%s: bit %d of %X, %X flipped: %v", k.name, at, sum, msg, err)
		}
		if n < k.size {
			long, err := s.Append(nil, msg, n+1)
			if err != nil || !bytes.Equal(long[:n], sum) {
				t.Fatalf("%s: %X is not the start of %X, %v", k.name, sum, long, err)
			}
			if err := s.Verify(msg, long, n); err != ErrVerify {
				t.Fatalf("%s: a longer MAC: %v", k.name, err)
			}
		}
		s.Wipe()
	})
}
