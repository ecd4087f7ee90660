package keyset

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"
)

// person is someone who can sign.
type person struct {
	cert []byte
	key  crypto.Signer
}

func newPerson(tb testing.TB, name string, curve elliptic.Curve) person {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return person{cert, key}
}

func signed(tb testing.TB, kind string, payload []byte, people ...person) []byte {
	tb.Helper()
	doc, err := Sign(kind, payload, people[0].cert, people[0].key)
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range people[1:] {
		doc, err = AddSignature(doc, p.cert, p.key)
		if err != nil {
			tb.Fatal(err)
		}
	}
	return doc
}

func TestOpenKeySet(t *testing.T) {
	t.Parallel()
	anna, bert := newPerson(t, "ANNA", elliptic.P256()), newPerson(t, "BERT", elliptic.P256())
	again := newPerson(t, "ANNA", elliptic.P256())
	testSet, err := Marshal(tdes(NewTDESPIN(), "A"))
	if err != nil {
		t.Fatal(err)
	}
	real := tdes(NewTDESPIN(), "A")
	real.Environment, real.Delivery = Production, Attested
	realSet, err := Marshal(real)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		doc       []byte
		approvers []string
		want      error
	}{
		{"test, one", signed(t, KindKeySet, testSet, anna), []string{"ANNA"}, nil},
		{"test, two", signed(t, KindKeySet, testSet, bert, anna), []string{"ANNA", "BERT"}, nil},
		{"production, two", signed(t, KindKeySet, realSet, anna, bert), []string{"ANNA", "BERT"}, nil},
		{"production, one", signed(t, KindKeySet, realSet, anna), nil, ErrApprovals},
		{"production, one twice", signed(t, KindKeySet, realSet, anna, again), nil, ErrApprovals},
		{"no set inside", signed(t, KindKeySet, []byte("hello"), anna), nil, ErrFormat},
		{"other kind", signed(t, KindTerminal, testSet, anna), nil, ErrFormat},
	} {
		s, approvers, err := OpenKeySet(c.doc, byCommonName)
		if !errors.Is(err, c.want) || !slices.Equal(approvers, c.approvers) || (s != nil) != (c.want == nil) {
			t.Errorf("%s: %v, %v, %v, want %v, %v", c.name, s, approvers, err, c.approvers, c.want)
		}
	}
}

func TestOpenTerminal(t *testing.T) {
	t.Parallel()
	anna := newPerson(t, "ANNA", elliptic.P256())
	r := &Terminal{
		Version: FormatVersion, Tenant: "SHOP", ID: "T-0001", Status: StatusPending, Generation: 1,
		Slots: []Slot{{Slot: 1, KeySet: "A", KeyID: keyID("1234567890123456"), State: SlotPending}},
	}
	b, err := MarshalTerminal(r)
	if err != nil {
		t.Fatal(err)
	}
	got, approvers, err := OpenTerminal(signed(t, KindTerminal, b, anna), byCommonName)
	if err != nil || got.ID != r.ID || !slices.Equal(approvers, []string{"ANNA"}) {
		t.Errorf("got %v, %v, %v", got, approvers, err)
	}
	if _, _, err := OpenTerminal(signed(t, KindTerminal, nil, anna), byCommonName); !errors.Is(err, ErrFormat) {
		t.Errorf("an empty record: %v, want an ErrFormat", err)
	}
}

// TestOpenCountsWhatTheVerifierAccepts: a signature of someone who may not sign is not counted, alone it is not enough.
func TestOpenCountsWhatTheVerifierAccepts(t *testing.T) {
	t.Parallel()
	anna, eve := newPerson(t, "ANNA", elliptic.P256()), newPerson(t, "EVE", elliptic.P256())
	errEve := errors.New("eve has left")
	onlyAnna := func(der []byte) (string, crypto.PublicKey, error) {
		name, pub, err := byCommonName(der)
		if name == "EVE" {
			return "", nil, errEve
		}
		return name, pub, err
	}
	_, approvers, err := Open(signed(t, "note", []byte("x"), eve, anna), "note", onlyAnna)
	if err != nil || !slices.Equal(approvers, []string{"ANNA"}) {
		t.Errorf("approvers %v, %v, want ANNA", approvers, err)
	}
	_, _, err = Open(signed(t, "note", []byte("x"), eve), "note", onlyAnna)
	if !errors.Is(err, ErrSignature) || !errors.Is(err, errEve) {
		t.Errorf("only eve: %v, want an ErrSignature with its reason", err)
	}
	nameless := func(der []byte) (string, crypto.PublicKey, error) {
		_, pub, err := byCommonName(der)
		return "", pub, err
	}
	if _, _, err := Open(signed(t, "note", []byte("x"), anna), "note", nameless); !errors.Is(err, ErrSignature) {
		t.Errorf("an approver without name: %v, want an ErrSignature", err)
	}
}

// TestEveryFlippedBitSpoilsDocument changes each bit of a document: none may open as anything else.
func TestEveryFlippedBitSpoilsDocument(t *testing.T) {
	t.Parallel()
	anna := newPerson(t, "ANNA", elliptic.P256())
	doc := signed(t, "note", []byte("payload"), anna)
	pinned := func(der []byte) (string, crypto.PublicKey, error) {
		if !bytes.Equal(der, anna.cert) {
			return "", nil, errors.New("unknown certificate")
		}
		return "ANNA", anna.key.Public(), nil
	}
	if _, _, err := Open(doc, "note", pinned); err != nil {
		t.Fatal(err)
	}
	for i := range doc {
		for bit := range 8 {
			changed := bytes.Clone(doc)
			changed[i] ^= 1 << bit
			if payload, _, err := Open(changed, "note", pinned); err == nil {
				t.Fatalf("byte %d bit %d: opens as %q", i, bit, payload)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	anna, bert := newPerson(t, "ANNA", elliptic.P256()), newPerson(t, "BERT", elliptic.P256())
	p384 := newPerson(t, "CARL", elliptic.P384())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() ([]byte, error){
		"other key":      func() ([]byte, error) { return Sign("note", nil, anna.cert, bert.key) },
		"no certificate": func() ([]byte, error) { return Sign("note", nil, nil, anna.key) },
		"P-384":          func() ([]byte, error) { return Sign("note", nil, p384.cert, p384.key) },
		"Ed25519":        func() ([]byte, error) { return Sign("note", nil, anna.cert, ed) },
		"kind empty":     func() ([]byte, error) { return Sign("", nil, anna.cert, anna.key) },
		"kind with NUL":  func() ([]byte, error) { return Sign("a\x00b", nil, anna.cert, anna.key) },
		"kind too long":  func() ([]byte, error) { return Sign(string(bytes.Repeat([]byte("k"), 33)), nil, anna.cert, anna.key) },
		"too large":      func() ([]byte, error) { return Sign("note", make([]byte, MaxSigned), anna.cert, anna.key) },
		"signed already": func() ([]byte, error) { return AddSignature(signed(t, "note", nil, anna), anna.cert, anna.key) },
		"no document":    func() ([]byte, error) { return AddSignature([]byte("x"), anna.cert, anna.key) },
	} {
		if doc, err := try(); err == nil {
			t.Errorf("%s: signed as %x", name, doc)
		}
	}
}

func TestRequireApprovals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env       Environment
		approvers []string
		enough    bool
	}{
		{Test, nil, false}, {Test, []string{"A"}, true},
		{Production, nil, false}, {Production, []string{"A"}, false}, {Production, []string{"A", "A"}, false},
		{Production, []string{"A", "B"}, true}, {Production, []string{"B", "A", "B"}, true},
		{0, []string{"A"}, false}, {99, []string{"A"}, false},
	} {
		err := RequireApprovals(c.env, c.approvers)
		if (err == nil) != c.enough || err != nil && !errors.Is(err, ErrApprovals) {
			t.Errorf("%v in %v: %v, want enough %v", c.approvers, c.env, err, c.enough)
		}
	}
}
