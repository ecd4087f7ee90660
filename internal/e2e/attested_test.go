package e2e

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// The people of a production deployment, and its key sets.
const (
	secondOperator = "OPERATOR-2"

	set128 = "DATA-128" // AES-128: agreement keys on P-256
	set256 = "DATA-256" // AES-256: agreement keys on P-521
)

// production is a deployment of environment production with all its services as processes, and with a maker of devices.
type production struct {
	*payments
	first  *deploy.Person // OPERATOR-1
	second *admin.Client  // as OPERATOR-2
	maker  *maker

	revision uint64 // of the makers and devices that were signed last
}

func newProduction(t *testing.T) *production {
	t.Helper()
	p := &production{payments: &payments{authority: &authority{dir: filepath.Join(t.TempDir(), "pos")}}, maker: newMaker(t, "Maker")}
	d, err := deploy.Create(p.dir, deploy.Options{Tenant: tenant, Environment: keyset.Production, Passphrase: secret.From([]byte(passphraseText))})
	check(t, err)
	defer d.Close()
	check(t, os.WriteFile(filepath.Join(p.dir, "passphrase"), []byte(passphraseText+"\n"), 0o600))
	p.trust, err = d.Trust()
	check(t, err)
	p.first, err = d.Operator(deploy.FirstOperator)
	check(t, err)
	second, err := d.AddOperator(t.Context(), identity.Operator, secondOperator)
	check(t, err)
	p.makeSets(t, d, p.first, second)
	p.operator = p.as(t, p.first)
	doc, pin, err := d.TrustList()
	check(t, err)
	p.authority.list, err = trustlist.Open(doc, trustlist.Accepted{Tenant: tenant, Pins: []trustlist.Pin{pin}})
	check(t, err)
	p.startServices(t)
	p.second = admin.NewClient("https://"+p.ra.doors["services"], p.as(t, second))
	return p
}

// as calls the registration authority as one of the people.
func (p *production) as(t *testing.T, person *deploy.Person) *http.Client {
	t.Helper()
	credential, err := tlsconf.NewCredential(person.TLS())
	check(t, err)
	return p.client(t, credential, identity.RA)
}

// latchkey runs the program on the deployment and returns what it says to people.
func (p *production) latchkey(t *testing.T, want exit.Code, args ...string) string {
	t.Helper()
	args = append(args, "--dir", p.dir, "--passphrase-file", filepath.Join(p.dir, "passphrase"))
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), args...)
	if exit.Code(code) != want {
		t.Fatalf("latchkey %s ends with %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, errs)
	}
	return errs
}

// makeSets makes two key sets, each signed by both operators: one as they type it, and one that differs from it in its keys.
// One that delivers for a code alone is not even signed.
func (p *production) makeSets(t *testing.T, d *deploy.Deployment, first, second *deploy.Person) {
	t.Helper()
	ring, err := d.Keyring()
	check(t, err)
	generate := func(name string, algorithm keys.Algorithm) engine.KeyInfo {
		ref, err := keyset.ParseKeyRef(name)
		check(t, err)
		info, err := ring.Generate(ref, keys.Attributes{
			Algorithm: algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
		}, keyset.Production)
		check(t, err)
		return info
	}
	generate("alias/bdk-128", keys.AES128)
	strong := generate("alias/bdk-256", keys.AES256)
	create := []string{
		"keyset", "create", "--id", set128, "--kind", "aes-data", "--base-key", "alias/bdk-128", "--first", "1234567800000001",
		"--last", "12345678FFFFFFFF", "--as", deploy.FirstOperator + "," + secondOperator,
	}
	said := p.latchkey(t, exit.Refused, append(create, "--delivery", "code")...)
	if !strings.Contains(said, "delivery by code is for test sets") {
		t.Errorf("a key set that delivers for a code: %s", said)
	}
	p.latchkey(t, exit.OK, create...)
	sets, err := d.KeySets()
	check(t, err)
	if len(sets) != 1 || sets[0].Delivery != keyset.Attested {
		t.Fatalf("key sets %+v, want one that is attested when nothing else is said", sets)
	}
	p.forgeSets(t, d, sets[0], first, second)
	next := sets[0].Clone()
	next.ID, next.BaseKey, next.BaseKeyFingerprint, next.Algorithm = set256, strong.Ref, strong.Fingerprint, keys.AES256
	next.FirstID, err = dukpt.ParseKeyID("1234567900000001")
	check(t, err)
	next.LastID, err = dukpt.ParseKeyID("12345679FFFFFFFF")
	check(t, err)
	payload, err := keyset.Marshal(next)
	check(t, err)
	_, err = d.SaveKeySet(signed(t, payload, first, second))
	check(t, err)
}

// signed makes a document of the bytes of a key set.
func signed(t *testing.T, payload []byte, first *deploy.Person, others ...*deploy.Person) []byte {
	t.Helper()
	doc, err := first.Sign(keyset.KindKeySet, payload)
	check(t, err)
	for _, p := range others {
		doc, err = p.AddSignature(doc)
		check(t, err)
	}
	return doc
}

// forgeSets has a revision signed by one operator, and the bytes of one that delivers for a code by both: neither is stored.
func (p *production) forgeSets(t *testing.T, d *deploy.Deployment, set *keyset.KeySet, first, second *deploy.Person) {
	t.Helper()
	payload, err := keyset.Marshal(set.NextRevision())
	check(t, err)
	forged := bytes.Replace(payload, []byte("\x68attested"), []byte("\x64code"), 1) // as CBOR spells them
	if bytes.Equal(forged, payload) {
		t.Fatal("the key set does not spell its delivery as expected")
	}
	if _, err := d.SaveKeySet(signed(t, payload, first)); !errors.Is(err, keyset.ErrApprovals) {
		t.Errorf("a key set with one signature: %v, want %v", err, keyset.ErrApprovals)
	}
	if _, err := d.SaveKeySet(signed(t, forged, first, second)); !errors.Is(err, keyset.ErrKeySet) {
		t.Errorf("a forged key set that delivers for a code: %v, want %v", err, keyset.ErrKeySet)
	}
}

// startServices has the maker trusted and starts everything.
func (p *production) startServices(t *testing.T) {
	t.Helper()
	p.allow(t)
	p.keyd = newService("latchkey-keyd", filepath.Join(p.dir, deploy.KeydFile), "listen", "admin")
	p.ra = newService("latchkey-provisiond", filepath.Join(p.dir, deploy.ProvisiondFile), "terminals", "services", "publication", "admin")
	p.start(t, binaries.shipped)
	t.Cleanup(func() { p.keyd.end(); p.ra.end() })
	decryptd := filepath.Join(p.dir, "decrypting.yaml")
	check(t, os.WriteFile(decryptd, fmt.Appendf(nil, "tenant: %s\nenvironment: production\npassphrase-file: passphrase\n"+
		"registry:\n  urls: [\"https://%s\"]\ncallers:\n  - name: ACQ-1\n", tenant, p.ra.doors["services"]), 0o600))
	p.decryptd = newService("latchkey-decryptd", decryptd, "listen", "admin")
	p.decryptd.start(t, binaries.shipped)
	t.Cleanup(p.decryptd.end)
	p.startAcquirer(t)
}

// end ends a service that a failed test has left running.
func (s *service) end() { _ = s.cmd.Process.Kill() }

func encodePEM(kind string, blocks ...[]byte) (out []byte) {
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	return out
}

// allow has the maker trusted with these devices, and no others, by both operators. One of them alone is refused.
func (p *production) allow(t *testing.T, lines ...string) {
	t.Helper()
	roots, devices := filepath.Join(p.dir, "makers.pem"), filepath.Join(p.dir, "devices.txt")
	check(t, os.WriteFile(roots, encodePEM("CERTIFICATE", p.maker.root.Raw), 0o600))
	check(t, os.WriteFile(devices, []byte("# devices that may have keys\n"+strings.Join(lines, "\n")+"\n"), 0o600))
	sign := []string{"attested", "sign", "--roots", roots, "--devices", devices}
	if p.revision == 0 {
		p.latchkey(t, exit.Refused, sign...)
	}
	p.latchkey(t, exit.OK, append(sign, "--as", deploy.FirstOperator+","+secondOperator)...)
	p.revision++
}

// listed waits until the running host has read what was signed last, which has so many devices.
func (p *production) listed(t *testing.T, devices int) {
	t.Helper()
	said := func() string { return p.asked(t, "/metrics") }
	p.soon(t, fmt.Sprintf("\nlatchkey_attested_revision %d\n", p.revision), said)
	if want := fmt.Sprintf("\nlatchkey_attested_devices %d\n", devices); !strings.Contains(said(), want) {
		t.Errorf("the host has not said %q", want)
	}
}

// asked returns what the key-distribution host tells operators.
func (p *production) asked(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get("http://" + p.keyd.doors["admin"] + path)
	check(t, err)
	text, err := io.ReadAll(resp.Body)
	check(t, errors.Join(err, resp.Body.Close()))
	return string(text)
}

// oneSignature has one operator alone put a device on the list, past the program: what two have signed stays in force, and the
// host says that something is wrong until the file is gone.
func (p *production) oneSignature(t *testing.T, d *device, m *member) {
	t.Helper()
	list, err := keydist.ParseAllowList([]byte(d.serial))
	check(t, err)
	forged := &keydist.Makers{
		Tenant: tenant, Environment: keyset.Production, Revision: p.revision + 1, Roots: []*x509.Certificate{p.maker.root}, Devices: list,
	}
	payload, err := forged.Marshal()
	check(t, err)
	doc, err := p.first.Sign(keydist.KindMakers, payload)
	check(t, err)
	path := filepath.Join(p.dir, "attested", fmt.Sprintf("r%d.signed", forged.Revision))
	check(t, seal.WriteFile(path, doc, 0o600))
	p.soon(t, `"catalog":"failed"`, func() string { return p.asked(t, "/readyz") })
	p.soon(t, keyset.ErrApprovals.Error(), p.keyd.log.String)
	_, err = m.fetch(t.Context(), d.attestation)
	p.undelivered(t, "a device that one person put on the list", err, "T-0003", keydist.CodeAttestationNotListed)
	check(t, os.Remove(path))
	p.soon(t, `"catalog":"ok"`, func() string { return p.asked(t, "/readyz") })
}

// soon waits until the host has said something.
func (p *production) soon(t *testing.T, want string, said func() string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(said(), want) {
		if time.Now().After(deadline) {
			t.Fatalf("the host has not said %q\n%s", want, p.keyd.log)
		}
		time.Sleep(10 * time.Millisecond) // polling with a deadline
	}
}

// maker is a maker of devices with a root and a facility that certifies the keys it puts into them.
type maker struct {
	root, facility *x509.Certificate
	key            *ecdsa.PrivateKey // of the facility
	serial         int64
}

func newMaker(t *testing.T, name string) *maker {
	t.Helper()
	m := &maker{serial: 2}
	authority := func(serial int64, suffix string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name + suffix}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		}
	}
	rootKey := newKey(t)
	m.key = newKey(t)
	m.root = issueCertificate(t, authority(1, " root"), authority(1, " root"), rootKey.Public(), rootKey)
	m.facility = issueCertificate(t, authority(2, " facility"), m.root, m.key.Public(), rootKey)
	return m
}

func issueCertificate(t *testing.T, template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return cert
}

// certify returns the chain that the maker gives a device with an agreement key.
func (m *maker) certify(t *testing.T, device string, key crypto.PublicKey, until time.Time) [][]byte {
	t.Helper()
	m.serial++
	leaf := issueCertificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: "device", SerialNumber: device},
		NotBefore: until.Add(-time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageKeyAgreement,
	}, m.facility, key, m.key)
	return [][]byte{leaf.Raw, m.facility.Raw}
}

// device is what leaves the maker: a serial number, an agreement key, and the maker's word for the two. Its sealer is one
// that is not refused for production.
type device struct {
	serial      string
	key         *ecdsa.PrivateKey
	pkcs8       secret.Bytes
	attestation [][]byte
	medium      terminal.FS
	sealer      terminal.Sealer
}

func (m *maker) device(t *testing.T, serial string, curve elliptic.Curve) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	check(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	return &device{
		serial: serial, key: key, pkcs8: secret.From(der), medium: terminal.OSFS(t.TempDir()), sealer: newSoldered(t),
		attestation: m.certify(t, serial, key.Public(), time.Now().Add(time.Hour)),
	}
}

// soldered stands for a sealer whose key never leaves a chip of the device.
type soldered struct{ aead cipher.AEAD }

func newSoldered(t *testing.T) soldered {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // cannot fail
	block, err := aes.NewCipher(key)
	check(t, err)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	check(t, err)
	return soldered{aead}
}

// Seal implements terminal.Sealer.
func (s soldered) Seal(label string, plain []byte) ([]byte, error) {
	return s.aead.Seal(nil, nil, plain, []byte(label)), nil
}

// Open implements terminal.Sealer.
func (s soldered) Open(label string, sealed []byte) (secret.Bytes, error) {
	plain, err := s.aead.Open(nil, nil, sealed, []byte(label))
	defer secret.Wipe(plain)
	return secret.From(plain), err
}

// Name implements terminal.Sealer.
func (soldered) Name() string { return "soldered" }

// register files a registration and has the second operator approve it.
func (p *production) register(t *testing.T, terminal, set string) {
	t.Helper()
	out := p.file(t, admin.Operation{
		Action: "register", Terminal: terminal, Endpoints: []string{p.acquirer},
		Slots: []admin.SlotAssignment{{Slot: 1, KeySet: set}},
	})
	_, err := p.second.Approve(t.Context(), out.ID)
	check(t, err)
}

// file asks for an operation as the first operator. It waits, also after that operator has tried to approve it.
func (p *production) file(t *testing.T, op admin.Operation) *admin.Approval {
	t.Helper()
	out, err := p.admin().Do(t.Context(), op)
	check(t, err)
	if out.Approval == nil || out.Terminal != nil || out.Ticket != "" {
		t.Fatalf("%s of %s: %+v, want that it waits", op.Action, op.Terminal, out)
	}
	_, err = p.admin().Approve(t.Context(), out.Approval.ID)
	wantRefusal(t, "one's own approval", err, string(provision.CodeApprovalSelf))
	return out.Approval
}

// wantRefusal demands a refusal by the registration authority.
func wantRefusal(t *testing.T, what string, err error, code string) {
	t.Helper()
	if refusal, ok := errors.AsType[*admin.Error](err); !ok || refusal.Code != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

// code hands out a one-time code for a terminal that never enrolled, which one person may.
func (p *production) code(t *testing.T, terminal string) string {
	t.Helper()
	out, err := p.admin().Do(t.Context(), admin.Operation{Action: "code", Terminal: terminal})
	check(t, err)
	return out.Ticket
}

// options are those of an enrolment. An empty ticket goes on with the one that has begun.
func (p *production) options(t *testing.T, id, ticket string) terminal.EnrolOptions {
	t.Helper()
	o := terminal.EnrolOptions{
		URL: "https://" + p.ra.doors["terminals"], TrustURL: "http://" + p.ra.doors["publication"],
		Tenant: tenant, Terminal: keyset.TerminalID(id),
	}
	if ticket != "" {
		var err error
		o.Ticket, err = enroll.ParseTicket([]byte(ticket))
		check(t, err)
	}
	return o
}

// enrol has a device enrol with all that its maker gave it.
func (p *production) enrol(t *testing.T, d *device, id, ticket string) error {
	t.Helper()
	o := p.options(t, id, ticket)
	o.Agreement, o.Attestation = d.pkcs8, d.attestation
	return terminal.Enroll(t.Context(), d.medium, d.sealer, o)
}

// undelivered demands that the key-distribution host refused with a code, which the authority passes on, and that the
// terminal has no key: not in the registry, not on its way, and no key id was used up for it.
func (p *production) undelivered(t *testing.T, what string, err error, id string, code keydist.Code) {
	t.Helper()
	refusal, ok := errors.AsType[*enroll.Refusal](err)
	if !ok || refusal.Code != string(provision.CodeDistributorRefused) || !strings.Contains(refusal.Message, string(code)) {
		t.Errorf("%s: %v, want %s with %s", what, err, provision.CodeDistributorRefused, code)
	}
	p.keyless(t, what, id)
	var last audit.Record // of this terminal; others may be settled meanwhile
	for _, r := range p.auditLog(t, "keyd.db") {
		if strings.HasPrefix(r.Object, id+"/") {
			last = r
		}
	}
	if last.Result != "REFUSED" || last.Reason != string(code) {
		t.Errorf("%s: the host has recorded %s %s %s, want a refusal with %s", what, last.Result, last.Object, last.Reason, code)
	}
}

// keyless demands that a terminal was given no key.
func (p *production) keyless(t *testing.T, what, id string) {
	t.Helper()
	row, err := p.admin().Terminal(t.Context(), id)
	check(t, err)
	if n := len(row.Slots[0].Keys); n != 0 {
		t.Errorf("%s: the registry has %d keys of %s", what, n, id)
	}
	for _, r := range p.auditLog(t, "keyd.db") {
		if strings.HasPrefix(r.Object, id+"/") && r.Action != "certify" && r.Result != "REFUSED" {
			t.Errorf("%s: the host has recorded %s %s %s", what, r.Action, r.Object, r.Result)
		}
	}
}

// auditLog returns the audit log of a service, which may be running.
func (p *production) auditLog(t *testing.T, database string) (out []audit.Record) {
	t.Helper()
	log, err := sqlite.OpenAudit(filepath.Join(p.dir, database))
	check(t, err)
	defer func() { _ = log.Close() }() // only read
	check(t, log.Leaves(t.Context(), func(l audit.Leaf) error {
		r, err := audit.ParseRecord(l.Record)
		out = append(out, r)
		return err
	}))
	return out
}

// open opens the terminal of a device that has enrolled.
func (d *device) open(t *testing.T) *terminal.Terminal {
	t.Helper()
	box, err := terminal.Open(terminal.Options{FS: d.medium, Sealer: d.sealer})
	check(t, err)
	t.Cleanup(func() { _ = box.Close() }) // everything is written
	return box
}

// signIn confirms the keys of a terminal at the acquirer.
func signIn(t *testing.T, box *terminal.Terminal) {
	t.Helper()
	in, err := box.SignIn(t.Context())
	check(t, err)
	if in.Result != message.SignedIn {
		t.Fatalf("the terminal is told %v", in.Result)
	}
}

// buy makes a sale.
func buy(t *testing.T, what string, box *terminal.Terminal) {
	t.Helper()
	sale, err := box.Sale(t.Context(), terminal.SaleRequest{
		Amount: message.Amount{Minor: 100, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
		Track:  secret.From([]byte(";4111111111111111=30121010000000000000?")),
	})
	check(t, err)
	if !sale.Approved() {
		t.Errorf("%s: the sale is %v", what, sale.Result)
	}
}

// keyOf returns the key id in the only slot of a terminal.
func keyOf(t *testing.T, box *terminal.Terminal) dukpt.KeyID {
	t.Helper()
	slots := box.Status().Slots
	if len(slots) != 1 {
		t.Fatalf("%d slots", len(slots))
	}
	return slots[0].Slot.KeyID
}

// TestAttestedProduction runs a production deployment: two people, a maker whose word is asked for, and key sets whose keys
// no code alone brings out of the key-distribution host.
func TestAttestedProduction(t *testing.T) {
	begin := time.Now()
	p := newProduction(t)
	t.Logf("made and started after %v", time.Since(begin).Round(time.Millisecond))
	listed := p.maker.device(t, "SN-1001", elliptic.P256())
	strong := p.maker.device(t, "SN-1002", elliptic.P521())
	p.allow(t, listed.serial, strong.serial)
	p.listed(t, 2)

	p.twoPeople(t)
	first := p.codeAlone(t, listed)
	second := p.strongKey(t, strong)
	third := p.attestations(t, listed, strong)
	p.wrongCurve(t, listed)
	p.insecure(t, listed)
	next := p.rekey(t, listed, strong)

	p.decryptd.stop(t)
	p.ra.stop(t)
	p.keyd.stop(t)
	p.judge(t, first, second, third, next)
	p.verifyAudits(t)
	t.Logf("all of it in %v", time.Since(begin).Round(time.Millisecond))
}

// twoPeople registers a terminal, which needs both operators.
func (p *production) twoPeople(t *testing.T) {
	t.Helper()
	waits := p.file(t, admin.Operation{
		Action: "register", Terminal: "T-0001", Endpoints: []string{p.acquirer}, Slots: []admin.SlotAssignment{{Slot: 1, KeySet: set128}},
	})
	rows, err := p.admin().Terminals(t.Context())
	check(t, err)
	if len(rows) != 0 {
		t.Errorf("%d terminals before the approval", len(rows))
	}
	_, err = p.admin().Do(t.Context(), admin.Operation{Action: "code", Terminal: "T-0001"})
	wantRefusal(t, "a code before the approval", err, string(provision.CodeTerminalUnknown))
	out, err := p.second.Approve(t.Context(), waits.ID)
	check(t, err)
	if out.Terminal == nil || out.Terminal.Status != "pending" {
		t.Errorf("after the approval: %+v", out)
	}
	_, err = p.second.Approve(t.Context(), waits.ID)
	wantRefusal(t, "a second approval", err, string(provision.CodeApprovalSettled))
	records := p.auditLog(t, "provisiond.db")
	i := slices.IndexFunc(records, func(r audit.Record) bool { return r.Action == "terminal/register" && r.Result == "DONE" })
	if i < 0 || !slices.Equal(records[i].Approvals, []string{deploy.FirstOperator, secondOperator}) {
		t.Errorf("the registration stands in the audit log at %d with %v", i, records[max(i, 0)].Approvals)
	}
}

// codeAlone enrols a device with nothing but the code, and then as it is meant to be. It returns the key that came.
func (p *production) codeAlone(t *testing.T, d *device) string {
	t.Helper()
	err := terminal.Enroll(t.Context(), d.medium, d.sealer, p.options(t, "T-0001", p.code(t, "T-0001")))
	p.undelivered(t, "a code alone", err, "T-0001", keydist.CodeAttestationInvalid)
	err = p.enrol(t, d, "T-0001", "")
	if refusal, ok := errors.AsType[*enroll.Refusal](err); !ok || refusal.Code != string(provision.CodeAgreementNotPermitted) {
		t.Errorf("another agreement key under the same code: %v", err)
	}
	p.keyless(t, "another agreement key under the same code", "T-0001")
	waits := p.file(t, admin.Operation{Action: "code", Terminal: "T-0001"}) // it has a certificate by now
	out, err := p.second.Approve(t.Context(), waits.ID)
	check(t, err)

	check(t, p.enrol(t, d, "T-0001", out.Ticket))
	return p.open(t, d, "T-0001", set128)
}

// open opens a terminal that has enrolled, signs in, makes a sale and returns its key, which the registry has as active.
func (p *production) open(t *testing.T, d *device, id, set string) string {
	t.Helper()
	box := d.open(t)
	s := box.Status()
	if s.Environment != keyset.Production || s.Sealer != "soldered" || s.Slots[0].Slot.KeySet != keyset.ID(set) {
		t.Errorf("%s is of %v, sealed by %s, with a key of %s", id, s.Environment, s.Sealer, s.Slots[0].Slot.KeySet)
	}
	signIn(t, box)
	buy(t, id, box)
	key := keyOf(t, box)
	check(t, box.Close())
	p.active(t, id, key)
	return id + "/1/" + set + "/" + key.String()
}

// active demands that the registry has a key as the only active one of a terminal.
func (p *production) active(t *testing.T, id string, key dukpt.KeyID) {
	t.Helper()
	row, err := p.admin().Terminal(t.Context(), id)
	check(t, err)
	var active []string
	for _, k := range row.Slots[0].Keys {
		if k.State == "active" {
			active = append(active, k.KeyID)
		}
	}
	if row.Status != "active" || !slices.Equal(active, []string{key.String()}) {
		t.Errorf("%s is %s with the keys %v, want %v", id, row.Status, active, key)
	}
}

// strongKey enrols a device with an agreement key for AES-256. It forgets the maker's word at first.
func (p *production) strongKey(t *testing.T, d *device) string {
	t.Helper()
	p.register(t, "T-0002", set256)
	o := p.options(t, "T-0002", p.code(t, "T-0002"))
	o.Agreement = d.pkcs8
	err := terminal.Enroll(t.Context(), d.medium, d.sealer, o)
	p.undelivered(t, "the maker's key without its word", err, "T-0002", keydist.CodeAttestationInvalid)
	check(t, p.enrol(t, d, "T-0002", ""))
	return p.open(t, d, "T-0002", set256)
}

// member is an enrolled terminal that sends what it is told to.
type member struct {
	client    *enroll.Client
	agreement []*x509.Certificate
}

// member enrols a terminal as any EST client can, with an agreement key.
func (p *production) member(t *testing.T, id, text string, agreement *ecdsa.PrivateKey) *member {
	t.Helper()
	ticket, err := enroll.ParseTicket([]byte(text))
	check(t, err)
	defer ticket.Wipe()
	o := enroll.Options{URL: "https://" + p.ra.doors["terminals"], Tenant: tenant, Terminal: id}
	visitor, err := enroll.NewVisitor(o, p.authority.list)
	check(t, err)
	defer visitor.Close()
	key := newKey(t)
	chain, err := visitor.Enroll(t.Context(), request(t, id, key), ticket.Code)
	check(t, err)
	m := new(member)
	m.client, err = enroll.NewMember(o, p.authority.list, credential(t, chain, key))
	check(t, err)
	t.Cleanup(m.client.Close)
	csr, err := est.NewRequest(agreement, identity.Identity{Tenant: tenant, Role: identity.Agreement, Name: id})
	check(t, err)
	m.agreement, err = m.client.EnrollAgreement(t.Context(), csr)
	check(t, err)
	return m
}

// fetch asks for the key of slot 1.
func (m *member) fetch(ctx context.Context, attestation [][]byte) (*remote.Delivery, error) {
	r := &remote.Request{Slot: 1, Attestation: attestation}
	_, _ = rand.Read(r.Nonce[:]) // cannot fail
	d, _, err := m.client.Key(ctx, r)
	return d, err
}

// attestations has one terminal with a good certificate of its own, and a good agreement certificate of ours, show one word
// of a maker after the other. It gets a key for the last one, which is good, and returns it.
func (p *production) attestations(t *testing.T, listed, strong *device) string {
	t.Helper()
	const id = "T-0003"
	p.register(t, id, set128)
	d := p.maker.device(t, "SN-1003", elliptic.P256())
	m := p.member(t, id, p.code(t, id), d.key)
	p.oneSignature(t, d, m)
	p.allow(t, listed.serial, strong.serial, d.serial, "certificate:"+identity.Serial(m.agreement[0]))
	p.listed(t, 4)

	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	stranger := newMaker(t, "Maker") // of the same name
	other := p.maker.certify(t, "SN-2000", d.key.Public(), soon)
	for _, c := range []struct {
		name  string
		chain [][]byte
		code  keydist.Code
	}{
		{"none", nil, keydist.CodeAttestationInvalid},
		{"that of another device", listed.attestation, keydist.CodeAttestationInvalid},
		{"for another key, with our serial number", p.maker.certify(t, d.serial, newKey(t).Public(), soon), keydist.CodeAttestationInvalid},
		{"of a maker that is not trusted", stranger.certify(t, d.serial, d.key.Public(), soon), keydist.CodeAttestationInvalid},
		{"of a stranger, with the facility of the trusted maker", [][]byte{stranger.certify(t, d.serial, d.key.Public(), soon)[0], p.maker.facility.Raw}, keydist.CodeAttestationInvalid},
		{"without the facility in between", d.attestation[:1], keydist.CodeAttestationInvalid},
		{"over", p.maker.certify(t, d.serial, d.key.Public(), past), keydist.CodeAttestationInvalid},
		{"of a device that is not on the list", other, keydist.CodeAttestationNotListed},
		{"of a device without a serial number", p.maker.certify(t, "", d.key.Public(), soon), keydist.CodeAttestationNotListed},
		{"of our own key distribution, which is on the list", ders(m.agreement), keydist.CodeAttestationInvalid},
		{"of our own key distribution, before the maker's", slices.Concat(ders(m.agreement), d.attestation), keydist.CodeAttestationInvalid},
		{"the maker's, with one of our own behind", slices.Concat(d.attestation, ders(m.agreement[1:])), keydist.CodeAttestationInvalid},
	} {
		_, err := m.fetch(t.Context(), c.chain)
		p.undelivered(t, c.name, err, id, c.code)
	}
	got, err := m.fetch(t.Context(), d.attestation)
	check(t, err)
	return fmt.Sprintf("%s/1/%s/%v", id, set128, got.KeyID)
}

// wrongCurve enrols a listed device whose agreement key is too weak for the key set.
func (p *production) wrongCurve(t *testing.T, listed *device) {
	t.Helper()
	p.register(t, "T-0004", set256)
	d := p.maker.device(t, listed.serial, elliptic.P256())
	p.undelivered(t, "a key on P-256 for AES-256", p.enrol(t, d, "T-0004", p.code(t, "T-0004")), "T-0004", keydist.CodeCurveMismatch)
}

// insecure enrols a listed device whose sealer keeps its key in a file, as the program does.
func (p *production) insecure(t *testing.T, listed *device) {
	t.Helper()
	const id = "T-0005"
	p.register(t, id, set128)
	dir := t.TempDir()
	file := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, text, 0o600))
		return path
	}
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey-terminal"), "enrol", "--dir", filepath.Join(dir, "t5"),
		"--url", "https://"+p.ra.doors["terminals"], "--trust-url", "http://"+p.ra.doors["publication"], "--tenant", tenant, "--terminal", id,
		"--ticket-file", file("ticket", []byte(p.code(t, id)+"\n")),
		"--agreement-key-file", file("key.pem", encodePEM("PRIVATE KEY", listed.pkcs8.Expose())),
		"--attestation-file", file("chain.pem", encodePEM("CERTIFICATE", listed.attestation...)))
	if exit.Code(code) != exit.Refused || !strings.Contains(errs, terminal.ErrInsecure.Error()) {
		t.Errorf("the insecure sealer in production: exit code %d\n%s%s", code, out, errs)
	}
	p.keyless(t, "the insecure sealer in production", id)
}

// rekey replaces the key of a terminal, which needs both operators and the device on the list: it is taken off and put back
// while the host runs. It returns the new key.
func (p *production) rekey(t *testing.T, d, other *device) string {
	t.Helper()
	const id = "T-0001"
	box := d.open(t)
	old := keyOf(t, box)
	waits := p.file(t, admin.Operation{Action: "rekey", Terminal: id})
	check(t, box.Rekey(t.Context())) // nothing is wanted yet
	if got := keyOf(t, box); got != old {
		t.Errorf("the key is %v before anybody approved, want %v", got, old)
	}
	_, err := p.second.Approve(t.Context(), waits.ID)
	check(t, err)

	p.allow(t, other.serial)
	p.listed(t, 1) // it reads the list each second
	err = box.Rekey(t.Context())
	if refusal, ok := errors.AsType[*enroll.Refusal](err); !ok || !strings.Contains(refusal.Message, string(keydist.CodeAttestationNotListed)) {
		t.Errorf("a device that was taken off the list: %v", err)
	}
	p.active(t, id, old)
	buy(t, "with the old key", box)

	p.allow(t, other.serial, d.serial)
	check(t, p.keyd.cmd.Process.Signal(syscall.SIGHUP)) // it reads the list at once
	p.soon(t, "reload asked for", p.keyd.log.String)
	p.listed(t, 2)
	check(t, box.Rekey(t.Context()))
	fresh := keyOf(t, box)
	if fresh == old {
		t.Errorf("the key is %v still", old)
	}
	p.active(t, id, fresh)
	buy(t, "with the new key", box)
	check(t, box.Close())
	return id + "/1/" + set128 + "/" + fresh.String()
}

// judge holds the audit log of the key-distribution host against the keys that arrived, and nothing else did.
func (p *production) judge(t *testing.T, arrived ...string) {
	t.Helper()
	var allocated, delivered []string
	refused := make(map[string]int)
	labels := audit.Labels{KeyMode: "software", PINExposure: "host-memory", Environment: "production"}
	var sample audit.Record
	for _, r := range p.auditLog(t, "keyd.db") {
		if !strings.HasPrefix(r.Action, "deliver") {
			continue
		}
		switch r.Result {
		case "REFUSED":
			refused[r.Reason]++
			continue
		case "ALLOCATED":
			allocated = append(allocated, r.Object)
		case "DELIVERED":
			delivered = append(delivered, r.Object)
			sample = r
			if r.Reason != keydist.ClearInHost || r.KCV == "" {
				t.Errorf("%s was delivered %s with the check value %q", r.Object, r.Reason, r.KCV)
			}
		}
		if r.Action != "deliver/attested" || r.Labels != labels || r.Actor != "RA-1" || r.Role != identity.RA.String() {
			t.Errorf("the host has recorded %+v", r)
		}
	}
	if !slices.Equal(allocated, arrived) || !slices.Equal(delivered, arrived) {
		t.Errorf("allocated %v and delivered %v, want %v", allocated, delivered, arrived)
	}
	t.Logf("keys delivered to attested agreement keys: %d, recorded as %s %s, %s, labels %+v", len(delivered), sample.Action, sample.Result, sample.Reason, sample.Labels)
	t.Logf("orders for keys refused, nothing delivered: %v", refused)
}
