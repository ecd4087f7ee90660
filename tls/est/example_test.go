package est_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// A terminal asks for a certificate, and the authority decides whether it may have one.
func Example() {
	id, err := identity.New("ACME", identity.Terminal, "T-0001")
	if err != nil {
		panic(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	csr, err := est.NewRequest(key, id)
	if err != nil {
		panic(err)
	}
	body := est.EncodeRequest(csr) // posted to est.PathEnroll

	der, err := est.DecodeRequest(body)
	if err != nil {
		panic(err)
	}
	pub, err := est.CheckRequest(der, est.Policy{Identity: id})
	fmt.Println("for the terminal itself:", key.PublicKey.Equal(pub), err)
	_, err = est.CheckRequest(der, est.Policy{Identity: identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-0002"}})
	fmt.Println("for another:", err)
	// Output:
	// for the terminal itself: true <nil>
	// for another: est: request refused: CN in the subject must be the name that it is for, or be left out
}

// An authority answers with certificates, and a terminal reads them.
func ExampleDecodeCerts() {
	block, _ := pem.Decode([]byte(somebody))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		panic(err)
	}
	body, err := est.EncodeCerts([]*x509.Certificate{cert})
	if err != nil {
		panic(err)
	}
	certs, err := est.DecodeCerts(body)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(certs), "certificate, for", certs[0].Subject)
	// Output:
	// 1 certificate, for CN=T-0001,O=ACME
}

// An authority says on which curve keys shall be.
func ExampleAttributes() {
	der, err := est.Attributes(elliptic.P384())
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s", est.EncodeRequest(der))
	curve, err := est.ParseAttributes(der)
	if err != nil {
		panic(err)
	}
	fmt.Println(curve.Params().Name)
	// Output:
	// MBQwEgYHKoZIzj0CATEHBgUrgQQAIg==
	// P-384
}

const somebody = `-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUO46JbDvKthBb82bodlKHaVQeVswwCgYIKoZIzj0EAwIw
IDENMAsGA1UECgwEQUNNRTEPMA0GA1UEAwwGVC0wMDAxMB4XDTI2MTEyNjAwNDYx
NloXDTM2MTEyMzAwNDYxNlowIDENMAsGA1UECgwEQUNNRTEPMA0GA1UEAwwGVC0w
MDAxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvoyUpBQbIe7D8fXFtNMiR4bu
4nawjaHy7zbqNPTlUhhF/sCD1yr9/F7h1Pcfc7wtWYg4OFVIyTlCYgpHoLjPlqNT
MFEwHQYDVR0OBBYEFPhk53UNWyMywM8PCZ38SSwbQvqaMB8GA1UdIwQYMBaAFPhk
53UNWyMywM8PCZ38SSwbQvqaMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID
SAAwRQIgYt3EhnBCkzBAZAff7UPn1niic0ogwZj3sFviwmcnqf4CIQCNPSgPOlrl
4bSVygq17g126TFXQMGBdDwPGxOIotR7fQ==
-----END CERTIFICATE-----`
