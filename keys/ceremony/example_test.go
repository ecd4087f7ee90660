package ceremony_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/ceremony"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// newCustodian certifies somebody, as the services authority of a deployment does.
func newCustodian(name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	id := must(identity.New("ACME", identity.Custodian, name))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: id.Subject(), NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0),
		URIs: []*url.URL{id.URI()}, Policies: []x509.OID{id.Role.Policy()},
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))), key
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Two custodians bring a TDES base key, of which each has one component, to a token.
func Example() {
	annaCert, annaKey := newCustodian("ANNA")
	bertCert, bertKey := newCustodian("BERT")
	trusted := func(der []byte) (string, crypto.PublicKey, error) { // deploy.Verifier in a deployment
		for _, cert := range []*x509.Certificate{annaCert, bertCert} {
			if string(cert.Raw) == string(der) {
				return "ACME/" + cert.Subject.CommonName, cert.PublicKey, nil
			}
		}
		return "", nil, errors.New("nobody we know")
	}
	token, now := ceremony.Token{Label: "acquirer", Serial: "c0ffee"}, time.Now()
	record := must(ceremony.New(ceremony.Plan{
		Tenant: "ACME", Name: must(keyset.ParseKeyRef("alias/bdk-1")), Environment: keyset.Production, Parity: keys.ParityAdjusted,
		Attributes: keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable},
		KeyKCV:     must(keys.ParseCheckValue("legacy:08D7B4")),
		Token:      token,
		Shares:     []ceremony.Share{{Custodian: "ACME/ANNA", Certificate: annaCert.Raw}, {Custodian: "ACME/BERT", Certificate: bertCert.Raw}},
		Created:    now, Expires: now.Add(72 * time.Hour),
	}))

	// Each seals the own component, as it stands on paper.
	var sealed [][]byte
	for i, digits := range []string{"7C8A9B0D1E2F30415263748596A7B8C9", "7DA9DE6A9784FDAEACBFCE1DE0F38AD9"} {
		c := must(keys.ParseComponent(keys.TDES2, []byte(digits)))
		s := keys.Sheet{Number: i + 1, Of: 2, Component: c, CheckValue: must(c.CheckValue(keys.KCVLegacy))}
		sealed = append(sealed, must(ceremony.Seal(record.Plan(), s, now)))
		s.Wipe()
	}

	// Both approve: this key, of these components, into this token.
	anna, bert := must(ceremony.NewCustodian(annaCert, annaKey)), must(ceremony.NewCustodian(bertCert, bertKey))
	if err := record.Collect(sealed); err != nil {
		panic(err)
	}
	if err := record.Approve(anna, trusted, now); err != nil {
		panic(err)
	}
	_, err := record.Begin(trusted, token, now)
	fmt.Println(err)
	if err := record.Approve(bert, trusted, now); err != nil {
		panic(err)
	}

	// On the machine of the token each opens the own component.
	loading := must(record.Begin(trusted, token, now))
	defer loading.Wipe()
	for i, who := range []ceremony.Custodian{anna, bert} {
		fmt.Println(who.Name(), must(loading.Open(sealed[i], who)))
	}
	key := must(loading.Key()) // for hsm.Token.Import; what came into the token is for loading.Finish
	defer key.Wipe()
	fmt.Println(key.KCV())
	// Output:
	// keyset: too few approvers: 1, want 2 custodians
	// ACME/ANNA legacy:CA0F7B
	// ACME/BERT legacy:0FCD23
	// 08D7B4
}
