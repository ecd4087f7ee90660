package remote_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// certify makes a key with a certificate and its issuing certificate.
func certify(issuer ca.Issuer, role identity.Role, name string) (*ecdsa.PrivateKey, []*x509.Certificate) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return key, must(issuer.Issue(context.Background(), ca.Request{
		PublicKey: key.Public(), Identity: must(identity.New("SHOP", role, name)),
	}))
}

func exampleSet() *keyset.KeySet {
	s := keyset.NewAESPIN()
	s.ID, s.Tenant, s.Environment = "PIN-AES", "SHOP", keyset.Test
	s.BaseKey = must(keyset.ParseKeyRef("alias/pin-2026"))
	s.BaseKeyFingerprint = must(keys.ParseFingerprint("00112233445566778899aabbccddeeff"))
	s.FirstID, s.LastID = must(dukpt.ParseKeyID("1234567800000000")), must(dukpt.ParseKeyID("12345678FFFFFFFF"))
	return s
}

// exampleKey derives the initial key of an id.
func exampleKey(id dukpt.KeyID) *dukpt.InitialKey {
	base := must(keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}))
	defer base.Wipe()
	bdk := must(dukpt.NewBaseKey(base))
	defer bdk.Wipe()
	return must(bdk.Derive(id))
}

// A terminal asks for a key, the key-distribution host seals one for it, and only this terminal opens it, on this connection.
func Example() {
	now := time.Now()
	keydist := must(catest.NewFake(identity.KeyDistCA, catest.Twist{}, time.Now))
	terminals := must(catest.NewFake(identity.TerminalCA, catest.Twist{}, time.Now))
	_, tls := certify(terminals, identity.Terminal, "T-0001")
	agreementKey, agreement := certify(keydist, identity.Agreement, "T-0001")
	hostKey, hostChain := certify(keydist, identity.KDH, "KDH-1")
	set := exampleSet()

	// The terminal draws a nonce. Both ends know the rest of the binding; the exporter comes from ExportKeyingMaterial.
	request := &remote.Request{Slot: 1}
	_, _ = rand.Read(request.Nonce[:])
	binding := remote.Binding{
		Tenant: "SHOP", Terminal: "T-0001", Slot: request.Slot, TLS: tls[0], Agreement: agreement[0], Nonce: request.Nonce,
		Exporter: [remote.NonceSize]byte{1, 2, 3},
	}

	// The host derives a key, seals it and forgets it.
	key := exampleKey(must(dukpt.ParseKeyID("1234567890123456")))
	delivery := must(remote.Seal(binding, set, dukpt.KeyID{}, key, now, hostKey, hostChain))
	key.Wipe()
	sent := must(delivery.Marshal())

	// The terminal trusts the root of the key-distribution authority.
	roots := x509.NewCertPool()
	roots.AddCert(keydist.Chain()[1])
	options := remote.OpenOptions{Roots: roots, Now: now, Environment: keyset.Test, KeySet: "PIN-AES"}
	received := must(remote.ParseDelivery(sent))
	opened := must(remote.Open(received, binding, must(agreementKey.ECDH()), options))
	defer opened.Wipe()
	fmt.Println(opened)

	// The same delivery is worth nothing as the answer to another request.
	binding.Nonce[0] ^= 1
	_, err := remote.Open(received, binding, must(agreementKey.ECDH()), options)
	fmt.Println(err)
	// Output:
	// remote.Opened(PIN-AES, key id 1234567890123456)
	// remote: delivery refused: it does not verify
}

// The algorithm of a key set decides the curve of the agreement key.
func ExampleSuiteFor() {
	for _, a := range []keys.Algorithm{keys.TDES2, keys.AES128, keys.AES192, keys.AES256} {
		fmt.Println(a, must(remote.SuiteFor(a)))
	}
	// Output:
	// 2TDEA P-256
	// AES-128 P-256
	// AES-192 P-384
	// AES-256 P-521
}
