package remote

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	transcriptVersion = 1
	blockFormat       = "X9.143-D"
	signatureContext  = "latchkey-ik-v1"
	maxRevision       = math.MaxUint32 // the transcript has four bytes for it
	kbpkSize          = 32
)

// session is everything that a delivery is bound to.
type session struct {
	Binding
	suite     Suite
	set       *keyset.KeySet
	payload   []byte // of the set, as it is sent
	keyID     dukpt.KeyID
	replaces  dukpt.KeyID
	kdh       *x509.Certificate
	ephemeral []byte
	issuedAt  time.Time
}

// transcript returns T of docs/protocol.md, section 9: a version, then every part with its length.
func (s *session) transcript() []byte {
	payload, tls := sha256.Sum256(s.payload), sha256.Sum256(s.TLS.Raw)
	agreement, kdh := sha256.Sum256(s.Agreement.Raw), sha256.Sum256(s.kdh.Raw)
	t := []byte{transcriptVersion}
	for _, part := range [][]byte{
		[]byte(s.suite.String()),
		[]byte(blockFormat),
		[]byte(s.Tenant),
		[]byte(s.set.ID),
		binary.BigEndian.AppendUint32(nil, uint32(s.set.Revision)), // deliverable has bounded it
		payload[:],
		[]byte(s.set.Environment.String()),
		[]byte(s.set.Delivery.String()),
		{s.Slot},
		bytesOf(s.keyID),
		[]byte(s.set.Algorithm.String()),
		bytesOf(s.replaces),
		[]byte(s.Terminal),
		tls[:],
		agreement[:],
		kdh[:],
		s.ephemeral,
		s.Nonce[:],
		s.Exporter[:],
		binary.BigEndian.AppendUint64(nil, uint64(s.issuedAt.Unix())),
	} {
		t = binary.BigEndian.AppendUint32(t, uint32(len(part)))
		t = append(t, part...)
	}
	return t
}

// signed returns what the KDH signs.
func (s *session) signed(block string) []byte {
	t, b := sha256.Sum256(s.transcript()), sha256.Sum256([]byte(block))
	return slices.Concat([]byte(signatureContext), t[:], b[:])
}

// otherInfo returns what goes into the key derivation beside the shared secret: the digest of the transcript in lower-case
// hexadecimal digits, because some libraries take text only.
func (s *session) otherInfo() string {
	t := sha256.Sum256(s.transcript())
	return hex.EncodeToString(t[:])
}

var kbpkAttributes = keys.Attributes{
	Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
}

// protector returns what wraps and unwraps the initial key under the shared secret z. The caller wipes z and the protector.
func (s *session) protector(z []byte) (*keyblock.Protector, error) {
	kbpk, err := s.suite.derive(z, s.otherInfo())
	if err != nil {
		return nil, err
	}
	defer kbpk.Wipe()
	return keyblock.NewProtector(kbpk)
}

// derive computes the key block protection key: the leftmost bytes of one block of the one-step key derivation function of
// NIST SP 800-56C with a hash, H(00000001 || z || otherInfo).
func (s Suite) derive(z []byte, otherInfo string) (kbpk keys.Key, err error) {
	input := secret.New(4 + len(z) + len(otherInfo))
	defer input.Wipe()
	in := input.Expose()
	in[3] = 1
	copy(in[4:], z)
	copy(in[4+len(z):], otherInfo)
	secret.Do(func() {
		h := suites[s].hash.New()
		h.Write(in)
		sum := h.Sum(nil)
		h.Reset()
		kbpk, err = keys.NewKey(kbpkAttributes, sum[:kbpkSize])
		secret.Wipe(sum)
	})
	return kbpk, err
}
