package e2e

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
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
	a, d := emptyAuthority(t, keyset.Production)
	defer d.Close()
	p := &production{payments: &payments{authority: a}, maker: newMaker(t, "Maker")}
	var err error
	p.first, err = d.Operator(deploy.FirstOperator)
	check(t, err)
	second, err := d.AddOperator(t.Context(), identity.Operator, secondOperator)
	check(t, err)
	p.makeSets(t, d, p.first, second)
	p.operator = p.as(t, p.first.TLS(), identity.RA)
	p.startServices(t)
	p.second = admin.NewClient("https://"+p.ra.doors["services"], p.as(t, second.TLS(), identity.RA))
	return p
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
	return p.ticket(t, admin.Operation{Terminal: terminal})
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
