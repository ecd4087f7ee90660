package deploy

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func TestSaveKeySet(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	op := person(t, d, FirstOperator)
	set := pinSet(t, d, "PIN-1", "1111111100000001", "11111111000000FF")
	got, err := d.SaveKeySet(sign(t, set, op))
	must(t, err)
	if got.ID != "PIN-1" || got.Revision != 1 {
		t.Errorf("got %s revision %d", got.ID, got.Revision)
	}
	_, err = d.SaveKeySet(sign(t, dataSet(t, d, "DATA-1", "FFFF9876540000000000", "FFFF98765400FFE00000"), op))
	must(t, err)

	blocked := set.NextRevision()
	blocked.State = keyset.Blocked
	_, err = d.SaveKeySet(sign(t, blocked, op))
	must(t, err)
	sets, err := d.KeySets()
	must(t, err)
	if len(sets) != 2 || sets[0].ID != "DATA-1" || sets[1].ID != "PIN-1" || sets[1].Revision != 2 || sets[1].State != keyset.Blocked {
		t.Errorf("got %+v", sets)
	}
}

func TestSaveKeySetRefuses(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	op, auditor := person(t, d, FirstOperator), person(t, d, FirstAuditor)
	stranger := person(t, deployment(t, keyset.Production), FirstOperator) // same name and tenant, another authority
	first := pinSet(t, d, "PIN-1", "1111111100000001", "11111111000000FF")
	_, err := d.SaveKeySet(sign(t, first, op))
	must(t, err)
	fresh := func(change func(*keyset.KeySet)) *keyset.KeySet {
		s := pinSet(t, d, "PIN-2", "1111111200000001", "11111112000000FF")
		change(s)
		return s
	}
	tdes := dataSet(t, d, "X", "FFFF9876540000000000", "FFFF9876540000000000")
	nothing := func(*keyset.KeySet) {}
	good := sign(t, fresh(nothing), op)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/3] ^= 1
	for name, doc := range map[string][]byte{
		"nothing":                nil,
		"cut":                    good[:len(good)-1],
		"altered":                flipped,
		"signed by an auditor":   sign(t, fresh(nothing), auditor),
		"signed by a stranger":   sign(t, fresh(nothing), stranger),
		"signed as another kind": signPayload(t, keyset.KindTerminal, mustMarshal(t, fresh(nothing)), op),
		"other tenant":           sign(t, fresh(func(s *keyset.KeySet) { s.Tenant = "OTHER" }), op),
		"other environment":      sign(t, fresh(func(s *keyset.KeySet) { s.Environment, s.Delivery = keyset.Production, keyset.Attested }), op, op2(t, d)),
		"unknown base key":       sign(t, fresh(func(s *keyset.KeySet) { s.BaseKey = ref(t, "alias/nothing") }), op),
		"key of another algorithm": sign(t, fresh(func(s *keyset.KeySet) {
			s.BaseKey, s.BaseKeyFingerprint = ref(t, "alias/bdk/tdes"), tdes.BaseKeyFingerprint
		}), op),
		"other fingerprint": sign(t, fresh(func(s *keyset.KeySet) {
			s.BaseKeyFingerprint = tdes.BaseKeyFingerprint
		}), op),
		"range in use":             sign(t, fresh(func(s *keyset.KeySet) { s.FirstID = first.LastID }), op),
		"second revision first":    sign(t, fresh(func(s *keyset.KeySet) { s.Revision = 2 }), op),
		"same revision again":      sign(t, first, op),
		"revision left out":        sign(t, first.NextRevision().NextRevision(), op),
		"revision of another size": sign(t, func() *keyset.KeySet { s := first.NextRevision(); s.LastID = keyID(t, "11111111000001FF"); return s }(), op),
	} {
		if set, err := d.SaveKeySet(doc); !errors.Is(err, ErrDocument) {
			t.Errorf("%s: got %v, %v; want %v", name, set, err, ErrDocument)
		}
	}
	sets, err := d.KeySets()
	must(t, err)
	if len(sets) != 1 {
		t.Errorf("refusals left %d sets, want 1", len(sets))
	}
	_, err = d.SaveKeySet(good)
	must(t, err)
}

func mustMarshal(t *testing.T, s *keyset.KeySet) []byte {
	t.Helper()
	b, err := keyset.Marshal(s)
	must(t, err)
	return b
}

// op2 is a second person of a deployment.
func op2(t *testing.T, d *Deployment) *Person {
	t.Helper()
	p, err := d.AddPerson(t.Context(), identity.Custodian, "CUSTODIAN-1", secretOf("a passphrase of their own"))
	must(t, err)
	return p
}

// In production one person is not enough, whatever certificates they hold.
func TestTwoPeople(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Production)
	op, second := person(t, d, FirstOperator), op2(t, d)
	set := pinSet(t, d, "PIN-1", "1111111100000001", "11111111000000FF")
	if _, err := d.SaveKeySet(sign(t, set, op)); !errors.Is(err, keyset.ErrApprovals) {
		t.Errorf("one person: %v", err)
	}
	if _, err := d.AddPerson(t.Context(), identity.Custodian, FirstOperator, passphrase); err == nil {
		t.Error("a second certificate over the first")
	}
	if _, err := d.SaveKeySet(sign(t, set, op, person(t, d, FirstAuditor))); !errors.Is(err, keyset.ErrApprovals) {
		t.Errorf("with an auditor: %v", err)
	}
	_, err := d.SaveKeySet(sign(t, set, op, second))
	must(t, err)
	if _, err := d.Operator("CUSTODIAN-1"); err == nil {
		t.Error("the passphrase of the deployment opens another person's key")
	}
	again, err := d.OpenPerson("CUSTODIAN-1", secretOf("a passphrase of their own"))
	if err != nil || again.Identity() != second.Identity() {
		t.Errorf("got %v, %v", again, err)
	}
	if _, err := d.AddPerson(t.Context(), identity.Terminal, "X", passphrase); err == nil {
		t.Error("a terminal as a person")
	}
}

func TestVerifierTime(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	doc := sign(t, pinSet(t, d, "PIN-1", "1111111100000001", "11111111000000FF"), person(t, d, FirstOperator))
	for name, tt := range map[string]struct {
		at   time.Time
		good bool
	}{
		"stored": {time.Time{}, true}, "today": {now, true}, "before": {now.AddDate(0, 0, -1), false}, "after": {now.AddDate(3, 0, 0), false},
	} {
		v, err := Verifier(d.Dir(), "ACME", tt.at)
		must(t, err)
		if _, approvers, err := keyset.OpenKeySet(doc, v); (err == nil) != tt.good {
			t.Errorf("%s: %v, %v", name, approvers, err)
		}
	}
	v, err := Verifier(d.Dir(), "OTHER", time.Time{})
	must(t, err)
	if _, _, err := keyset.OpenKeySet(doc, v); !errors.Is(err, keyset.ErrSignature) {
		t.Errorf("another tenant: %v", err)
	}
	later := now.AddDate(2, 0, 0) // the operator's certificate is over, the document stays good
	d2, err := OpenAt(d.Dir(), passphrase, func() time.Time { return later })
	must(t, err)
	defer d2.Close()
	if _, err := d2.SaveKeySet(doc); !errors.Is(err, ErrDocument) {
		t.Errorf("a new document by an expired certificate: %v", err)
	}
	_, err = d.SaveKeySet(doc)
	must(t, err)
	sets, err := d2.KeySets()
	if err != nil || len(sets) != 1 {
		t.Errorf("a stored document lapsed: %d, %v", len(sets), err)
	}
}

func TestCatalogReload(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	op := person(t, d, FirstOperator)
	set := pinSet(t, d, "PIN-1", "1111111100000001", "11111111000000FF")
	_, err := d.SaveKeySet(sign(t, set, op))
	must(t, err)
	c, err := d.Catalog()
	must(t, err)
	if _, ok := c.KeySet("NOTHING"); ok {
		t.Error("found a set that is not there")
	}
	if _, ok := c.Terminal("OTHER", "T-1"); ok {
		t.Error("found a terminal of another tenant")
	}
	blocked := set.NextRevision()
	blocked.State = keyset.Blocked
	_, err = d.SaveKeySet(sign(t, blocked, op))
	must(t, err)
	if got, ok := c.KeySet("PIN-1"); !ok || got.Revision != 1 {
		t.Errorf("before Reload: %+v", got)
	}
	must(t, c.Reload())
	state := func(when string) {
		t.Helper()
		if got, ok := c.KeySet("PIN-1"); !ok || got.Revision != 2 || got.State != keyset.Blocked {
			t.Errorf("%s: %+v", when, got)
		}
	}
	state("after Reload")

	second := d.Path("keysets", "PIN-1.r2.signed")
	was, err := os.ReadFile(second)
	must(t, err)
	active := set.NextRevision() // another revision 2, signed as well
	for name, tt := range map[string]struct {
		damage func()
		want   error
	}{
		"gone":    {func() { must(t, os.Remove(second)) }, ErrRollback},
		"another": {func() { must(t, os.WriteFile(second, sign(t, active, op), 0o600)) }, ErrRollback},
		"damaged": {func() { must(t, os.WriteFile(second, was[:len(was)-1], 0o600)) }, ErrDocument},
		"empty":   {func() { must(t, os.WriteFile(second, nil, 0o600)) }, ErrDocument},
		"huge":    {func() { must(t, os.WriteFile(second, make([]byte, keyset.MaxSigned+1), 0o600)) }, ErrDocument},
	} {
		tt.damage()
		if err := c.Reload(); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), second) {
			t.Errorf("%s: got %v, want %v that names %s", name, err, tt.want, second)
		}
		state(name)
		must(t, os.WriteFile(second, was, 0o600))
		must(t, c.Reload())
	}
	for _, name := range []string{"notes.txt", "PIN-1.r03.signed", "pin-1.r1.signed", "PIN-1.g1.signed", "PIN-1.r4.signed"} {
		path := filepath.Join(d.Path("keysets"), name)
		must(t, os.WriteFile(path, was, 0o600))
		if err := c.Reload(); !errors.Is(err, ErrDocument) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, os.Remove(path))
	}
	must(t, c.Reload())
	state("at the end")
}

// A set whose base key is not in the ring that the daemon holds fails the load.
func TestCatalogWithoutKeys(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	_, err := d.SaveKeySet(sign(t, pinSet(t, d, "PIN-1", "1111111100000001", "11111111000000FF"), person(t, d, FirstOperator)))
	must(t, err)
	other := deployment(t, keyset.Production)
	ring, err := other.Keyring()
	must(t, err)
	o := d.catalogOptions(ring) // keys of the same names, of another ring
	if _, err := NewCatalog(o); !errors.Is(err, ErrDocument) || !strings.Contains(err.Error(), "fingerprint") {
		t.Errorf("keys of another ring: %v", err)
	}
	ring, err = d.Keyring()
	must(t, err)
	o = d.catalogOptions(ring)
	o.Environment = keyset.Production
	if _, err := NewCatalog(o); !errors.Is(err, ErrDocument) || !strings.Contains(err.Error(), "environment") {
		t.Errorf("another environment: %v", err)
	}
	o = d.catalogOptions(ring)
	o.Keys = nil // as at the registration authority, which holds none
	if c, err := NewCatalog(o); err != nil || len(c.KeySets()) != 1 {
		t.Errorf("without keys: %v", err)
	}
	o = d.catalogOptions(ring)
	o.KeySets = filepath.Join(d.Dir(), "nothing")
	if _, err := NewCatalog(o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}
