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

func compare(v testvec.Vector, got []byte, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if want := v.Hex("mac"); !bytes.Equal(got, want) {
		return 1, fmt.Errorf("got %X, want %X", got, want)
	}
	return 1, nil
}

func cmacUnder(newCipher func([]byte) (cipher.Block, error)) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		b, err := newCipher(v.Hex("key"))
		if err != nil {
			return 0, err
		}
		return compare(v, CMAC(nil, b, data(v)), nil)
	}
}

func cbcUnder(newCipher func([]byte) (cipher.Block, error)) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		b, err := newCipher(v.Hex("key"))
		if err != nil {
			return 0, err
		}
		got, err := CBC(nil, b, data(v), Padding(v.Int("padding")))
		return compare(v, got, err)
	}
}

func newTDES(key []byte) (cipher.Block, error) { return des.New(key) }

var handlers = map[string]testvec.Handler{
	"aes_cmac":          cmacUnder(aes.NewCipher),
	"tdes_cmac":         cmacUnder(newTDES),
	"cbc_mac_alg1_tdes": cbcUnder(newTDES),
	"cbc_mac_alg1_aes":  cbcUnder(aes.NewCipher),
	"retail_mac_alg3": func(v testvec.Vector) (int, error) {
		got, err := Retail(nil, v.Hex("key"), data(v), Padding(v.Int("padding")))
		return compare(v, got, err)
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
	testvec.Run(t, "mac", handlers, "retail_mac_alg3_two_keys", "hmac_sha256")
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

func TestRefusals(t *testing.T) {
	t.Parallel()
	if _, err := Retail(nil, make([]byte, 24), nil, Padding2); err == nil {
		t.Error("a 24-byte retail MAC key is accepted")
	}
	if _, err := Retail(nil, make([]byte, 16), nil, 0); !errors.Is(err, ErrPadding) {
		t.Errorf("no padding method: %v", err)
	}
	if _, err := Retail(nil, make([]byte, 16), []byte("12345678"), 4); !errors.Is(err, ErrPadding) {
		t.Errorf("padding method 4: %v", err)
	}
}

func TestAppends(t *testing.T) {
	t.Parallel()
	prefix := []byte("prefix")
	b, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	if got := CMAC(prefix[:6:6], b, []byte("m")); !bytes.HasPrefix(got, prefix) || len(got) != 6+16 {
		t.Errorf("CMAC appended %x", got)
	}
	got, err := Retail(prefix[:6:6], make([]byte, 16), []byte("m"), Padding1)
	if err != nil || !bytes.HasPrefix(got, prefix) || len(got) != 6+8 {
		t.Errorf("Retail appended %x, %v", got, err)
	}
}
