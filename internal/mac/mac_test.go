package mac

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/testvec"
)

func data(v testvec.Vector) []byte {
	if v.Has("data_ascii") {
		return []byte(v.String("data_ascii"))
	}
	return v.Hex("data")
}

// check compares the MAC of msg at every length that may be kept, and wants it refused with any one byte changed.
func check(s *State, msg, want []byte) (n int, err error) {
	defer s.Wipe()
	if s.Size() != len(want) {
		return 0, fmt.Errorf("a MAC of %d bytes, want %d", s.Size(), len(want))
	}
	for length := s.MinSize(); length <= s.Size(); length++ {
		got, err := s.Append(nil, msg, length)
		if err != nil || !bytes.Equal(got, want[:length]) {
			return n, fmt.Errorf("got %X, %v, want %X", got, err, want[:length])
		}
		if err := s.Verify(msg, want[:length], length); err != nil {
			return n, fmt.Errorf("%d bytes: %w", length, err)
		}
		bad := bytes.Clone(want[:length])
		bad[n%length] ^= 1 << (n % 8)
		if err := s.Verify(msg, bad, length); err != ErrVerify {
			return n, fmt.Errorf("%X instead of %X: %w", bad, want[:length], err)
		}
		n++
	}
	return n, nil
}

// set returns a state as a handler needs it.
func set(newCipher func([]byte) (cipher.Block, error), key []byte, to func(*State, cipher.Block) error) (*State, error) {
	b, err := newCipher(key)
	if err != nil {
		return nil, err
	}
	s := new(State)
	return s, to(s, b)
}

func cmacUnder(newCipher func([]byte) (cipher.Block, error)) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		s, err := set(newCipher, v.Hex("key"), (*State).SetCMAC)
		if err != nil {
			return 0, err
		}
		return check(s, data(v), v.Hex("mac"))
	}
}

func cbcUnder(newCipher func([]byte) (cipher.Block, error)) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		s, err := set(newCipher, v.Hex("key"), func(s *State, b cipher.Block) error {
			return s.SetCBC(b, Padding(v.Int("padding")))
		})
		if err != nil {
			return 0, err
		}
		return check(s, data(v), v.Hex("mac"))
	}
}

func newTDES(key []byte) (cipher.Block, error) { return des.New(key) }

var handlers = map[string]testvec.Handler{
	"aes_cmac":          cmacUnder(aes.NewCipher),
	"tdes_cmac":         cmacUnder(newTDES),
	"cbc_mac_alg1_tdes": cbcUnder(newTDES),
	"cbc_mac_alg1_aes":  cbcUnder(aes.NewCipher),
	"retail_mac_alg3": func(v testvec.Vector) (int, error) {
		var s State
		if err := s.SetRetail(v.Hex("key"), Padding(v.Int("padding"))); err != nil {
			return 0, err
		}
		return check(&s, data(v), v.Hex("mac"))
	},
	"retail_mac_alg3_two_keys": func(v testvec.Vector) (int, error) {
		// TDES under twice the same half is single DES, which makes these retail MACs.
		chain, undo := v.Hex("key1"), v.Hex("key2")
		if len(chain) != 16 || !bytes.Equal(chain[:8], chain[8:]) || len(undo) != 16 || !bytes.Equal(undo[:8], undo[8:]) {
			return 0, errors.New("two keys of TDES that are no keys of DES")
		}
		var s State
		if err := s.SetRetail(append(chain[:8:8], undo[:8]...), Padding(v.Int("padding"))); err != nil {
			return 0, err
		}
		return check(&s, data(v), v.Hex("mac"))
	},
	"hmac_sha256": func(v testvec.Vector) (int, error) {
		var s State
		if err := s.SetHMAC(SHA256, v.Hex("key")); err != nil {
			return 0, err
		}
		return check(&s, data(v), v.Hex("mac"))
	},
	"padding_ambiguity": func(v testvec.Vector) (int, error) {
		for p, member := range map[Padding]string{Padding1: "same_under_padding_1", Padding2: "same_under_padding_2"} {
			one, err := Retail(nil, v.Hex("key"), v.Hex("data1"), p)
			if err != nil {
				return 0, err
			}
			two, err := Retail(nil, v.Hex("key"), v.Hex("data2"), p)
			if err != nil {
				return 0, err
			}
			if got, want := bytes.Equal(one, two), v.Bool(member); got != want {
				return 2, fmt.Errorf("%s: got %v, want %v", member, got, want)
			}
		}
		return 2, nil
	},
}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "mac", handlers)
}

func TestVectorsCanFail(t *testing.T) {
	t.Parallel()
	expected := make(map[string][]string)
	for feature := range handlers {
		expected[feature] = []string{"mac"}
	}
	delete(expected, "padding_ambiguity")
	testvec.Flip(t, "mac", handlers, expected)
}

// wycheproof are the handlers of one file, and a count of its cases.
func wycheproof(setKey func(s *State, key []byte) error) (handlers map[string]testvec.Handler, cases *int) {
	cases = new(int)
	verify := func(v testvec.Vector) (*State, error) {
		*cases++
		s := new(State)
		if err := setKey(s, v.Hex("key")); err != nil {
			return s, err
		}
		return s, s.Verify(v.Hex("msg"), v.Hex("tag"), v.Int("tagSize")/8)
	}
	return map[string]testvec.Handler{
		"MacTest valid": func(v testvec.Vector) (int, error) {
			s, err := verify(v)
			if err != nil {
				return 0, err
			}
			got, err := s.Append(nil, v.Hex("msg"), v.Int("tagSize")/8)
			if want := v.Hex("tag"); err != nil || !bytes.Equal(got, want) {
				return 1, fmt.Errorf("got %X, %v, want %X", got, err, want)
			}
			return 1, nil
		},
		"MacTest invalid": func(v testvec.Vector) (int, error) {
			_, err := verify(v)
			// Of the wrong keys, crypto/aes refuses the length.
			var keySize aes.KeySizeError
			if err != ErrVerify && !errors.As(err, &keySize) {
				return 1, fmt.Errorf("accepted, or refused for another reason: %v", err)
			}
			return 1, nil
		},
	}, cases
}

func TestVectorsWycheproof(t *testing.T) {
	t.Parallel()
	hmacOf := func(h Hash) func(*State, []byte) error {
		return func(s *State, key []byte) error { return s.SetHMAC(h, key) }
	}
	for topic, c := range map[string]struct {
		setKey func(*State, []byte) error
		least  int
	}{
		"wycheproof-aes_cmac": {func(s *State, key []byte) error {
			b, err := aes.NewCipher(key)
			if err != nil {
				return err
			}
			return s.SetCMAC(b)
		}, 311},
		"wycheproof-hmac_sha256": {hmacOf(SHA256), 174},
		"wycheproof-hmac_sha384": {hmacOf(SHA384), 174},
		"wycheproof-hmac_sha512": {hmacOf(SHA512), 174},
	} {
		handlers, cases := wycheproof(c.setKey)
		testvec.Run(t, topic, handlers)
		if *cases < c.least {
			t.Errorf("%s: %d cases, want at least %d", topic, *cases, c.least)
		}
		testvec.Flip(t, topic, handlers, map[string][]string{"MacTest valid": {"tag"}})
	}
}
