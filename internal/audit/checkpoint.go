package audit

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
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

// NewSignerOf returns a signer whose key of Ed25519 is held elsewhere, in a token, under a name as GenerateKey takes it, and the
// verifier, which is to be published. It makes the key sign once.
func NewSignerOf(name string, key crypto.Signer) (s *Signer, verifier string, err error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, "", fmt.Errorf("audit: checkpoints are signed by keys of Ed25519, not by %T", key.Public())
	}
	if verifier, err = note.NewEd25519VerifierKey(name, public); err != nil {
		return nil, "", fmt.Errorf("audit: key name %q: %v", name, err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return nil, "", fmt.Errorf("audit: key name %q: %v", name, err)
	}
	s = &Signer{heldSigner{v, key}}
	signed, err := s.Sign(Tree{})
	if err != nil {
		return nil, "", err
	}
	if _, err := (&Verifier{note.VerifierList(v), name}).Open(signed); err != nil {
		return nil, "", fmt.Errorf("audit: the key does not sign for its public half: %v", err)
	}
	return s, verifier, nil
}

// heldSigner is a note.Signer whose key is held elsewhere.
type heldSigner struct {
	verifier note.Verifier
	key      crypto.Signer
}

// Name implements note.Signer.
func (h heldSigner) Name() string { return h.verifier.Name() }

// KeyHash implements note.Signer.
func (h heldSigner) KeyHash() uint32 { return h.verifier.KeyHash() }

// Sign implements note.Signer.
func (h heldSigner) Sign(msg []byte) ([]byte, error) {
	return h.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

// SignWithin is Sign, and waits no longer than ctx: a key that is held elsewhere may never answer. The call under way ends by itself.
func (s *Signer) SignWithin(ctx context.Context, t Tree) ([]byte, error) {
	type answer struct {
		note []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		n, err := s.Sign(t)
		done <- answer{n, err}
	}()
	select {
	case a := <-done:
		return a.note, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Name returns the name of the key.
func (s *Signer) Name() string { return s.signer.Name() }

// Format implements fmt.Formatter: the name under every verb.
func (s *Signer) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "audit signer %s", s.Name()) }

// MarshalText gives the name, so that no encoding holds the key.
func (s *Signer) MarshalText() ([]byte, error) { return []byte(s.Name()), nil }

// Verifier verifies checkpoints, of one log, by one key after another. It is safe for concurrent use.
type Verifier struct {
	verifiers note.Verifiers
	name      string
}

// maxKeys is how many keys one log may have had.
const maxKeys = 64

// NewVerifier reads the public text that GenerateKey or NewSignerOf made: one line, or one for each key that the log has had. All
// have one name.
func NewVerifier(text string) (*Verifier, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > maxKeys {
		return nil, fmt.Errorf("audit: %d verification keys, want %d at most", len(lines), maxKeys)
	}
	var all []note.Verifier
	for _, line := range lines {
		v, err := note.NewVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("audit: not the text of a verification key: %v", err)
		}
		if len(all) > 0 && v.Name() != all[0].Name() {
			return nil, fmt.Errorf("audit: verification keys of two logs: %s and %s", all[0].Name(), v.Name())
		}
		all = append(all, v)
	}
	return &Verifier{note.VerifierList(all...), all[0].Name()}, nil
}

// Name returns the name of the keys.
func (v *Verifier) Name() string { return v.name }

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
	n, err := note.Open(signed, v.verifiers)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %v", ErrCheckpoint, err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return Checkpoint{}, fmt.Errorf("%w: want exactly one signature, by %s", ErrCheckpoint, v.Name())
	}
	c, err := parseCheckpoint(n)
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
	return parseCheckpoint(unverified.Note)
}

// parseCheckpoint reads a note in its one spelling: the last character of a signature in base64 has bits that the decoder of notes does not
// look at, and two texts of one checkpoint would both verify.
func parseCheckpoint(n *note.Note) (Checkpoint, error) {
	for _, s := range append(n.Sigs[:len(n.Sigs):len(n.Sigs)], n.UnverifiedSigs...) {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("%w: a signature is not in its one spelling", ErrCheckpoint)
		}
	}
	text := n.Text
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
