package remote_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// What follows computes the values of testdata/protocol/delivery.json again, without the package and then with OpenSSL.

const vectorTopic = "protocol-delivery"

// otherFeatures are those without a transcript or a derived key, and refusals.
var otherFeatures = []string{
	"delivery_refused", "request", "request_refused", "order", "order_refused", "certify_order", "certify_order_refused",
	"settlement", "settlement_refused", "assignment", "assignment_refused",
}

var ownHandlers = map[string]testvec.Handler{"delivery": ownDelivery, "agreement": ownAgreement}

func TestIndependentValues(t *testing.T) {
	t.Parallel()
	testvec.Run(t, vectorTopic, ownHandlers, otherFeatures...)
}

func TestIndependentValuesCanFail(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, vectorTopic, ownHandlers, map[string][]string{
		"delivery": {
			"transcript", "transcript_digest", "z", "other_info", "kbpk", "signature_input", "initial_key", "nonce", "exporter",
			"tls_certificate", "agreement_certificate", "agreement_private",
		},
		"agreement": {"z", "other_info", "kbpk", "private"},
	})
}

// ownDelivery opens a delivery step by step.
func ownDelivery(v testvec.Vector) (int, error) {
	d, s, err := vectorDelivery(v)
	if err != nil {
		return 0, err
	}
	private, err := vectorKey(v.String("suite"), v.Hex("agreement_private"))
	if err != nil {
		return 0, err
	}
	z, err := ownSecret(private, d.Ephemeral)
	if err != nil {
		return 0, err
	}
	transcript := ownTranscript(s, d)
	digest := sha256.Sum256(transcript)
	info := hex.EncodeToString(digest[:])
	kbpk, signed := ownKDF(s.suite, z, info), ownSigned(transcript, d.Block)
	host, err := x509.ParseCertificate(d.Certificates[0])
	if err != nil {
		return 0, err
	}
	if !ownVerify(suiteOf(host), host.PublicKey.(*ecdsa.PublicKey), signed, d.Signature) {
		return 0, errors.New("the signature is over something else")
	}
	if info != v.String("other_info") {
		return 0, fmt.Errorf("other_info: got %s", info)
	}
	content, err := unwrap(kbpk, d.Block)
	if err != nil {
		return 0, err
	}
	defer content.Wipe()
	n, err := same(v, map[string][]byte{
		"transcript": transcript, "transcript_digest": digest[:], "z": z, "kbpk": kbpk, "signature_input": signed,
		"initial_key": content.Material().Expose(),
	})
	return n + 2, err // the signature and other_info
}

func ownAgreement(v testvec.Vector) (int, error) {
	private, err := vectorKey(v.String("suite"), v.Hex("private"))
	if err != nil {
		return 0, err
	}
	z, err := ownSecret(private, v.Hex("peer"))
	if err != nil {
		return 0, err
	}
	return same(v, map[string][]byte{"z": z, "kbpk": ownKDF(v.String("suite"), z, v.String("other_info"))})
}

// TestOpenSSLValues has OpenSSL agree, derive and verify.
func TestOpenSSLValues(t *testing.T) {
	t.Parallel()
	testvec.Program(t, "openssl")
	testvec.Run(t, vectorTopic, map[string]testvec.Handler{
		"agreement": func(v testvec.Vector) (int, error) {
			return opensslAgreement(t, v, "private", v.Hex("peer"))
		},
		"delivery": func(v testvec.Vector) (int, error) {
			d, _, err := vectorDelivery(v)
			if err != nil {
				return 0, err
			}
			host, err := x509.ParseCertificate(d.Certificates[0])
			if err != nil {
				return 0, err
			}
			if !opensslVerify(t, suiteOf(host), host.RawSubjectPublicKeyInfo, v.Hex("signature_input"), d.Signature) {
				return 0, errors.New("the signature is over something else")
			}
			n, err := opensslAgreement(t, v, "agreement_private", d.Ephemeral)
			return n + 1, err
		},
	}, otherFeatures...)
}

func opensslAgreement(t *testing.T, v testvec.Vector, private string, peer []byte) (int, error) {
	t.Helper()
	own, err := vectorKey(v.String("suite"), v.Hex(private))
	if err != nil {
		return 0, err
	}
	z := opensslSecret(t, own, peer)
	return same(v, map[string][]byte{"z": z, "kbpk": opensslKDF(t, v.String("suite"), z, "info:"+v.String("other_info"))})
}

// same compares values with the members of a vector.
func same(v testvec.Vector, got map[string][]byte) (int, error) {
	for name, value := range got {
		if want := v.Hex(name); !bytes.Equal(value, want) {
			return 0, fmt.Errorf("%s: got %x, want %x", name, value, want)
		}
	}
	return len(got), nil
}

// vectorDelivery reads a delivery and what the terminal knows of the session.
func vectorDelivery(v testvec.Vector) (*remote.Delivery, ownSession, error) {
	d, err := remote.ParseDelivery(v.Hex("delivery"))
	if err != nil {
		return nil, ownSession{}, err
	}
	set, err := keyset.Unmarshal(d.KeySet)
	if err != nil {
		return nil, ownSession{}, err
	}
	return d, ownSession{
		suite: v.String("suite"), tenant: v.String("tenant"), set: v.String("key_set"), environment: v.String("environment"),
		delivery: set.Delivery.String(), algorithm: set.Algorithm.String(), terminal: v.String("terminal"), revision: uint64(set.Revision),
		slot: byte(v.Int("slot")), tls: v.Hex("tls_certificate"), agreement: v.Hex("agreement_certificate"), nonce: v.Hex("nonce"),
		exporter: v.Hex("exporter"),
	}, nil
}

func vectorKey(suite string, scalar []byte) (*ecdh.PrivateKey, error) {
	return map[string]ecdh.Curve{"P-256": ecdh.P256(), "P-384": ecdh.P384(), "P-521": ecdh.P521()}[suite].NewPrivateKey(scalar)
}

// suiteOf names the curve of the key that signs, which need not be that of the agreement.
func suiteOf(host *x509.Certificate) string {
	return host.PublicKey.(*ecdsa.PublicKey).Curve.Params().Name
}
