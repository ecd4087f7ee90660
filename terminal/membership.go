package terminal

import (
	"crypto/ecdh"
	"crypto/x509"
	"errors"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// membership is what a terminal that has enrolled holds beside what a bundle gives: whom it asks for certificates and keys,
// the list of whom it trusts, and the key under which keys are delivered.
type membership struct {
	url, trustURL           string
	trust                   trustlist.Accepted
	document                []byte          // the list as it was signed; nil before the first
	list                    *trustlist.List // what it says
	agreement               [][]byte        // certificates of the agreement key, DER, its own first; nil before it has one
	agreementKey            secret.Bytes    // PKCS #8
	attestation             [][]byte        // what the maker of the device has certified it by, DER; nil for nothing
	renewAfter, renewBefore time.Time       // when to renew the TLS certificate; zero before an assignment came
}

// membershipRecord is a membership as stored, without its secret.
type membershipRecord struct {
	URL         string   `cbor:"url"`
	TrustURL    string   `cbor:"trust-url"`
	Pins        []string `cbor:"pins"` // keys that may sign the next list
	Document    []byte   `cbor:"list,omitempty"`
	Agreement   [][]byte `cbor:"agreement,omitempty"`
	Attestation [][]byte `cbor:"attestation,omitempty"`
	RenewAfter  int64    `cbor:"renew-after,omitempty"`
	RenewBefore int64    `cbor:"renew-before,omitempty"`
}

func (m *membership) record() membershipRecord {
	r := membershipRecord{
		URL: m.url, TrustURL: m.trustURL, Document: m.document, Agreement: m.agreement, Attestation: m.attestation,
		RenewAfter: seconds(m.renewAfter), RenewBefore: seconds(m.renewBefore),
	}
	for _, p := range m.trust.Pins {
		r.Pins = append(r.Pins, p.String())
	}
	return r
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// membership reads a record; key is kept.
func (r *membershipRecord) membership(tenant keyset.TenantID, key secret.Bytes) (*membership, error) {
	m := &membership{
		url: r.URL, trustURL: r.TrustURL, agreement: r.Agreement, agreementKey: key, attestation: r.Attestation,
	}
	m.trust.Tenant = string(tenant)
	for _, text := range r.Pins {
		var p trustlist.Pin
		if err := p.UnmarshalText([]byte(text)); err != nil {
			return nil, err
		}
		m.trust.Pins = append(m.trust.Pins, p)
	}
	if len(r.Document) > 0 {
		if _, err := m.accept(r.Document); err != nil {
			return nil, err
		}
	}
	if r.RenewAfter != 0 || r.RenewBefore != 0 {
		m.renewAfter, m.renewBefore = time.Unix(r.RenewAfter, 0).UTC(), time.Unix(r.RenewBefore, 0).UTC()
	}
	return m, nil
}

// accept takes a list that follows from what was accepted before, or is the same again, and reports whether it is news.
// The caller makes that durable before it acts on it.
func (m *membership) accept(document []byte) (news bool, err error) {
	list, err := trustlist.Open(document, m.trust)
	if err != nil {
		return false, err
	}
	news = list.Version != m.trust.Version
	m.trust, m.document, m.list = m.trust.Next(list), document, list
	return news, nil
}

// roots are those of the services authority: whom the terminal calls.
func (m *membership) roots() [][]byte { return rawOf(m.list.Services) }

// service is where package enroll finds the authority, and as whom. A clock that is behind the list cannot be right: that
// was made when it says.
func (m *membership) service(tenant keyset.TenantID, terminal keyset.TerminalID, timeout time.Duration, clock func() time.Time) enroll.Options {
	var made time.Time
	if m.list != nil {
		made = m.list.NotBefore
	}
	return enroll.Options{
		URL: m.url, Tenant: string(tenant), Terminal: string(terminal), Timeout: timeout,
		Clock: func() time.Time {
			now := clock()
			if now.Before(made) {
				return made
			}
			return now
		},
	}
}

// agreementPair returns the agreement certificate and its private key. The caller lets go of the key soon.
func (m *membership) agreementPair(s store) (*x509.Certificate, ecdh.KeyExchanger, error) {
	if len(m.agreement) == 0 {
		return nil, nil, errors.New("no agreement certificate")
	}
	leaf, err := x509.ParseCertificate(m.agreement[0])
	if err != nil {
		return nil, nil, err
	}
	signer, err := s.keyOf(m.agreementKey, leaf)
	if err != nil {
		return nil, nil, err
	}
	agreement, err := exchanger(signer)
	return leaf, agreement, err
}
