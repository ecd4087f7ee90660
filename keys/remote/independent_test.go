package remote_test

import (
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

func ownTranscript(l *lab, d *remote.Delivery, suite string) []byte {
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
		suite, "X9.143-D", "ACME", "DATA", number(7, 4), hash(d.KeySet), "test", "code", "\x03", id(d.KeyID), l.set.Algorithm.String(),
		id(d.Replaces), "T-0001", hash(l.binding.TLS.Raw), hash(l.binding.Agreement.Raw), hash(l.chain[0].Raw), string(d.Ephemeral),
		string(l.binding.Nonce[:]), string(l.binding.Exporter[:]), number(uint64(d.IssuedAt.Unix()), 8),
	} {
		out += number(uint64(len(part)), 4) + part
	}
	return []byte(out)
}

// ownSecret is the x coordinate of the shared point, by the standard library; TestOpenSSL has it from somewhere else.
func ownSecret(t *testing.T, l *lab, d *remote.Delivery) []byte {
	t.Helper()
	peer, err := l.agreement.Curve().NewPublicKey(d.Ephemeral)
	check(t, err)
	z, err := l.agreement.ECDH(peer)
	check(t, err)
	return z
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
		transcript := sha256.Sum256(ownTranscript(l, d, suite))
		block := sha256.Sum256([]byte(d.Block))
		signed := "latchkey-ik-v1" + string(transcript[:]) + string(block[:])
		var digest []byte
		switch suite {
		case "P-256":
			h := sha256.Sum256([]byte(signed))
			digest = h[:]
		case "P-384":
			h := sha512.Sum384([]byte(signed))
			digest = h[:]
		default:
			h := sha512.Sum512([]byte(signed))
			digest = h[:]
		}
		if !ecdsa.VerifyASN1(l.signer.Public().(*ecdsa.PublicKey), digest, d.Signature) {
			t.Error("the signature is over something else")
		}
		kbpk := ownKDF(suite, ownSecret(t, l, d), hex.EncodeToString(transcript[:]))
		l.demandKey(t, kbpk, d.Block)
	})
}

// demandKey unwraps a block and compares it with the initial key.
func (l *lab) demandKey(t *testing.T, kbpk []byte, block string) {
	t.Helper()
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeDecrypt, Exportability: keys.NonExportable,
	}, kbpk)
	check(t, err)
	defer k.Wipe()
	p, err := keyblock.NewProtector(k)
	check(t, err)
	defer p.Wipe()
	content, err := p.Unwrap(block)
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

// TestOpenSSL lets OpenSSL do the agreement, the derivation and the check of the signature.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	eachSuite(t, func(t *testing.T, suite string, l *lab, d *remote.Delivery) {
		dir := t.TempDir()
		write := func(name string, b []byte) string {
			check(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
			return filepath.Join(dir, name)
		}
		private, err := x509.MarshalPKCS8PrivateKey(l.agreement)
		check(t, err)
		peer, err := l.agreement.Curve().NewPublicKey(d.Ephemeral)
		check(t, err)
		public, err := x509.MarshalPKIXPublicKey(peer)
		check(t, err)
		host, err := x509.MarshalPKIXPublicKey(l.signer.Public())
		check(t, err)
		z := openssl(t, "pkeyutl", "-derive", "-inkey", write("agreement.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
			"-peerkey", write("ephemeral.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
		hash := map[string]string{"P-256": "SHA256", "P-384": "SHA384", "P-521": "SHA512"}[suite]
		transcript := sha256.Sum256(ownTranscript(l, d, suite))
		info := hex.EncodeToString(transcript[:])
		kbpk := openssl(t, "kdf", "-keylen", "32", "-binary", "-kdfopt", "digest:"+hash, "-kdfopt", "hexkey:"+hex.EncodeToString(z),
			"-kdfopt", "hexinfo:"+hex.EncodeToString([]byte(info)), "SSKDF")
		l.demandKey(t, kbpk, d.Block)
		if asText := openssl(t, "kdf", "-keylen", "32", "-binary", "-kdfopt", "digest:"+hash, "-kdfopt", "hexkey:"+hex.EncodeToString(z),
			"-kdfopt", "info:"+info, "SSKDF"); string(asText) != string(kbpk) {
			t.Errorf("as text: %x, as hexadecimal digits: %x", asText, kbpk)
		}
		block := sha256.Sum256([]byte(d.Block))
		out := openssl(t, "dgst", "-"+strings.ToLower(hash), "-verify", write("host.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: host})),
			"-signature", write("signature", d.Signature), write("signed", append(append([]byte("latchkey-ik-v1"), transcript[:]...), block[:]...)))
		if !strings.Contains(string(out), "Verified OK") {
			t.Errorf("openssl dgst: %s", out)
		}
	})
}

// openssl runs the command line tool of OpenSSL 3.
func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	testvec.Program(t, "openssl")
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v: %s", args[0], err, stderr.String())
	}
	return out
}
