package ceremony

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

var (
	start = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	later = start.Add(time.Hour)
	token = Token{Label: "acquirer", Serial: "0123456789abcdef"}
)

// person is a custodian, or somebody who is none.
type person struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newPerson(tb testing.TB, role identity.Role, name string) person {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	return certified(tb, role, name, key)
}

func certified(tb testing.TB, role identity.Role, name string, key *ecdsa.PrivateKey) person {
	tb.Helper()
	id, err := identity.New("ACME", role, name)
	check(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: id.Subject(), NotBefore: start, NotAfter: start.AddDate(1, 0, 0),
		URIs: []*url.URL{id.URI()}, Policies: []x509.OID{role.Policy()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(tb, err)
	cert, err := x509.ParseCertificate(der)
	check(tb, err)
	return person{cert, key}
}

func (p person) custodian(tb testing.TB) Custodian {
	tb.Helper()
	c, err := NewCustodian(p.cert, p.key)
	check(tb, err)
	return c
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

var errStranger = errors.New("stranger")

// trusted is a verifier that knows these people.
func trusted(people ...person) keyset.Verifier {
	return func(der []byte) (string, crypto.PublicKey, error) {
		for _, p := range people {
			if string(p.cert.Raw) == string(der) {
				return "ACME/" + p.cert.Subject.CommonName, p.cert.PublicKey, nil
			}
		}
		return "", nil, errStranger
	}
}

// lab is a ceremony with two custodians whose components make the key of the 2009 sample.
type lab struct {
	anna, bert, cleo person
	plan             Plan
	record           *Record
	sheets           []keys.Sheet
	sealed           [][]byte
}

func (l *lab) verifier() keyset.Verifier { return trusted(l.anna, l.bert, l.cleo) }

const (
	partA = "1111111111111111AAAAAAAAAAAAAAAA" // two components that make no key of the plan
	partB = "103254769898DCFE5476103232105498"
)

func attributes(a keys.Algorithm) keys.Attributes {
	return keys.Attributes{Algorithm: a, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}
}

// newLab makes a ceremony up to the sealed components.
func newLab(tb testing.TB, a keys.Algorithm) *lab {
	tb.Helper()
	l := &lab{anna: newPerson(tb, identity.Custodian, "ANNA"), bert: newPerson(tb, identity.Custodian, "BERT"), cleo: newPerson(tb, identity.Custodian, "CLEO")}
	l.plan = l.draft(tb, a)
	k, err := keys.GenerateKey(attributes(a))
	check(tb, err)
	tb.Cleanup(k.Wipe)
	l.plan.KeyKCV, err = k.CheckValue(a.CheckValueKind())
	check(tb, err)
	l.sheets, err = keys.Split(k, keys.ParityAdjusted, 2)
	check(tb, err)
	l.begin(tb)
	return l
}

func (l *lab) draft(tb testing.TB, a keys.Algorithm) Plan {
	tb.Helper()
	name, err := keyset.ParseKeyRef("alias/bdk-1")
	check(tb, err)
	return Plan{
		Tenant: "ACME", Name: name, Attributes: attributes(a), Environment: keyset.Production, Parity: keys.ParityAdjusted, Token: token,
		Shares:  []Share{{"ACME/ANNA", l.anna.cert.Raw}, {"ACME/BERT", l.bert.cert.Raw}},
		Created: start, Expires: start.Add(24 * time.Hour),
	}
}

// begin makes the record of the plan and seals the sheets.
func (l *lab) begin(tb testing.TB) {
	tb.Helper()
	r, err := New(l.plan)
	check(tb, err)
	l.record, l.plan, l.sealed = r, r.Plan(), nil
	for _, s := range l.sheets {
		b, err := Seal(l.plan, s, later)
		check(tb, err)
		l.sealed = append(l.sealed, b)
	}
}

// approve collects the components and has people approve.
func (l *lab) approve(tb testing.TB, people ...person) {
	tb.Helper()
	check(tb, l.record.Collect(l.sealed))
	for _, p := range people {
		check(tb, l.record.Approve(p.custodian(tb), l.verifier(), later))
	}
}

func (l *lab) load(tb testing.TB) *Loading {
	tb.Helper()
	in, err := l.record.Begin(l.verifier(), token, later)
	check(tb, err)
	tb.Cleanup(in.Wipe)
	return in
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	check(tb, err)
	return b
}

// sheetOf makes a sheet of digits.
func sheetOf(tb testing.TB, a keys.Algorithm, number, of int, digits string) keys.Sheet {
	tb.Helper()
	c, err := keys.NewComponent(a, unhex(tb, digits))
	check(tb, err)
	v, err := c.CheckValue(a.CheckValueKind())
	check(tb, err)
	return keys.Sheet{Number: number, Of: of, Component: c, CheckValue: v}
}
