package remote_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// What follows computes the transcript, the shared secret, the protection key and what is signed from the text of
// docs/protocol.md, section 9, with nothing of the package but the fields of a delivery.

// ownSession is what goes into a transcript beside the delivery.
type ownSession struct {
	suite, tenant, set, environment, delivery, algorithm, terminal string
	revision                                                       uint64
	slot                                                           byte
	tls, agreement, nonce, exporter                                []byte
}

func ownTranscript(s ownSession, d *remote.Delivery) []byte {
	hash := func(b []byte) string { h := sha256.Sum256(b); return string(h[:]) }
	number := func(n uint64, size int) string {
		return string(new(big.Int).SetUint64(n).FillBytes(make([]byte, size)))
	}
	id := func(k dukpt.KeyID) string {
		if k.IsZero() {
			return ""
		}
		b, _ := hex.DecodeString(k.String())
		return string(b)
	}
	out := "\x01"
	for _, part := range []string{
		s.suite, "X9.143-D", s.tenant, s.set, number(s.revision, 4), hash(d.KeySet), s.environment, s.delivery, string([]byte{s.slot}),
		id(d.KeyID), s.algorithm, id(d.Replaces), s.terminal, hash(s.tls), hash(s.agreement), hash(d.Certificates[0]), string(d.Ephemeral),
		string(s.nonce), string(s.exporter), number(uint64(d.IssuedAt.Unix()), 8),
	} {
		out += number(uint64(len(part)), 4) + part
	}
	return []byte(out)
}

// session is what the laboratory knows of one.
func (l *lab) session(suite string) ownSession {
	return ownSession{
		suite: suite, tenant: "ACME", set: "DATA", environment: "test", delivery: "code", algorithm: l.set.Algorithm.String(), terminal: "T-0001",
		revision: 7, slot: 3, tls: l.binding.TLS.Raw, agreement: l.binding.Agreement.Raw, nonce: l.binding.Nonce[:], exporter: l.binding.Exporter[:],
	}
}

// ownSigned is what the host signs.
func ownSigned(transcript []byte, block string) []byte {
	t, b := sha256.Sum256(transcript), sha256.Sum256([]byte(block))
	return []byte("latchkey-ik-v1" + string(t[:]) + string(b[:]))
}

func ownVerify(suite string, key *ecdsa.PublicKey, signed, signature []byte) bool {
	switch suite {
	case "P-256":
		h := sha256.Sum256(signed)
		return ecdsa.VerifyASN1(key, h[:], signature)
	case "P-384":
		h := sha512.Sum384(signed)
		return ecdsa.VerifyASN1(key, h[:], signature)
	}
	h := sha512.Sum512(signed)
	return ecdsa.VerifyASN1(key, h[:], signature)
}

// ownSecret is the x coordinate of the shared point, by the standard library; TestOpenSSL has it from somewhere else.
func ownSecret(own *ecdh.PrivateKey, point []byte) ([]byte, error) {
	peer, err := own.Curve().NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	return own.ECDH(peer)
}

func ownKDF(suite string, z []byte, info string) []byte {
	in := append(append([]byte{0, 0, 0, 1}, z...), info...)
	switch suite {
	case "P-256":
		h := sha256.Sum256(in)
		return h[:32]
	case "P-384":
		h := sha512.Sum384(in)
		return h[:32]
	}
	h := sha512.Sum512(in)
	return h[:32]
}

var suiteCurves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

// eachSuite seals a delivery in every suite, with a host whose signing key is on the same curve.
func eachSuite(t *testing.T, f func(t *testing.T, suite string, l *lab, d *remote.Delivery)) {
	t.Helper()
	for _, a := range algorithms {
		suite := map[keys.Algorithm]string{keys.AES192: "P-384", keys.AES256: "P-521"}[a]
		if suite == "" {
			suite = "P-256"
		}
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, a, suiteCurves[suite])
			d, err := remote.Seal(l.binding, l.set, l.set.LastID, l.key, noon, l.signer, l.chain)
			check(t, err)
			if a == keys.AES128 { // one without a key that goes
				d = l.seal(t)
			}
			f(t, suite, l, d)
		})
	}
}

func TestIndependent(t *testing.T) {
	t.Parallel()
	eachSuite(t, func(t *testing.T, suite string, l *lab, d *remote.Delivery) {
		transcript := ownTranscript(l.session(suite), d)
		if !ownVerify(suite, l.signer.Public().(*ecdsa.PublicKey), ownSigned(transcript, d.Block), d.Signature) {
			t.Error("the signature is over something else")
		}
		z, err := ownSecret(l.agreement, d.Ephemeral)
		check(t, err)
		info := sha256.Sum256(transcript)
		l.demandKey(t, ownKDF(suite, z, hex.EncodeToString(info[:])), d.Block)
	})
}

// demandKey unwraps a block and compares it with the initial key.
func (l *lab) demandKey(t *testing.T, kbpk []byte, block string) {
	t.Helper()
	content, err := unwrap(kbpk, block)
	if err != nil {
		t.Fatalf("another protection key: %v", err)
	}
	defer content.Wipe()
	want := l.key.Key()
	defer want.Wipe()
	if !content.Material().Equal(want.Material()) || content.Usage != "B1" || content.Version != 'D' {
		t.Errorf("the block has another key: %v", content.Header)
	}
}

func unwrap(kbpk []byte, block string) (keyblock.Content, error) {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeDecrypt, Exportability: keys.NonExportable,
	}, kbpk)
	if err != nil {
		return keyblock.Content{}, err
	}
	defer k.Wipe()
	p, err := keyblock.NewProtector(k)
	if err != nil {
		return keyblock.Content{}, err
	}
	defer p.Wipe()
	return p.Unwrap(block)
}

// TestOpenSSL lets OpenSSL do the agreement, the derivation and the check of the signature.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	testvec.Program(t, "openssl")
	eachSuite(t, func(t *testing.T, suite string, l *lab, d *remote.Delivery) {
		z := opensslSecret(t, l.agreement, d.Ephemeral)
		transcript := ownTranscript(l.session(suite), d)
		digest := sha256.Sum256(transcript)
		info := hex.EncodeToString(digest[:])
		kbpk := opensslKDF(t, suite, z, "hexinfo:"+hex.EncodeToString([]byte(info)))
		l.demandKey(t, kbpk, d.Block)
		if asText := opensslKDF(t, suite, z, "info:"+info); string(asText) != string(kbpk) {
			t.Errorf("as text: %x, as hexadecimal digits: %x", asText, kbpk)
		}
		host, err := x509.MarshalPKIXPublicKey(l.signer.Public())
		check(t, err)
		if !opensslVerify(t, suite, host, ownSigned(transcript, d.Block), d.Signature) {
			t.Error("openssl does not verify the signature")
		}
	})
}

var opensslHashes = map[string]string{"P-256": "SHA256", "P-384": "SHA384", "P-521": "SHA512"}

func opensslSecret(t *testing.T, own *ecdh.PrivateKey, point []byte) []byte {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(own)
	check(t, err)
	peer, err := own.Curve().NewPublicKey(point)
	check(t, err)
	public, err := x509.MarshalPKIXPublicKey(peer)
	check(t, err)
	dir := t.TempDir()
	return openssl(t, "pkeyutl", "-derive", "-inkey", writePEM(t, dir, "PRIVATE KEY", private), "-peerkey", writePEM(t, dir, "PUBLIC KEY", public))
}

// opensslKDF derives a protection key. info is "info:" and text, or "hexinfo:" and hexadecimal digits.
func opensslKDF(t *testing.T, suite string, z []byte, info string) []byte {
	t.Helper()
	return openssl(t, "kdf", "-keylen", "32", "-binary", "-kdfopt", "digest:"+opensslHashes[suite], "-kdfopt", "hexkey:"+hex.EncodeToString(z),
		"-kdfopt", info, "SSKDF")
}

func opensslVerify(t *testing.T, suite string, key, signed, signature []byte) bool {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "signed"), signed, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "signature"), signature, 0o600))
	out := openssl(t, "dgst", "-"+strings.ToLower(opensslHashes[suite]), "-verify", writePEM(t, dir, "PUBLIC KEY", key),
		"-signature", filepath.Join(dir, "signature"), filepath.Join(dir, "signed"))
	return strings.Contains(string(out), "Verified OK")
}

func writePEM(t *testing.T, dir, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(dir, kind)
	check(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return name
}

// openssl runs the command line tool of OpenSSL 3.
func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v: %s", args[0], err, stderr.String())
	}
	return out
}
