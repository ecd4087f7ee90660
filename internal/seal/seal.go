package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

const (
	saltBytes  = 16
	nonceBytes = 12
	keyBytes   = 32
	tagBytes   = 16

	maxLabel = 128
	// MaxPlain is the most that Seal takes, in bytes.
	MaxPlain = 1 << 20
)

var (
	// ErrPassphrase says that the passphrase is wrong, or the label another one, or the bytes were altered: these cannot
	// be told apart.
	ErrPassphrase = errors.New("seal: wrong passphrase or label, or altered bytes")
	// ErrFormat says that the bytes are not a sealed file, or one whose cost is beyond what Open accepts.
	ErrFormat = errors.New("seal: not a sealed file")
)

// Params is what deriving a key from a passphrase costs, as in RFC 9106.
type Params struct {
	Memory      uint32 // KiB
	Time        uint32 // passes over the memory
	Parallelism uint8  // lanes
}

// DefaultParams takes 64 MiB and some tenths of a second: the second recommended option of RFC 9106, section 4, with
// lanes for the two cores of a small machine.
var DefaultParams = Params{Memory: 64 << 10, Time: 3, Parallelism: 2}

// ceiling is the most that Open spends on behalf of a file, so that a file cannot choose to exhaust the machine.
var ceiling = Params{Memory: 1 << 20, Time: 10, Parallelism: 16}

func (p Params) check(most Params) error {
	switch {
	case p.Parallelism < 1 || p.Parallelism > most.Parallelism:
		return fmt.Errorf("parallelism %d, want 1 to %d", p.Parallelism, most.Parallelism)
	case p.Time < 1 || p.Time > most.Time:
		return fmt.Errorf("%d passes, want 1 to %d", p.Time, most.Time)
	case p.Memory < 8*uint32(p.Parallelism) || p.Memory > most.Memory:
		return fmt.Errorf("%d KiB of memory, want %d to %d", p.Memory, 8*uint32(p.Parallelism), most.Memory)
	}
	return nil
}

// Seal encrypts plain under the passphrase with DefaultParams. The label says what the file is, such as
// "latchkey lmk"; it is stored readable and Open asks for the same, so that one sealed file cannot stand in for another.
// It neither keeps nor wipes its arguments. An empty passphrase, a label that is not 1 to 128 printable ASCII characters
// or more than MaxPlain bytes are an error.
func Seal(passphrase secret.Bytes, label string, plain []byte) ([]byte, error) {
	return SealWith(DefaultParams, passphrase, label, plain)
}

// SealWith is Seal at another cost. Cheap parameters are for tests, and for random keys in place of a passphrase; the file says what it was sealed with.
func SealWith(p Params, passphrase secret.Bytes, label string, plain []byte) ([]byte, error) {
	if passphrase.Len() == 0 {
		return nil, errors.New("seal: empty passphrase")
	}
	if !goodLabel(label) {
		return nil, fmt.Errorf("seal: label %q, want 1 to %d printable ASCII characters", label, maxLabel)
	}
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("seal: %d bytes, want at most %d", len(plain), MaxPlain)
	}
	if err := p.check(ceiling); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	f := file{
		Version: version,
		KDF:     kdf{Algorithm: kdfName, Memory: p.Memory, Time: p.Time, Parallelism: p.Parallelism, Salt: make([]byte, saltBytes)},
		Label:   label,
		Nonce:   make([]byte, nonceBytes),
	}
	_, _ = rand.Read(f.KDF.Salt) // cannot fail
	_, _ = rand.Read(f.Nonce)
	aead, err := f.aead(passphrase)
	if err != nil {
		return nil, err
	}
	defer secret.WipeCipher(aead)
	f.Ciphertext = aead.Seal(nil, f.Nonce, plain, []byte(label))
	return f.marshal()
}

// Open decrypts what Seal made under the same passphrase and label. The caller wipes the result. Errors wrap
// ErrPassphrase or ErrFormat. Only the very bytes that Seal returned are accepted: another encoding of the same content
// is refused.
func Open(passphrase secret.Bytes, label string, sealed []byte) (secret.Bytes, error) {
	return open(passphrase, label, sealed, ceiling)
}

func open(passphrase secret.Bytes, label string, sealed []byte, most Params) (secret.Bytes, error) {
	f, err := parse(sealed, most)
	if err != nil {
		return secret.Bytes{}, err
	}
	if f.Label != label {
		return secret.Bytes{}, fmt.Errorf("%w: the file is %q, not %q", ErrPassphrase, f.Label, label)
	}
	if passphrase.Len() == 0 {
		return secret.Bytes{}, ErrPassphrase
	}
	aead, err := f.aead(passphrase)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer secret.WipeCipher(aead)
	out := secret.New(len(f.Ciphertext) - tagBytes)
	if _, err := aead.Open(out.Expose()[:0], f.Nonce, f.Ciphertext, []byte(label)); err != nil {
		out.Wipe()
		return secret.Bytes{}, ErrPassphrase
	}
	return out, nil
}

// aead derives the key of a file. The caller wipes the result by secret.WipeCipher. The memory that argon2 worked in is left
// to the garbage collector.
func (f *file) aead(passphrase secret.Bytes) (cipher.AEAD, error) {
	key := argon2.IDKey(passphrase.Expose(), f.KDF.Salt, f.KDF.Time, f.KDF.Memory, f.KDF.Parallelism, keyBytes)
	defer secret.Wipe(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer secret.WipeCipher(block) // GCM has a copy
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return aead, nil
}

func goodLabel(label string) bool {
	if len(label) < 1 || len(label) > maxLabel {
		return false
	}
	for i := range len(label) {
		if label[i] < 0x20 || label[i] > 0x7e {
			return false
		}
	}
	return true
}
