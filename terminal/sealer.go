package terminal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// InsecureFile is the name of the sealer whose key lies in a file beside what it seals.
const InsecureFile = "insecure-file"

// Sealer encrypts and authenticates what lies on the medium, under a key of the device. It is used by one goroutine at a
// time.
type Sealer interface {
	// Seal encrypts plain. The label is bound to the result: Open asks for the same.
	Seal(label string, plain []byte) ([]byte, error)
	// Open decrypts what Seal made under this label on this device. The caller wipes the result.
	Open(label string, sealed []byte) (secret.Bytes, error)
	// Name says what guards the key, for people and for policy: "insecure-file" is refused for production.
	Name() string
}

const (
	deviceKeyName = "device.key"
	deviceKeySize = 32
)

// CreateInsecureFile makes a device key in the file device.key of the folder, or takes the one that is there, and
// returns the sealer of that key. It protects nothing from whoever can read the folder: test keys only. It holds the
// folder while it makes a key, so that two processes do not make two, and fails with ErrLocked when another one holds it.
func CreateInsecureFile(f FS) (Sealer, error) {
	s, err := OpenInsecureFile(f)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	unlock, err := f.Lock()
	if err != nil {
		return nil, err
	}
	s, err = createInsecureFile(f)
	if e := unlock(); err == nil && e != nil {
		err = fmt.Errorf("terminal: unlock: %w", e)
	}
	return s, err
}

// createInsecureFile is for whoever holds the folder. It looks again: the key may have been made before the folder was
// free.
func createInsecureFile(f FS) (Sealer, error) {
	s, err := OpenInsecureFile(f)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	key := secret.New(deviceKeySize)
	_, _ = rand.Read(key.Expose()) // cannot fail
	if err := WriteFile(f, deviceKeyName, key.Expose()); err != nil {
		key.Wipe()
		return nil, err
	}
	return insecureFile{key}, nil
}

// OpenInsecureFile returns the sealer of the device key in the folder. If there is none the error wraps
// fs.ErrNotExist, if it is damaged ErrState.
func OpenInsecureFile(f FS) (Sealer, error) {
	b, err := ReadFile(f, deviceKeyName)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(b)
	if len(b) != deviceKeySize {
		return nil, fmt.Errorf("%w: %s has %d bytes, want %d", ErrState, deviceKeyName, len(b), deviceKeySize)
	}
	return insecureFile{secret.From(b)}, nil
}

type insecureFile struct{ key secret.Bytes }

// sealedRecord is what insecureFile writes.
type sealedRecord struct {
	Version    uint   `cbor:"v"`
	Nonce      []byte `cbor:"n"`
	Ciphertext []byte `cbor:"ct"`
}

// Name returns InsecureFile.
func (insecureFile) Name() string { return InsecureFile }

// Seal encrypts with AES-256-GCM under a random nonce.
func (s insecureFile) Seal(label string, plain []byte) ([]byte, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	defer secret.WipeCipher(aead)
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // cannot fail
	return encoding.Marshal(sealedRecord{
		Version: recordVersion, Nonce: nonce, Ciphertext: aead.Seal(nil, nonce, plain, []byte(label)),
	})
}

// Open decrypts; every failure wraps ErrState.
func (s insecureFile) Open(label string, sealed []byte) (secret.Bytes, error) {
	var r sealedRecord
	if err := decodeRecord(sealed, &r); err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: not sealed", ErrState)
	}
	aead, err := s.aead()
	if err != nil {
		return secret.Bytes{}, err
	}
	defer secret.WipeCipher(aead)
	if r.Version != recordVersion || len(r.Nonce) != aead.NonceSize() || len(r.Ciphertext) < aead.Overhead() {
		return secret.Bytes{}, fmt.Errorf("%w: not sealed", ErrState)
	}
	out := secret.New(len(r.Ciphertext) - aead.Overhead())
	if _, err := aead.Open(out.Expose()[:0], r.Nonce, r.Ciphertext, []byte(label)); err != nil {
		out.Wipe()
		return secret.Bytes{}, fmt.Errorf("%w: altered, or sealed on another device", ErrState)
	}
	return out, nil
}

// aead is AES-256-GCM under the device key. The caller wipes it by secret.WipeCipher.
func (s insecureFile) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s.key.Expose())
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	defer secret.WipeCipher(block) // GCM has a copy
	return cipher.NewGCM(block)
}
