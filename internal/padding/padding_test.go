package padding_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/padding"
	"github.com/latchkey-pos/latchkey/internal/testvec"
)

var methods = []padding.Method{padding.None, padding.Zero, padding.ISO9797M2, padding.PKCS7}

// removes reports whether Unpad gives back what Pad was given.
func removes(m padding.Method) bool { return m == padding.ISO9797M2 || m == padding.PKCS7 }

// slowPad pads as the standards say it in words.
func slowPad(m padding.Method, data []byte, size int) []byte {
	out := bytes.Clone(data)
	switch m {
	case padding.ISO9797M2:
		out = append(out, 0x80)
	case padding.PKCS7:
		return append(out, bytes.Repeat([]byte{byte(size - len(data)%size)}, size-len(data)%size)...)
	}
	for len(out)%size != 0 {
		out = append(out, 0)
	}
	return out
}

// slowUnpad tries every amount of filling.
func slowUnpad(m padding.Method, padded []byte, size int) ([]byte, bool) {
	for fill := 1; fill <= size; fill++ {
		data := padded[:len(padded)-fill]
		if bytes.Equal(slowPad(m, data, size), padded) {
			return data, true
		}
	}
	return nil, false
}

func TestAgainstSlow(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewChaCha8([32]byte{4}))
	data := make([]byte, 600)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for _, m := range methods {
		for _, size := range []int{1, 2, 7, 8, 16, 128, 255} {
			for n := range 2*size + 2 {
				checkPad(t, m, data[:n], size)
				checkPad(t, m, make([]byte, n), size)
			}
		}
	}
}

func checkPad(t *testing.T, m padding.Method, data []byte, size int) {
	t.Helper()
	want := append([]byte("x"), slowPad(m, data, size)...)
	kept := bytes.Clone(data)
	got, err := m.Pad([]byte("x"), data, size)
	if m == padding.None && len(data)%size != 0 || !removes(m) && len(data) == 0 {
		if !errors.Is(err, padding.ErrLength) || string(got) != "x" {
			t.Errorf("method %d, %d bytes in blocks of %d: %X, %v, want ErrLength", m, len(data), size, got, err)
		}
		return
	}
	if err != nil || !bytes.Equal(got, want) || !bytes.Equal(data, kept) {
		t.Errorf("method %d, %d bytes in blocks of %d: got %X, %v, want %X", m, len(data), size, got, err, want)
	}
	back, err := m.Unpad(got[1:], size)
	want = data
	if !removes(m) {
		want = got[1:]
	}
	if err != nil || !bytes.Equal(back, want) {
		t.Errorf("method %d, %X in blocks of %d: got %X, %v, want %X", m, got[1:], size, back, err, want)
	}
}

// TestPadOverwrites: what stands behind dst in its array is no filling.
func TestPadOverwrites(t *testing.T) {
	t.Parallel()
	for _, m := range methods[1:] {
		dirty := bytes.Repeat([]byte{0xee}, 64)
		got, err := m.Pad(dirty[:3], []byte("0123456789"), 8)
		if want := slowPad(m, []byte("0123456789"), 8); err != nil || !bytes.Equal(got[3:], want) || &got[0] != &dirty[0] {
			t.Errorf("method %d: got %X, %v, want %X in place", m, got[3:], err, want)
		}
	}
}

// TestEveryLastBlock goes through the last blocks that are nearly right: each byte of each valid filling takes every value.
func TestEveryLastBlock(t *testing.T) {
	t.Parallel()
	tried, refused := 0, 0
	for _, m := range methods[2:] {
		for _, size := range []int{8, 16} {
			for fill := 1; fill <= size; fill++ {
				padded := slowPad(m, bytes.Repeat([]byte{0xa5}, 2*size-fill), size)
				for at := size; at < 2*size; at++ {
					for v := range 256 {
						block := bytes.Clone(padded)
						block[at] = byte(v)
						tried++
						want, ok := slowUnpad(m, block, size)
						got, err := m.Unpad(block, size)
						if !ok {
							refused++
						}
						if ok && (err != nil || !bytes.Equal(got, want)) || !ok && (err != padding.ErrPadding || got != nil) {
							t.Fatalf("method %d: %X: got %X, %v, want %X, valid %v", m, block, got, err, want, ok)
						}
					}
				}
			}
		}
	}
	if refused < 300 || tried == refused {
		t.Errorf("%d tried, %d to be refused", tried, refused)
	}
	t.Logf("last blocks: %d, to be refused: %d", tried, refused)
}

func TestHostile(t *testing.T) {
	t.Parallel()
	type refusal struct {
		name string
		want error
		err  error
	}
	var all []refusal
	try := func(name string, m padding.Method, data []byte, size int, pads, unpads error) {
		if pads != nil {
			got, err := m.Pad([]byte("x"), data, size)
			if string(got) != "x" {
				t.Errorf("Pad, %s: gave %X", name, got)
			}
			all = append(all, refusal{"Pad, " + name, pads, err})
		}
		if unpads != nil {
			got, err := m.Unpad(data, size)
			if got != nil {
				t.Errorf("Unpad, %s: gave %X", name, got)
			}
			all = append(all, refusal{"Unpad, " + name, unpads, err})
		}
	}
	for _, m := range []padding.Method{0, 5, 6, 127, 255} {
		for _, n := range []int{0, 8, 16} {
			try(fmt.Sprintf("method %d of %d", m, n), m, make([]byte, n), 8, padding.ErrMethod, padding.ErrMethod)
		}
	}
	for _, m := range methods {
		for _, size := range []int{math.MinInt, -8, -1, 0, 256, 257, 1 << 16, math.MaxInt} {
			try(fmt.Sprintf("method %d with blocks of %d", m, size), m, make([]byte, 16), size, padding.ErrLength, padding.ErrLength)
		}
		for _, size := range []int{8, 16} {
			for n := range 3 * size {
				if n%size == 0 && n > 0 {
					continue
				}
				var pads error
				if m == padding.None || m == padding.Zero && n == 0 {
					pads = padding.ErrLength
				}
				try(fmt.Sprintf("method %d, %d bytes in blocks of %d", m, n, size), m, make([]byte, n), size, pads, padding.ErrLength)
			}
		}
	}
	for _, s := range []string{
		"0000000000000000", "0000000000000009", "00000000000000ff", "0000000000000002", "0303030303030203", "0808080808080807",
		"0708080808080808", "1010101010101010", "8000000000000000", "0000000000000080", "0000000000000300", "0000000000000203",
	} {
		block, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		try("PKCS 7 "+s, padding.PKCS7, block, 8, nil, padding.ErrPadding)
		try("PKCS 7 in the second block "+s, padding.PKCS7, append(bytes.Repeat([]byte{8}, 8), block...), 8, nil, padding.ErrPadding)
	}
	for _, s := range []string{
		"0000000000000000", "0000000000000001", "8000000000000001", "80000000000000ff", "0000000000000081", "00000000000000c0", "0000000000004000",
		"0808080808080808", "8000000100000000", "7f00000000000000",
	} {
		block, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		try("method 2 "+s, padding.ISO9797M2, block, 8, nil, padding.ErrPadding)
		try("method 2 in the second block "+s, padding.ISO9797M2, append([]byte("1234567\x80"), block...), 8, nil, padding.ErrPadding)
	}
	for _, r := range all {
		if !errors.Is(r.err, r.want) {
			t.Errorf("%s: got %v, want %v", r.name, r.err, r.want)
		}
	}
	if len(all) < 300 {
		t.Errorf("%d hostile inputs, want at least 300", len(all))
	}
	t.Logf("hostile inputs: %d", len(all))
}

func TestAllocations(t *testing.T) {
	out := make([]byte, 0, 64)
	for _, m := range methods {
		if n := testing.AllocsPerRun(100, func() {
			var data [16]byte
			out, _ = m.Pad(out[:0], data[:], 8)
			if _, err := m.Unpad(out, 8); err != nil {
				panic(err)
			}
		}); n != 0 {
			t.Errorf("method %d allocates %v times", m, n)
		}
	}
}

var wycheproof = map[string]testvec.Handler{
	"IndCpaTest valid": func(v testvec.Vector) (int, error) {
		got, err := open(v)
		if want := v.Hex("msg"); err != nil || !bytes.Equal(got, want) {
			return 1, fmt.Errorf("got %X, %v, want %X", got, err, want)
		}
		padded, err := padding.PKCS7.Pad(nil, v.Hex("msg"), aes.BlockSize)
		if err != nil {
			return 1, err
		}
		b, err := aes.NewCipher(v.Hex("key"))
		if err != nil {
			return 1, err
		}
		cipher.NewCBCEncrypter(b, v.Hex("iv")).CryptBlocks(padded, padded)
		if want := v.Hex("ct"); !bytes.Equal(padded, want) {
			return 2, fmt.Errorf("got %X, want %X", padded, want)
		}
		return 2, nil
	},
	"IndCpaTest invalid": func(v testvec.Vector) (int, error) {
		if got, err := open(v); !errors.Is(err, padding.ErrPadding) && !errors.Is(err, padding.ErrLength) {
			return 1, fmt.Errorf("accepted as %X, or refused for another reason: %v", got, err)
		}
		return 1, nil
	},
}

func open(v testvec.Vector) ([]byte, error) {
	b, err := aes.NewCipher(v.Hex("key"))
	if err != nil {
		return nil, err
	}
	ct := v.Hex("ct")
	if len(ct)%aes.BlockSize == 0 {
		cipher.NewCBCDecrypter(b, v.Hex("iv")).CryptBlocks(ct, ct)
	}
	return padding.PKCS7.Unpad(ct, aes.BlockSize)
}

func TestVectorsWycheproof(t *testing.T) {
	t.Parallel()
	cases := 0
	counted := make(map[string]testvec.Handler)
	for feature, h := range wycheproof {
		counted[feature] = func(v testvec.Vector) (int, error) { cases++; return h(v) }
	}
	testvec.Run(t, "wycheproof-aes_cbc_pkcs5", counted)
	if cases < 216 {
		t.Errorf("%d cases, want at least 216", cases)
	}
	testvec.Flip(t, "wycheproof-aes_cbc_pkcs5", wycheproof, map[string][]string{"IndCpaTest valid": {"ct", "msg"}})
}

// FuzzPad: what was padded comes back, and nothing else unpads to it.
func FuzzPad(f *testing.F) {
	for _, m := range methods {
		f.Add(uint8(m), uint8(8), []byte("12345678"), uint16(70))
		f.Add(uint8(m), uint8(16), []byte{0x80, 0, 0}, uint16(3))
	}
	f.Fuzz(func(t *testing.T, method, blockBytes uint8, data []byte, flip uint16) {
		m, size := padding.Method(method), int(blockBytes)
		padded, err := m.Pad(nil, data, size)
		if err != nil {
			return
		}
		back, err := m.Unpad(padded, size)
		if err != nil || !bytes.Equal(back, data) && removes(m) || !bytes.HasPrefix(padded, data) || len(padded)-len(data) > size {
			t.Fatalf("%X padded is %X and comes back as %X, %v", data, padded, back, err)
		}
		bad := bytes.Clone(padded)
		at := int(flip) % (8 * len(bad))
		bad[at/8] ^= 1 << (at % 8)
		if other, err := m.Unpad(bad, size); err == nil && bytes.Equal(other, data) && removes(m) {
			t.Fatalf("%X and %X both are %X", padded, bad, data)
		}
	})
}

// FuzzUnpad: what unpads is exactly what Pad makes of it.
func FuzzUnpad(f *testing.F) {
	for _, m := range methods {
		f.Add(uint8(m), uint8(8), []byte("1234567\x01"))
		f.Add(uint8(m), uint8(8), []byte("1234567\x80"))
		f.Add(uint8(m), uint8(4), []byte("1234\x04\x04\x04\x04"))
	}
	f.Fuzz(func(t *testing.T, method, blockBytes uint8, padded []byte) {
		m, size := padding.Method(method), int(blockBytes)
		kept := bytes.Clone(padded)
		data, err := m.Unpad(padded, size)
		if !bytes.Equal(padded, kept) {
			t.Fatalf("%X became %X", kept, padded)
		}
		if err != nil {
			if data != nil {
				t.Fatalf("%X with %v", data, err)
			}
			return
		}
		again, err := m.Pad(nil, data, size)
		if err != nil || !bytes.Equal(again, padded) {
			t.Fatalf("%X unpads to %X, which is padded as %X, %v", padded, data, again, err)
		}
	})
}

func ExampleMethod_Pad() {
	padded, err := padding.ISO9797M2.Pad(nil, []byte("4012345678909D987"), 8)
	fmt.Printf("%x %v\n", padded, err)
	// Output: 343031323334353637383930394439383780000000000000 <nil>
}

func ExampleMethod_Unpad() {
	data, err := padding.PKCS7.Unpad([]byte("12345\x03\x03\x03"), 8)
	fmt.Printf("%s %v\n", data, err)
	_, err = padding.PKCS7.Unpad([]byte("12345\x03\x02\x03"), 8)
	fmt.Println(err)
	// Output:
	// 12345 <nil>
	// padding: invalid padding
}
