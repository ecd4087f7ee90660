package deploy

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// makerRoot is the root of a maker of devices.
func makerRoot(t *testing.T) *x509.Certificate {
	t.Helper()
	key, der, err := generateKey()
	must(t, err)
	der.Wipe()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Maker"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(9, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(raw)
	must(t, err)
	return cert
}

// makers is a revision with one maker.
func makers(t *testing.T, d *Deployment, revision uint64, root *x509.Certificate, devices ...string) *keydist.Makers {
	t.Helper()
	list, err := keydist.ParseAllowList([]byte(strings.Join(devices, "\n")))
	must(t, err)
	return &keydist.Makers{
		Tenant: "ACME", Environment: d.Config().Environment, Revision: revision, Roots: []*x509.Certificate{root}, Devices: list,
	}
}

func signMakers(t *testing.T, m *keydist.Makers, people ...*Person) []byte {
	t.Helper()
	payload, err := m.Marshal()
	must(t, err)
	return signPayload(t, keydist.KindMakers, payload, people...)
}

// inForce demands the devices of a revision.
func inForce(t *testing.T, what string, a *Attested, revision uint64, devices ...string) {
	t.Helper()
	m := a.Makers()
	if m == nil || m.Revision != revision || len(m.Roots) != 1 || !slices.Equal(m.Devices.Lines(), devices) {
		t.Errorf("%s: %+v is in force, want revision %d with %v", what, m, revision, devices)
	}
}

func TestSaveMakers(t *testing.T) {
	t.Parallel()
	d, root := deployment(t, keyset.Production), makerRoot(t)
	op, second := person(t, d, FirstOperator), op2(t, d)
	a, err := d.Attested()
	must(t, err)
	if a.Makers() != nil || a.Approvers() != nil {
		t.Errorf("before the first document: %+v of %v", a.Makers(), a.Approvers())
	}
	for revision, devices := range [][]string{{}, {"SN-1", "SN-2"}, {"SN-2"}} {
		m, approvers, err := d.SaveMakers(signMakers(t, makers(t, d, uint64(revision+1), root, devices...), op, second))
		must(t, err)
		if m.Revision != uint64(revision+1) || len(approvers) != 2 {
			t.Errorf("revision %d of %v", m.Revision, approvers)
		}
		must(t, a.Reload())
		inForce(t, "saved", a, uint64(revision+1), devices...)
	}
	again, err := d.Attested()
	must(t, err)
	inForce(t, "read anew", again, 3, "SN-2")
	if got := again.Approvers(); !slices.Equal(got, []string{"ACME/CUSTODIAN-1", "ACME/OPERATOR-1"}) {
		t.Errorf("approved by %v", got)
	}
	if files, err := filepath.Glob(d.Path("attested", "*")); err != nil || len(files) != 3 {
		t.Errorf("%v are kept, %v", files, err)
	}
}

func TestSaveMakersRefuses(t *testing.T) {
	t.Parallel()
	d, root := deployment(t, keyset.Production), makerRoot(t)
	op, second, auditor := person(t, d, FirstOperator), op2(t, d), person(t, d, FirstAuditor)
	stranger := person(t, deployment(t, keyset.Test), FirstOperator) // same name and tenant, another authority
	_, _, err := d.SaveMakers(signMakers(t, makers(t, d, 1, root, "SN-1"), op, second))
	must(t, err)
	next := func(change func(*keydist.Makers)) *keydist.Makers {
		m := makers(t, d, 2, root, "SN-1", "SN-2")
		if change != nil {
			change(m)
		}
		return m
	}
	good := signMakers(t, next(nil), op, second)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/3] ^= 1
	payload, err := next(nil).Marshal()
	must(t, err)
	docs := map[string][]byte{
		"nothing": nil, "cut": good[:len(good)-1], "altered": flipped, "unsigned": payload,
		"one person":             signMakers(t, next(nil), op),
		"with an auditor":        signMakers(t, next(nil), op, auditor),
		"with a stranger":        signMakers(t, next(nil), op, stranger),
		"signed as another kind": signPayload(t, keyset.KindKeySet, payload, op, second),
		"one person, as of test": signMakers(t, next(func(m *keydist.Makers) { m.Environment = keyset.Test }), op),
		"of test":                signMakers(t, next(func(m *keydist.Makers) { m.Environment = keyset.Test }), op, second),
		"of another tenant":      signMakers(t, next(func(m *keydist.Makers) { m.Tenant = "OTHER" }), op, second),
		"the first again":        signMakers(t, next(func(m *keydist.Makers) { m.Revision = 1 }), op, second),
		"one left out":           signMakers(t, next(func(m *keydist.Makers) { m.Revision = 3 }), op, second),
	}
	for _, authority := range identity.Authorities() {
		own, err := readCertificates(TrustPath(d.Dir(), authority))
		must(t, err)
		docs["our own root of "+authority.String()] = signMakers(t, next(func(m *keydist.Makers) { m.Roots = append(m.Roots, own...) }), op, second)
	}
	for name, doc := range docs {
		if m, _, err := d.SaveMakers(doc); !errors.Is(err, ErrDocument) || m != nil {
			t.Errorf("%s: got %v, %v; want %v", name, m, err, ErrDocument)
		}
	}
	issuing, err := readCertificates(d.Path("ca", "keydist", "issuing.crt"))
	must(t, err)
	if _, err := makers(t, d, 2, issuing[0]).Marshal(); !errors.Is(err, keydist.ErrMakers) {
		t.Errorf("our own issuing certificate: %v", err)
	}
	a, err := d.Attested()
	must(t, err)
	inForce(t, "after refusals", a, 1, "SN-1")
	later, err := OpenAt(d.Dir(), passphrase, func() time.Time { return now.AddDate(2, 0, 0) })
	must(t, err)
	defer later.Close()
	if _, _, err := later.SaveMakers(good); !errors.Is(err, ErrDocument) {
		t.Errorf("a new document by expired certificates: %v", err)
	}
	_, _, err = d.SaveMakers(good)
	must(t, err)
	a, err = later.Attested()
	must(t, err)
	inForce(t, "when the signers' certificates are over", a, 2, "SN-1", "SN-2")
}

// TestAttestedReload damages the folder in every way that one person can. What was good stays in force.
func TestAttestedReload(t *testing.T) {
	t.Parallel()
	d, root := deployment(t, keyset.Production), makerRoot(t)
	op, second := person(t, d, FirstOperator), op2(t, d)
	save := func(revision uint64, devices ...string) {
		t.Helper()
		_, _, err := d.SaveMakers(signMakers(t, makers(t, d, revision, root, devices...), op, second))
		must(t, err)
	}
	save(1)
	a, err := d.Attested()
	must(t, err)
	save(2, "SN-1")
	save(3, "SN-1", "SN-2")
	inForce(t, "before Reload", a, 1)
	must(t, a.Reload())
	inForce(t, "after Reload", a, 3, "SN-1", "SN-2")
	put := func(name string, doc []byte) { must(t, os.WriteFile(d.Path("attested", name), doc, 0o600)) }
	remove := func(name string) { must(t, os.Remove(d.Path("attested", name))) }
	was := map[string][]byte{}
	for _, name := range []string{"r1.signed", "r2.signed", "r3.signed"} {
		was[name], err = os.ReadFile(d.Path("attested", name))
		must(t, err)
	}
	for name, c := range map[string]struct {
		damage func()
		want   error
		named  string
	}{
		"the latest gone":      {func() { remove("r3.signed") }, ErrRollback, "r3.signed"},
		"the first gone":       {func() { remove("r1.signed") }, ErrDocument, "r2.signed"},
		"one in between gone":  {func() { remove("r2.signed") }, ErrDocument, "r3.signed"},
		"all gone":             {func() { remove("r1.signed"); remove("r2.signed"); remove("r3.signed") }, ErrRollback, "attested"},
		"another latest":       {func() { put("r3.signed", signMakers(t, makers(t, d, 3, root, "SN-9"), op, second)) }, ErrRollback, "r3.signed"},
		"another first":        {func() { put("r1.signed", signMakers(t, makers(t, d, 1, root, "SN-9"), op, second)) }, ErrRollback, "r1.signed"},
		"the latest once more": {func() { put("r4.signed", was["r3.signed"]) }, ErrDocument, "r4.signed"},
		"the first as next":    {func() { put("r4.signed", was["r1.signed"]) }, ErrDocument, "r4.signed"},
		"signed by one person": {func() { put("r4.signed", signMakers(t, makers(t, d, 4, root, "SN-9"), op)) }, keyset.ErrApprovals, "r4.signed"},
		"one left out":         {func() { put("r5.signed", signMakers(t, makers(t, d, 5, root, "SN-9"), op, second)) }, ErrDocument, "r5.signed"},
		"cut":                  {func() { put("r3.signed", was["r3.signed"][:100]) }, ErrDocument, "r3.signed"},
		"empty":                {func() { put("r4.signed", nil) }, ErrDocument, "r4.signed"},
		"huge":                 {func() { put("r4.signed", make([]byte, keyset.MaxSigned+1)) }, ErrDocument, "r4.signed"},
		"notes":                {func() { put("notes.txt", nil) }, ErrDocument, "notes.txt"},
		"r04":                  {func() { put("r04.signed", nil) }, ErrDocument, "r04.signed"},
		"a key set":            {func() { put("PIN-1.r4.signed", nil) }, ErrDocument, "PIN-1.r4.signed"},
		"a link":               {func() { must(t, os.Symlink("r3.signed", d.Path("attested", "r4.signed"))) }, ErrDocument, "r4.signed"},
		"no folder":            {func() { must(t, os.RemoveAll(d.Path("attested"))) }, fs.ErrNotExist, "attested"},
	} {
		c.damage()
		if err := a.Reload(); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.named) {
			t.Errorf("%s: got %v, want %v that names %s", name, err, c.want, c.named)
		}
		inForce(t, name, a, 3, "SN-1", "SN-2")
		must(t, os.RemoveAll(d.Path("attested")))
		must(t, os.Mkdir(d.Path("attested"), 0o700))
		for file, doc := range was {
			put(file, doc)
		}
		must(t, a.Reload())
		inForce(t, "after "+name, a, 3, "SN-1", "SN-2")
	}
	save(4, "SN-3")
	must(t, a.Reload())
	inForce(t, "in the end", a, 4, "SN-3")
}

// TestAttestedOptions reads the folder of another deployment.
func TestAttestedOptions(t *testing.T) {
	t.Parallel()
	d, root := deployment(t, keyset.Test), makerRoot(t)
	_, _, err := d.SaveMakers(signMakers(t, makers(t, d, 1, root), person(t, d, FirstOperator)))
	must(t, err)
	for name, c := range map[string]struct {
		change func(*AttestedOptions)
		want   error
	}{
		"none": {func(*AttestedOptions) {}, nil}, "environment": {func(o *AttestedOptions) { o.Environment = keyset.Production }, ErrDocument},
		"tenant": {func(o *AttestedOptions) { o.Tenant = "OTHER" }, ErrDocument}, "folder": {func(o *AttestedOptions) { o.Folder += "none" }, fs.ErrNotExist},
		"authority": {func(o *AttestedOptions) { o.Dir = deployment(t, keyset.Production).Dir() }, ErrDocument},
	} {
		o := d.attestedOptions()
		o.Folder = d.Path("attested")
		c.change(&o)
		if a, err := NewAttested(o); !errors.Is(err, c.want) || (a == nil) != (c.want != nil) {
			t.Errorf("%s: %v, %v, want %v", name, a, err, c.want)
		}
	}
}
