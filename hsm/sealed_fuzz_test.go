package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/mac"
)

// soft is as much of a token as a sealer needs, in memory: fuzzing a real one would fuzz SoftHSM.
type soft struct {
	cryptoki
	block cipher.Block
}

func (s soft) encrypt(_ session, m mechanism, _ object, in []byte) ([]byte, error) {
	if m.code == mechAESCBC {
		out := make([]byte, len(in))
		cipher.NewCBCEncrypter(s.block, m.iv).CryptBlocks(out, in)
		return out, nil
	}
	gcm, err := cipher.NewGCM(s.block)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(nil, m.iv, in, m.data), nil
}

func (s soft) decrypt(_ session, m mechanism, _ object, in []byte) ([]byte, error) {
	if m.code == mechAESCBC {
		out := make([]byte, len(in))
		cipher.NewCBCDecrypter(s.block, m.iv).CryptBlocks(out, in)
		return out, nil
	}
	gcm, err := cipher.NewGCM(s.block)
	if err != nil {
		return nil, err
	}
	out, err := gcm.Open(nil, m.iv, in, m.data)
	if err != nil {
		return nil, rvGeneral // as SoftHSM
	}
	return out, nil
}

func (s soft) sign(_ session, _ mechanism, _ object, in []byte) ([]byte, error) {
	return mac.CMAC(nil, s.block, in), nil
}

// FuzzOpenSealed: only what was sealed opens, under its label, in both forms. What was sealed is another thing in each process:
// so the input is looked at by itself, and as what is added to what was sealed.
func FuzzOpenSealed(f *testing.F) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // another one in each process
	block, err := aes.NewCipher(key)
	if err != nil {
		f.Fatal(err)
	}
	token, k := soft{block: block}, sealKeys{cbc: 1, mac: 2}
	const label, plain = "label", "seventeen bytes.."
	gcm, err := sealByGCM(token, 0, 1, label, []byte(plain))
	if err != nil {
		f.Fatal(err)
	}
	cbc, err := sealByCBC(token, 0, k, label, []byte(plain))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(label, gcm)
	f.Add(label, cbc)
	f.Add("", cbc[:49])
	f.Add("label2", gcm[:29])
	f.Add(label, []byte{})
	f.Add(label, []byte{0, 1})
	f.Fuzz(func(t *testing.T, l string, b []byte) {
		for _, in := range [][]byte{b, added(gcm, b), added(cbc, b)} {
			got, err := openByGCM(token, 0, 1, l, in)
			if good := l == label && bytes.Equal(in, gcm); good != (err == nil) || err != nil && !errors.Is(err, ErrSealed) || good && string(got.Expose()) != plain {
				t.Fatalf("GCM, label %q: %d bytes, %v", l, got.Len(), err)
			}
			got, err = openByCBC(token, 0, k, l, in)
			if good := l == label && bytes.Equal(in, cbc); good != (err == nil) || err != nil && !errors.Is(err, ErrSealed) || good && string(got.Expose()) != plain {
				t.Fatalf("CBC, label %q: %d bytes, %v", l, got.Len(), err)
			}
		}
	})
}

// added is a, with b added to its bytes, and what is left of b after it.
func added(a, b []byte) []byte {
	out := append(bytes.Clone(a), b[min(len(a), len(b)):]...)
	subtle.XORBytes(out, out[:min(len(a), len(b))], b)
	return out
}
