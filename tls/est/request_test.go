package est_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// refuses reports what CheckRequest does with a request that it must refuse with one of the texts.
func refuses(t *testing.T, der []byte, p est.Policy, texts ...string) {
	t.Helper()
	key, err := est.CheckRequest(der, p)
	if err == nil || key != nil {
		t.Fatalf("%x is accepted", der)
	}
	if errors.Is(err, est.ErrFormat) == errors.Is(err, est.ErrRequest) {
		t.Fatalf("%x gives %v, want ErrFormat or ErrRequest", der, err)
	}
	got := err.Error()
	for _, text := range texts {
		if got == formatPrefix+text || got == requestPrefix+text {
			return
		}
	}
	t.Fatalf("%x gives %q, want one of %q", der, got, texts)
}

func TestCheckRequestRefuses(t *testing.T) {
	t.Parallel()
	key := newKey(elliptic.P256())
	n := 0
	for _, table := range []hostile{hostileNames, hostilePowers, hostileKeys, hostileForms} {
		for text, cases := range table {
			for name, change := range cases {
				n++
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					d := newDraft(key)
					change(d)
					refuses(t, d.bytes(), est.Policy{Identity: terminal}, text)
				})
			}
		}
	}
	if n < 100 {
		t.Errorf("%d hostile requests, want 100 at least", n)
	}
}

// TestCheckRequestRefusesKnownKeys goes through private keys that everybody can find.
func TestCheckRequestRefusesKnownKeys(t *testing.T) {
	t.Parallel()
	var keys []*ecdsa.PrivateKey
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		for d := 1; d <= 16; d++ {
			keys = append(keys, scalar(t, curve, d), scalar(t, curve, -d))
		}
	}
	for _, text := range publishedKeys {
		keys = append(keys, publishedKey(t, text))
	}
	for _, key := range keys {
		refuses(t, newDraft(key).bytes(), est.Policy{Identity: terminal}, knownKey)
	}
	if key := scalar(t, elliptic.P256(), 17); key != nil {
		if _, err := est.CheckRequest(newDraft(key).bytes(), est.Policy{Identity: terminal}); err != nil {
			t.Errorf("the list of small scalars is longer than it says: %v", err)
		}
	}
}

// TestCheckRequestRefusesOtherBytes changes the bytes of an honest request and of one that asks for extensions.
func TestCheckRequestRefusesOtherBytes(t *testing.T) {
	t.Parallel()
	d := newDraft(newKey(elliptic.P256()))
	d.attributes = wanted(extension(oidSAN, seq(general(6, uri))), critical(oidBC, seq()))
	honest := d.bytes()
	if _, err := est.CheckRequest(honest, est.Policy{Identity: terminal}); err != nil {
		t.Fatal(err)
	}
	wrong := func(b []byte) {
		if _, err := est.CheckRequest(b, est.Policy{Identity: terminal}); !errors.Is(err, est.ErrFormat) && !errors.Is(err, est.ErrRequest) {
			t.Errorf("%x gives %v", b, err)
		}
	}
	for i := 0; i < len(honest); i += 50 {
		refuses(t, honest[:i], est.Policy{Identity: terminal}, notRequest)
	}
	for i := range honest {
		wrong(honest[:i])
		for _, bit := range []byte{1, 0x20, 0x80} {
			b := bytes.Clone(honest)
			b[i] ^= bit
			wrong(b)
		}
	}
	refuses(t, nil, est.Policy{Identity: terminal}, notRequest)
	refuses(t, append(bytes.Clone(honest), 0), est.Policy{Identity: terminal}, following)
	refuses(t, append(bytes.Clone(honest), honest...), est.Policy{Identity: terminal}, following)
	refuses(t, make([]byte, 64<<10), est.Policy{Identity: terminal}, tooLong)

	content := honest[4:] // behind 30 82 xx xx
	if honest[1] != 0x82 {
		t.Fatalf("the request begins with %x", honest[:4])
	}
	indefinite := append(append([]byte{0x30, 0x80}, content...), 0, 0)
	long := append([]byte{0x30, 0x83, 0, honest[2], honest[3]}, content...)
	primitive := append([]byte{0x10}, honest[1:]...)
	for _, b := range [][]byte{indefinite, long, primitive} {
		refuses(t, b, est.Policy{Identity: terminal}, notRequest)
	}
}

// TestCheckRequestAccepts are the requests of honest terminals, whatever software they have.
func TestCheckRequestAccepts(t *testing.T) {
	t.Parallel()
	challenge := attribute(oidChallenge, tlv(asn1.PrintableString, []byte("4XQ7M2B9KTD0")))
	alternative := attribute(oidExtensions, seq(extension(oidSAN, seq(general(6, uri)))))
	for name, change := range map[string]func(*draft){
		"as openssl":          func(*draft) {},
		"no subject":          subject(),
		"CN alone":            subject(rdn(oidCN, asn1.UTF8String, "T-0001")),
		"O alone":             subject(rdn(oidO, asn1.PrintableString, "ACME")),
		"CN before O":         subject(rdn(oidCN, asn1.PrintableString, "T-0001"), rdn(oidO, asn1.UTF8String, "ACME")),
		"as strongSwan":       asks(challenge, alternative),
		"the other way round": asks(alternative, challenge),
		"a challenge alone":   asks(challenge),
		"an empty challenge":  asks(attribute(oidChallenge, tlv(asn1.UTF8String))),
		"no subject, a critical name": func(d *draft) {
			d.subject, d.attributes = seq(), wanted(critical(oidSAN, seq(general(6, uri))))
		},
		"every usage that it has": extended(
			critical(oidBC, seq()), critical(oidKU, tlv(asn1.BIT_STRING, []byte{7, 0x80})), extension(oidEKU, seq(oid(oidClientAuth)))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDraft(newKey(elliptic.P256()))
			change(d)
			got, err := est.CheckRequest(d.bytes(), est.Policy{Identity: terminal})
			if err != nil || !d.key.PublicKey.Equal(got) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestCheckRequestCurves(t *testing.T) {
	t.Parallel()
	all := []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}
	for _, curve := range all {
		der, err := est.NewRequest(newKey(curve), terminal)
		if err != nil {
			t.Fatal(err)
		}
		for _, permitted := range all {
			p := est.Policy{Identity: terminal, Curves: []elliptic.Curve{permitted}}
			if curve == permitted {
				if _, err := est.CheckRequest(der, p); err != nil {
					t.Errorf("%s: %v", curve.Params().Name, err)
				}
				continue
			}
			refuses(t, der, p, badKey)
		}
		refuses(t, der, est.Policy{Identity: terminal, Curves: []elliptic.Curve{}}, badKey)
	}
	if _, err := est.CheckRequest(nil, est.Policy{}); !errors.Is(err, identity.ErrIdentity) {
		t.Errorf("a policy without an identity: %v", err)
	}
}

func TestCheckRequestAgreement(t *testing.T) {
	t.Parallel()
	p := est.Policy{Identity: agreement}
	for text, change := range map[string]func(*draft){
		badSAN:       named(general(6, terminal.String())),
		badAgreement: extended(critical(oidKU, tlv(asn1.BIT_STRING, []byte{7, 0x80}))),
		badAgreedEKU: extended(extension(oidEKU, seq(oid(oidClientAuth)))),
	} {
		d := newDraft(newKey(elliptic.P256()))
		change(d)
		refuses(t, d.bytes(), p, text)
	}
	d := newDraft(newKey(elliptic.P521()))
	d.attributes = wanted(extension(oidSAN, seq(general(6, agreement.String()))), critical(oidKU, tlv(asn1.BIT_STRING, []byte{3, 0x08})))
	if _, err := est.CheckRequest(d.bytes(), p); err != nil {
		t.Error(err)
	}
}

// certificate makes one of the identity for a key, with the subject written as Go does.
func certificate(t testing.TB, key *ecdsa.PrivateKey, id identity.Identity, subject pkix.Name) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: subject, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e9, 0),
		URIs: []*url.URL{id.URI()}, Policies: []x509.OID{id.Role.Policy()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestReenrol compares names as they read: Go writes the certificate with PrintableString, openssl the request with
// UTF8String.
func TestReenrol(t *testing.T) {
	t.Parallel()
	key, name := newKey(elliptic.P256()), pkix.Name{Organization: []string{"ACME"}, CommonName: "T-0001"}
	current := certificate(t, key, terminal, name)
	if !bytes.Contains(current.RawSubject, []byte("\x13\x06T-0001")) {
		t.Fatalf("the subject is written as %x", current.RawSubject)
	}
	p := est.Policy{Identity: terminal, Current: current}
	for _, k := range []*ecdsa.PrivateKey{key, newKey(elliptic.P384())} {
		if _, err := est.CheckRequest(newDraft(k).bytes(), p); err != nil {
			t.Errorf("another spelling: %v", err)
		}
		der, err := est.NewRequest(k, terminal)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := est.CheckRequest(der, p); err != nil {
			t.Errorf("our own: %v", err)
		}
	}
	for name, change := range map[string]func(*draft){
		"no subject": subject(), "CN alone": subject(rdn(oidCN, asn1.UTF8String, "T-0001")), "O alone": subject(rdn(oidO, asn1.UTF8String, "ACME")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDraft(key)
			change(d)
			refuses(t, d.bytes(), p, otherSubject)
		})
	}
	d := newDraft(key)
	cn("T-0002")(d)
	refuses(t, d.bytes(), p, badCN)

	other := terminal
	other.Name = "T-0002"
	honest := newDraft(key).bytes()
	refuses(t, honest, est.Policy{Identity: terminal, Current: certificate(t, key, other, name)}, somebodyElse)
	stranger := certificate(t, key, terminal, name)
	stranger.Policies = nil
	refuses(t, honest, est.Policy{Identity: terminal, Current: stranger}, noIdentity)
	more := certificate(t, key, terminal, pkix.Name{Organization: []string{"ACME"}, CommonName: "T-0001", OrganizationalUnit: []string{"X"}})
	refuses(t, honest, est.Policy{Identity: terminal, Current: more}, otherSubject)
}

// TestAgreementKeyIsAnother enrols an agreement key beside a TLS key.
func TestAgreementKeyIsAnother(t *testing.T) {
	t.Parallel()
	key := newKey(elliptic.P256())
	p := est.Policy{
		Identity: agreement,
		Current:  certificate(t, key, terminal, pkix.Name{Organization: []string{"ACME"}, CommonName: "T-0001"}),
	}
	der, err := est.NewRequest(key, agreement)
	if err != nil {
		t.Fatal(err)
	}
	refuses(t, der, p, newKeyPlease)
	der, err = est.NewRequest(newKey(elliptic.P256()), agreement)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := est.CheckRequest(der, p); err != nil {
		t.Error(err)
	}
	d := newDraft(newKey(elliptic.P256())) // the subject may be left out here
	d.subject = seq()
	if _, err := est.CheckRequest(d.bytes(), p); err != nil {
		t.Error(err)
	}
}

func TestNewRequestRefuses(t *testing.T) {
	t.Parallel()
	if _, err := est.NewRequest(newKey(elliptic.P256()), identity.Identity{}); !errors.Is(err, identity.ErrIdentity) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := est.NewRequest(nil, terminal); err == nil {
		t.Error("a request without a key")
	}
	if _, err := est.NewRequest(rsa2048, terminal); !errors.Is(err, est.ErrRequest) {
		t.Errorf("RSA: %v", err)
	}
	if _, err := est.NewRequest(newKey(elliptic.P224()), terminal); !errors.Is(err, est.ErrRequest) {
		t.Errorf("P-224: %v", err)
	}
}

func TestDecodeRequest(t *testing.T) {
	t.Parallel()
	der, err := est.NewRequest(newKey(elliptic.P256()), terminal)
	if err != nil {
		t.Fatal(err)
	}
	body := est.EncodeRequest(der)
	for line := range bytes.Lines(body) {
		if len(line) > 65 || line[len(line)-1] != '\n' {
			t.Errorf("line %q", line)
		}
	}
	text := string(body)
	one := strings.ReplaceAll(text, "\n", "")
	for name, s := range map[string]string{
		"as written": text, "one line": one, "CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "no end": strings.TrimSpace(text),
		"blank before": "\r\n" + text, "tabs": strings.ReplaceAll(text, "\n", "\t"), "blanks": strings.ReplaceAll(text, "\n", " "),
		"broken anywhere": one[:3] + "\n" + one[3:7] + " " + one[7:],
	} {
		if got, err := est.DecodeRequest([]byte(s)); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for name, s := range map[string]string{
		"nothing": "", "blanks": "\r\n \t", "DER": string(der), "PEM": "-----BEGIN CERTIFICATE REQUEST-----\n" + text,
		"one letter less": one[1:], "URL alphabet": "-_" + one[2:],
		"percent": strings.ReplaceAll(one, "+", "%2B") + "%", "NUL": one + "\x00", "a name": "request=" + one,
		"stray bits": "AB==", "too long": strings.Repeat("A", 65<<10), "too long inside": strings.Repeat("A", 16<<10),
	} {
		if got, err := est.DecodeRequest([]byte(s)); !errors.Is(err, est.ErrFormat) || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	for _, s := range []string{"MAA", "MA==MAA=", "MAA=AAAA", "MAA==", "MB=="} {
		if got, err := est.DecodeRequest([]byte(s)); !errors.Is(err, est.ErrFormat) || got != nil {
			t.Errorf("%s: %x, %v", s, got, err)
		}
	}
}
