package audit

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// ErrCheckpoint is wrapped by every error about a checkpoint that does not verify.
var ErrCheckpoint = errors.New("audit: checkpoint does not verify")

// maxCheckpoint bounds a checkpoint in bytes.
const maxCheckpoint = 4 << 10

// GenerateKey makes an Ed25519 key for checkpoints. Its name, such as "latchkey/SHOP/decryptd", stands in the first line of
// every checkpoint; it has no spaces and no plus sign. Both results are text: signer is secret, verifier is to be published.
func GenerateKey(name string) (signer, verifier string, err error) {
	signer, verifier, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", fmt.Errorf("audit: key name %q: %v", name, err)
	}
	if _, err := NewVerifier(verifier); err != nil {
		return "", "", err
	}
	return signer, verifier, nil
}

// Signer signs checkpoints. It prints its name only. It is safe for concurrent use.
type Signer struct{ signer note.Signer }

// NewSigner reads the secret text that GenerateKey made.
func NewSigner(text string) (*Signer, error) {
	s, err := note.NewSigner(text)
	if err != nil {
		return nil, errors.New("audit: not the text of a signing key") // the cause may hold the key
	}
	return &Signer{s}, nil
}

// Name returns the name of the key.
func (s *Signer) Name() string { return s.signer.Name() }

// Format implements fmt.Formatter: the name under every verb.
func (s *Signer) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "audit signer %s", s.Name()) }

// MarshalText gives the name, so that no encoding holds the key.
func (s *Signer) MarshalText() ([]byte, error) { return []byte(s.Name()), nil }

// Verifier verifies checkpoints. It is safe for concurrent use.
type Verifier struct{ verifier note.Verifier }

// NewVerifier reads the public text that GenerateKey made.
func NewVerifier(text string) (*Verifier, error) {
	v, err := note.NewVerifier(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("audit: not the text of a verification key: %v", err)
	}
	return &Verifier{v}, nil
}

// Name returns the name of the key.
func (v *Verifier) Name() string { return v.verifier.Name() }

// Checkpoint is the size and the root of a log, which a signature vouches for. It is comparable.
type Checkpoint struct {
	Origin string // name of the key and of the log
	Size   uint64 // leaves
	Root   Hash
}

// text is what is signed: three lines.
func (c Checkpoint) text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + c.Root.String() + "\n"
}

// Sign signs the size and the root of a tree and returns the checkpoint as a signed note.
func (s *Signer) Sign(t Tree) ([]byte, error) {
	c := Checkpoint{Origin: s.Name(), Size: t.Size(), Root: t.Root()}
	b, err := note.Sign(&note.Note{Text: c.text()}, s.signer)
	if err != nil {
		return nil, fmt.Errorf("audit: %v", err)
	}
	return b, nil
}

// Open verifies a signed note and returns what it says. It fails with ErrCheckpoint, also for a note that has more
// signatures or more lines than Sign makes.
func (v *Verifier) Open(signed []byte) (Checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes", ErrCheckpoint, len(signed))
	}
	n, err := note.Open(signed, note.VerifierList(v.verifier))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %v", ErrCheckpoint, err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, fmt.Errorf("%w: want exactly one signature, by %s", ErrCheckpoint, v.Name())
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, fmt.Errorf("%w: of log %s, signed by %s", ErrCheckpoint, c.Origin, v.Name())
	}
	return c, nil
}

// ReadUnverified returns what a signed note says and does not verify who says it. It is for comparing a log with a copy
// against accidents; a copy that somebody may have changed is for a Verifier. It fails with ErrCheckpoint.
func ReadUnverified(signed []byte) (Checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, fmt.Errorf("%w: %d bytes", ErrCheckpoint, len(signed))
	}
	_, err := note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return Checkpoint{}, fmt.Errorf("%w: not a signed note", ErrCheckpoint)
	}
	return parseCheckpoint(unverified.Note.Text)
}

func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("%w: want three lines", ErrCheckpoint)
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: the size is no number", ErrCheckpoint)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: the root is no hash", ErrCheckpoint)
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: Hash(root)}
	if c.text() != text {
		return Checkpoint{}, fmt.Errorf("%w: not in its one spelling", ErrCheckpoint)
	}
	return c, nil
}
