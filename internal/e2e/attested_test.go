package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
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
)

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
	for _, r := range nodetest.Records(t, filepath.Join(p.dir, "keyd.db")) {
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
	for _, r := range nodetest.Records(t, filepath.Join(p.dir, "keyd.db")) {
		if strings.HasPrefix(r.Object, id+"/") && r.Action != "certify" && r.Result != "REFUSED" {
			t.Errorf("%s: the host has recorded %s %s %s", what, r.Action, r.Object, r.Result)
		}
	}
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
	records := nodetest.Records(t, filepath.Join(p.dir, "provisiond.db"))
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
	for _, r := range nodetest.Records(t, filepath.Join(p.dir, "keyd.db")) {
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
			if r.Reason != remote.ClearInHost.String() || r.KCV == "" {
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
