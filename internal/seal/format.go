package seal

import (
	"bytes"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/canon"
)

const (
	version = 1
	kdfName = "argon2id"
	// maxSealed bounds what parse looks at: the largest plaintext and room for everything around it.
	maxSealed = MaxPlain + 1024
)

// file is the stored form: one deterministic CBOR map (RFC 8949, 4.2.1), version first. Everything but the ciphertext is
// readable. Cost, salt and nonce need no tag of their own: another value gives another key or nonce, and GCM fails.
type file struct {
	Version    uint   `cbor:"v"`
	KDF        kdf    `cbor:"kdf"`
	Label      string `cbor:"label"`
	Nonce      []byte `cbor:"nonce"`
	Ciphertext []byte `cbor:"ciphertext"`
}

type kdf struct {
	Memory      uint32 `cbor:"m"`
	Parallelism uint8  `cbor:"p"`
	Time        uint32 `cbor:"t"`
	Algorithm   string `cbor:"alg"`
	Salt        []byte `cbor:"salt"`
}

var codec = canon.New(16, 4)

func (f *file) marshal() ([]byte, error) {
	b, err := codec.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return b, nil
}

// parse reads a sealed file and checks everything that can be checked without the passphrase. Errors wrap ErrFormat.
func parse(b []byte, most Params) (*file, error) {
	if len(b) > maxSealed {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrFormat, len(b), maxSealed)
	}
	var f file
	if err := codec.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	switch {
	case f.Version != version:
		return nil, fmt.Errorf("%w: version %d, want %d", ErrFormat, f.Version, version)
	case f.KDF.Algorithm != kdfName:
		return nil, fmt.Errorf("%w: key derivation %q, want %q", ErrFormat, f.KDF.Algorithm, kdfName)
	case len(f.KDF.Salt) != saltBytes || len(f.Nonce) != nonceBytes:
		return nil, fmt.Errorf("%w: salt of %d and nonce of %d bytes", ErrFormat, len(f.KDF.Salt), len(f.Nonce))
	case len(f.Ciphertext) < tagBytes || len(f.Ciphertext) > MaxPlain+tagBytes:
		return nil, fmt.Errorf("%w: ciphertext of %d bytes", ErrFormat, len(f.Ciphertext))
	case !goodLabel(f.Label):
		return nil, fmt.Errorf("%w: label", ErrFormat)
	}
	p := Params{Memory: f.KDF.Memory, Time: f.KDF.Time, Parallelism: f.KDF.Parallelism}
	if err := p.check(most); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	again, err := f.marshal()
	if err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: not in its one encoding", ErrFormat)
	}
	return &f, nil
}
