package keydist_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// signer is one of the people who approve documents.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSigner(tb testing.TB, name string) signer {
	tb.Helper()
	m, key := &maker{tb: tb}, newKey(tb, elliptic.P256())
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}
	return signer{m.sign(t, t, &key.PublicKey, key), key}
}

// byCommonName accepts everybody by the name in the certificate.
func byCommonName(der []byte) (string, crypto.PublicKey, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "", nil, err
	}
	return c.Subject.CommonName, c.PublicKey, nil
}

func signed(tb testing.TB, kind string, payload []byte, people ...signer) []byte {
	tb.Helper()
	doc := must[[]byte](tb)(keyset.Sign(kind, payload, people[0].cert.Raw, people[0].key))
	for _, p := range people[1:] {
		doc = must[[]byte](tb)(keyset.AddSignature(doc, p.cert.Raw, p.key))
	}
	return doc
}

func TestOpenMakers(t *testing.T) {
	t.Parallel()
	anna, bert, otherAnna := newSigner(t, "ANNA"), newSigner(t, "BERT"), newSigner(t, "ANNA")
	m := newMaker(t).document(1, "SN-1")
	inTest := must[[]byte](t)(m.Marshal())
	m.Environment = keyset.Production
	payload := must[[]byte](t)(m.Marshal())
	for _, c := range []struct {
		name string
		doc  []byte
		want error
	}{
		{"two people", signed(t, keydist.KindMakers, payload, bert, anna), nil},
		{"one in test", signed(t, keydist.KindMakers, inTest, anna), nil},
		{"one person", signed(t, keydist.KindMakers, payload, anna), keyset.ErrApprovals},
		{"one person with two certificates", signed(t, keydist.KindMakers, payload, anna, otherAnna), keyset.ErrApprovals},
		{"signed as a key set", signed(t, keyset.KindKeySet, payload, anna, bert), keyset.ErrFormat},
		{"a payload that is none", signed(t, keydist.KindMakers, payload[1:], anna, bert), keydist.ErrMakers},
		{"the payload alone", payload, keyset.ErrFormat},
	} {
		got, approvers, err := keydist.OpenMakers(c.doc, byCommonName)
		if !errors.Is(err, c.want) || (err == nil) != (got != nil) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
		if c.name == "two people" && (!slices.Equal(approvers, []string{"ANNA", "BERT"}) || !bytes.Equal(must[[]byte](t)(got.Marshal()), payload)) {
			t.Errorf("opened as %+v of %v", got, approvers)
		}
	}
}

// TestMarshalRefuses has the rules that no payload can break before it is written.
func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	maker := newMaker(t)
	leaf := maker.attest(&maker.otherKey.PublicKey, "SN-1")
	var crowd []string
	for i := range 400_000 {
		crowd = append(crowd, fmt.Sprintf("SN-%08d", i))
	}
	for name, change := range map[string]func(*keydist.Makers){
		"no tenant": func(m *keydist.Makers) { m.Tenant = "" }, "no environment": func(m *keydist.Makers) { m.Environment = 0 },
		"no revision": func(m *keydist.Makers) { m.Revision = 0 }, "no root": func(m *keydist.Makers) { m.Roots = nil },
		"a nil root":   func(m *keydist.Makers) { m.Roots = append(m.Roots, nil) },
		"a root twice": func(m *keydist.Makers) { m.Roots = []*x509.Certificate{maker.other, maker.root, maker.other} },
		"a leaf":       func(m *keydist.Makers) { m.Roots = []*x509.Certificate{leaf} },
		"33 roots":     func(m *keydist.Makers) { m.Roots = slices.Repeat(m.Roots, 33) },
		"too many devices for an envelope": func(m *keydist.Makers) {
			m.Devices = must[*keydist.AllowList](t)(keydist.ParseAllowList([]byte(strings.Join(crowd, "\n"))))
		},
	} {
		m := maker.document(1, "SN-1")
		change(m)
		if b, err := m.Marshal(); !errors.Is(err, keydist.ErrMakers) || b != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	fits := maker.document(1, crowd[:300_000]...)
	anna, bert := newSigner(t, "ANNA"), newSigner(t, "BERT")
	signed(t, keydist.KindMakers, must[[]byte](t)(fits.Marshal()), anna, bert)
	none := maker.document(1)
	none.Devices = nil
	if m := must[*keydist.Makers](t)(keydist.ParseMakers(must[[]byte](t)(none.Marshal()))); m.Devices.Len() != 0 {
		t.Errorf("no list became %d devices", m.Devices.Len())
	}
}

func TestFollows(t *testing.T) {
	t.Parallel()
	maker := newMaker(t)
	at := func(revision uint64, change func(*keydist.Makers)) *keydist.Makers {
		m := maker.document(revision)
		if change != nil {
			change(m)
		}
		return m
	}
	for _, c := range []struct {
		name           string
		previous, next *keydist.Makers
		good           bool
	}{
		{"the first", nil, at(1, nil), true}, {"the second", at(1, nil), at(2, nil), true},
		{"not the first", nil, at(2, nil), false}, {"again", at(1, nil), at(1, nil), false}, {"back", at(3, nil), at(2, nil), false},
		{"one left out", at(1, nil), at(3, nil), false}, {"after the last", at(math.MaxUint64, nil), at(0, nil), false},
		{"of another tenant", at(1, nil), at(2, func(m *keydist.Makers) { m.Tenant = "OTHER" }), false},
		{"of another environment", at(1, nil), at(2, func(m *keydist.Makers) { m.Environment = keyset.Production }), false},
	} {
		if err := c.next.Follows(c.previous); (err == nil) != c.good || err != nil && !errors.Is(err, keydist.ErrMakers) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestDistinct(t *testing.T) {
	t.Parallel()
	maker := newMaker(t)
	m := maker.document(1)
	again := maker.newRoot(maker.key) // another certificate of the same key
	if err := m.Distinct(maker.other); err != nil {
		t.Error(err)
	}
	if err := m.Distinct(maker.other, again); !errors.Is(err, keydist.ErrMakers) {
		t.Errorf("another certificate of our own key: %v", err)
	}
	if err := (*keydist.Makers)(nil).Distinct(maker.root); err != nil {
		t.Errorf("nobody: %v", err)
	}
}

// FuzzParseMakers: whatever is accepted is written as the same bytes, and trusts authorities only.
func FuzzParseMakers(f *testing.F) {
	maker := newMaker(f)
	two := maker.document(2, "SN-1", "certificate:0abc")
	two.Roots = append(two.Roots, maker.other)
	for _, m := range []*keydist.Makers{maker.document(1), two} {
		b := must[[]byte](f)(m.Marshal())
		if _, err := keydist.ParseMakers(b); err != nil {
			f.Fatalf("seed %x: %v", b, err)
		}
		f.Add(b, []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		m, err := keydist.ParseMakers(b)
		if err != nil {
			if m != nil || !errors.Is(err, keydist.ErrMakers) {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		again, err := m.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("what %x says is written as %x (%v)", b, again, err)
		}
		for _, root := range m.Roots {
			if !root.IsCA || m.Devices.Allows(&x509.Certificate{SerialNumber: new(big.Int)}) {
				t.Fatalf("%x trusts %v", b, root.Subject)
			}
		}
		if next := *m; m.Revision < math.MaxUint64 {
			next.Revision++
			if err := next.Follows(m); err != nil {
				t.Fatal(err)
			}
		}
	})
}
