package keydist_test

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

func keyID(tb testing.TB, s string) dukpt.KeyID {
	tb.Helper()
	return must[dukpt.KeyID](tb)(dukpt.ParseKeyID(s))
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	for i, want := range []string{"FFFF9876543210E00000", "FFFF9876543211000000", "FFFF9876543211200000"} {
		if got := d.fetch("CODE", 1); got != keyID(t, want) {
			t.Errorf("delivery %d is key id %v, want %v", i, got, want)
		}
	}
	other := l.enrol("T-2", elliptic.P521())
	if got := other.fetch("WIDE", 2); got != keyID(t, "1234567A00000001") {
		t.Errorf("of the other set: %v", got)
	}
	issued := l.store.IssuedAll()
	if len(issued) != 4 || issued[1].Terminal != "T-1" || issued[1].Slot != 1 || issued[1].Delivery != keyset.Code || issued[1].State != keyset.SlotPending {
		t.Errorf("stored %+v", issued)
	}
}

// TestDeliverIsRecorded wants who, what, which key and how, before the key leaves.
func TestDeliverIsRecorded(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	id := d.fetch("CODE", 1)
	leaves := l.store.Leaves()
	if len(leaves) != 2 {
		t.Fatalf("%d records, want 2", len(leaves))
	}
	labels := audit.Labels{KeyMode: "software", PINExposure: "host-memory", Environment: "test"}
	for i, want := range []audit.Record{
		{Result: "ALLOCATED", KCV: "0123AB"}, {Result: "DELIVERED", Reason: remote.ClearInHost.String()},
	} {
		got := leaves[i]
		if got.Result != want.Result || got.Reason != want.Reason || got.Labels != labels || got.Action != "deliver/code" ||
			got.Object != "T-1/1/CODE/"+id.String() || got.Actor != "RA-1" || got.Role != "ra" || got.Tenant != "ACME" ||
			got.Source != "10.0.0.1" || got.Instance != "KDH-1" || got.Digest == [32]byte{} {
			t.Errorf("record %d: %+v", i, got)
		}
	}
	if set, _ := l.keySet("CODE"); leaves[1].KCV != initialKCV(t, set, id) || leaves[0].KCV != "0123AB" {
		t.Errorf("check values %q, %q", leaves[0].KCV, leaves[1].KCV)
	}
	if got := strings.Join(l.observed, ","); got != "deliver/code DELIVERED" {
		t.Errorf("observed %s", got)
	}
}

func initialKCV(tb testing.TB, s *keyset.KeySet, id dukpt.KeyID) string {
	tb.Helper()
	base := must[*dukpt.BaseKey](tb)(baseKey(s))
	defer base.Wipe()
	ik := must[*dukpt.InitialKey](tb)(base.Derive(id))
	defer ik.Wipe()
	return ik.Key().KCV().String()
}

// TestTheHostVerifiesForItself goes through everything that a registration authority may say wrongly.
func TestTheHostVerifiesForItself(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d, stranger := l.enrol("T-1", elliptic.P256()), l.enrol("T-2", elliptic.P256())
	own := must[*catest.Fake](t)(catest.NewFake(identity.TerminalCA, catest.Twist{}, l.clock)) // an authority of the same kind
	forged := l.issue(own, identity.Terminal, "T-1", d.tlsKey)
	ownKeydist := must[*catest.Fake](t)(catest.NewFake(identity.KeyDistCA, catest.Twist{}, l.clock))
	forgedAgreement := l.issue(ownKeydist, identity.Agreement, "T-1", d.key)
	one := l.enrol("T-1", elliptic.P256())
	one.key = one.tlsKey
	one.agreement = l.issue(l.keydist, identity.Agreement, "T-1", one.key)
	kdh := l.issue(l.keydist, identity.KDH, "T-1", d.key)
	for _, c := range []struct {
		name   string
		caller keydist.Caller
		change func(*remote.Order)
		want   keydist.Code
	}{
		{"another role", keydist.Caller{Identity: identity.Identity{Tenant: "ACME", Role: identity.Decrypt, Name: "D-1"}}, nil, keydist.CodeRoleNotPermitted},
		{"nobody", keydist.Caller{}, nil, keydist.CodeRoleNotPermitted},
		{"a registration authority of another tenant", keydist.Caller{Identity: identity.Identity{Tenant: "OTHER", Role: identity.RA, Name: "RA-1"}}, nil, keydist.CodeRoleNotPermitted},
		{"another tenant", ra, func(o *remote.Order) { o.Tenant = "OTHER" }, keydist.CodeTenantMismatch},
		{"no slot", ra, func(o *remote.Order) { o.Slot = 0 }, keydist.CodeOrderMalformed},
		{"no nonce", ra, func(o *remote.Order) { o.Nonce = [32]byte{} }, keydist.CodeOrderMalformed},
		{"no TLS chain", ra, func(o *remote.Order) { o.TLSChain = nil }, keydist.CodeOrderMalformed},
		{"the name of another terminal", ra, func(o *remote.Order) { o.Terminal = "T-2" }, keydist.CodeTLSCertificateInvalid},
		{"the TLS chain of another terminal", ra, func(o *remote.Order) { o.TLSChain = der(stranger.tls) }, keydist.CodeTLSCertificateInvalid},
		{"the TLS chain of another authority", ra, func(o *remote.Order) { o.TLSChain = der(forged) }, keydist.CodeTLSCertificateInvalid},
		{"a TLS chain without its issuer", ra, func(o *remote.Order) { o.TLSChain = o.TLSChain[:1] }, keydist.CodeTLSCertificateInvalid},
		{"the agreement chain in place of the TLS chain", ra, func(o *remote.Order) { o.TLSChain = o.AgreementChain }, keydist.CodeTLSCertificateInvalid},
		{"the agreement chain of another terminal", ra, func(o *remote.Order) { o.AgreementChain = der(stranger.agreement) }, keydist.CodeAgreementCertificateInvalid},
		{"the agreement chain of another authority", ra, func(o *remote.Order) { o.AgreementChain = der(forgedAgreement) }, keydist.CodeAgreementCertificateInvalid},
		{"the TLS chain in place of the agreement chain", ra, func(o *remote.Order) { o.AgreementChain = o.TLSChain }, keydist.CodeAgreementCertificateInvalid},
		{"a host in place of a terminal", ra, func(o *remote.Order) { o.AgreementChain = der(kdh) }, keydist.CodeAgreementCertificateInvalid},
		{"one key for both", ra, func(o *remote.Order) { o.TLSChain, o.AgreementChain = der(one.tls), der(one.agreement) }, keydist.CodeAgreementCertificateInvalid},
		{"an unknown key set", ra, func(o *remote.Order) { o.KeySet = "OTHER" }, keydist.CodeKeySetUnknown},
		{"a key set that delivers none", ra, func(o *remote.Order) { o.KeySet = "NONE" }, keydist.CodeDeliveryNotPermitted},
		{"a key set for another curve", ra, func(o *remote.Order) { o.KeySet = "WIDE" }, keydist.CodeCurveMismatch},
		{"an id beyond the set", ra, func(o *remote.Order) { o.Beyond = keyID(t, "FFFF9876600000000000") }, keydist.CodeKeyIDMismatch},
		{"an id beyond of another scheme", ra, func(o *remote.Order) { o.Beyond = keyID(t, "1234567800000001") }, keydist.CodeKeyIDMismatch},
	} {
		o := d.order("CODE", 1)
		if c.change != nil {
			c.change(&o)
		}
		before := len(l.store.Leaves())
		got, err := l.host.Deliver(t.Context(), c.caller, o)
		refused(t, c.name, err, c.want)
		if got != nil {
			t.Errorf("%s: a delivery beside the error", c.name)
		}
		leaves := l.store.Leaves()
		if len(leaves) != before+1 || leaves[before].Result != "REFUSED" || leaves[before].Reason != string(c.want) {
			t.Errorf("%s: recorded %+v", c.name, leaves[before:])
		}
	}
	if issued := l.store.IssuedAll(); len(issued) != 0 {
		t.Errorf("refusals used up %v", issued)
	}
	if got := d.fetch("CODE", 1); got != keyID(t, "FFFF9876543210E00000") {
		t.Errorf("afterwards: %v", got)
	}
}

// TestCertificatesEnd lets time pass until each of the two certificates is over.
func TestCertificatesEnd(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	l.advance(91 * 24 * time.Hour) // the TLS certificate lives 90 days
	_, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
	refused(t, "an old TLS certificate", err, keydist.CodeTLSCertificateInvalid)
	d.tls = l.issue(l.terminals, identity.Terminal, "T-1", d.tlsKey)
	d.fetch("CODE", 1)
	l.advance(-2 * 91 * 24 * time.Hour)
	_, err = l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
	refused(t, "a TLS certificate of the future", err, keydist.CodeTLSCertificateInvalid)
}

// TestKeySetsAreTakenAsTheyStand changes the set between orders.
func TestKeySetsAreTakenAsTheyStand(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	d.fetch("CODE", 1)
	for _, c := range []struct {
		name   string
		change func(*keyset.KeySet)
		want   keydist.Code
	}{
		{"blocked", func(s *keyset.KeySet) { s.State = keyset.Blocked }, keydist.CodeKeySetNotActive},
		{"retired", func(s *keyset.KeySet) { s.State = keyset.Retired }, keydist.CodeKeySetNotActive},
		{"of another tenant", func(s *keyset.KeySet) { s.State, s.Tenant = keyset.Active, "OTHER" }, keydist.CodeKeySetUnknown},
		{"of production", func(s *keyset.KeySet) { s.Tenant, s.Environment = "ACME", keyset.Production }, keydist.CodeEnvironmentMismatch},
	} {
		l.change("CODE", c.change)
		_, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
		refused(t, c.name, err, c.want)
	}
	l.config.Environment = keyset.Production // the set is of production now, and still delivered by code
	l.start()
	_, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
	refused(t, "by code in production", err, keydist.CodeDeliveryNotPermitted)
}

func TestAttestation(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	pub, m := &d.key.PublicKey, l.maker
	l.makers = m.document(2, "SN-1", "certificate:0def")
	good := m.attest(pub, "SN-1")
	bySerial := m.attest(pub, "SN-9", func(c *x509.Certificate) { c.SerialNumber.SetInt64(0x0def) })
	issuingKey := newKey(t, elliptic.P256())
	issuing := m.attest(&issuingKey.PublicKey, "", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
	below := m.sign(m.template("SN-1"), issuing, pub, issuingKey)
	selfSigned := m.sign(m.template("SN-1"), m.template("SN-1"), pub, d.key)
	stranger := newKey(t, elliptic.P256())
	for _, c := range []struct {
		name  string
		chain [][]byte
		want  keydist.Code
	}{
		{"none", nil, keydist.CodeAttestationInvalid},
		{"our own agreement certificate", der(d.agreement), keydist.CodeAttestationInvalid},
		{"our own TLS certificate", der(d.tls), keydist.CodeAttestationInvalid},
		{"another maker", [][]byte{m.sign(m.template("SN-1"), m.other, pub, m.otherKey).Raw}, keydist.CodeAttestationInvalid},
		{"another maker that brings its root", [][]byte{m.sign(m.template("SN-1"), m.other, pub, m.otherKey).Raw, m.other.Raw}, keydist.CodeAttestationInvalid},
		{"itself", [][]byte{selfSigned.Raw}, keydist.CodeAttestationInvalid},
		{"another key", [][]byte{m.attest(&stranger.PublicKey, "SN-1").Raw}, keydist.CodeAttestationInvalid},
		{"the key second in the chain", [][]byte{m.attest(&stranger.PublicKey, "SN-1").Raw, good.Raw}, keydist.CodeAttestationInvalid},
		{"an authority", [][]byte{m.attest(pub, "SN-1", func(c *x509.Certificate) { c.IsCA = true }).Raw}, keydist.CodeAttestationInvalid},
		{"a certificate of ours that the maker signed", [][]byte{m.attest(pub, "SN-1", func(c *x509.Certificate) { c.Policies = []x509.OID{identity.Agreement.Policy()} }).Raw}, keydist.CodeAttestationInvalid},
		{"over", [][]byte{m.attest(pub, "SN-1", func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Hour) }).Raw}, keydist.CodeAttestationInvalid},
		{"without the issuer", [][]byte{below.Raw}, keydist.CodeAttestationInvalid},
		{"a device that is not listed", [][]byte{m.attest(pub, "SN-2").Raw}, keydist.CodeAttestationNotListed},
		{"a device without a number", [][]byte{m.attest(pub, "").Raw}, keydist.CodeAttestationNotListed},
		{"a device named as the certificate of another", [][]byte{m.attest(pub, "0def").Raw}, keydist.CodeAttestationNotListed},
	} {
		o := d.order("MADE", 1)
		o.Attestation = c.chain
		_, err := l.host.Deliver(t.Context(), ra, o)
		refused(t, c.name, err, c.want)
	}
	if issued := l.store.IssuedAll(); len(issued) != 0 {
		t.Errorf("refusals used up %v", issued)
	}
	for _, chain := range [][][]byte{{good.Raw}, {bySerial.Raw}, {below.Raw, issuing.Raw}} {
		d.attestation = chain
		d.fetch("MADE", 1)
	}
	l.makers = m.document(3)
	_, err := l.host.Deliver(t.Context(), ra, d.order("MADE", 1))
	refused(t, "when nobody is listed any more", err, keydist.CodeAttestationNotListed)
	for _, cert := range l.keydist.Chain() {
		l.makers = m.document(4, "SN-1")
		l.makers.Roots = append(l.makers.Roots, cert)
		_, err := l.host.Deliver(t.Context(), ra, d.order("MADE", 1))
		refused(t, "with "+cert.Subject.CommonName+" of our own as a maker", err, keydist.CodeAttestationInvalid)
		if _, err := keydist.New(l.config); !errors.Is(err, keydist.ErrMakers) {
			t.Errorf("our own %q is a maker: %v", cert.Subject.CommonName, err)
		}
	}
	l.makers = nil
	_, err = l.host.Deliver(t.Context(), ra, d.order("MADE", 1))
	refused(t, "without a document", err, keydist.CodeAttestationInvalid)
	l.config.Makers = nil
	l.start()
	_, err = l.host.Deliver(t.Context(), ra, d.order("MADE", 1))
	refused(t, "when no maker is trusted", err, keydist.CodeAttestationInvalid)
}

// TestTheRangeEnds uses up a set of three key ids.
func TestTheRangeEnds(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	for range 3 {
		d.fetch("SHORT", 1)
	}
	for range 2 {
		_, err := l.host.Deliver(t.Context(), ra, d.order("SHORT", 1))
		refused(t, "the fourth", err, keydist.CodeNoKeyID)
		if !errors.Is(err, keydist.ErrNoKeyID) {
			t.Errorf("%v is not ErrNoKeyID", err)
		}
	}
	if errors.Is(&keydist.Refusal{Code: keydist.CodeTooManyPending}, keydist.ErrNoKeyID) {
		t.Error("another refusal is ErrNoKeyID")
	}
}

// TestBeyond starts after what the registry has seen, after what the configuration says and after what was given out,
// whichever is the highest.
func TestBeyond(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	after := keyID(t, "FFFF9876543220E00000")
	l.config.After = func(s *keyset.KeySet) dukpt.KeyID {
		if s.ID == "CODE" {
			return after
		}
		return dukpt.KeyID{}
	}
	l.start()
	d := l.enrol("T-1", elliptic.P256())
	for i, c := range []struct{ beyond, want string }{
		{"", "FFFF9876543221000000"},
		{"FFFF9876543210E00000", "FFFF9876543221200000"},
		{"FFFF9876543221400000", "FFFF9876543221600000"},
		{"", "FFFF9876543221800000"},
		{"FFFF987654FFFFC00000", "FFFF987654FFFFE00000"},
	} {
		o := d.order("CODE", uint8(i)+1)
		if c.beyond != "" {
			o.Beyond = keyID(t, c.beyond)
		}
		got := must[*remote.Delivery](t)(l.host.Deliver(t.Context(), ra, o))
		if got.KeyID != keyID(t, c.want) {
			t.Errorf("beyond %q: %v, want %s", c.beyond, got.KeyID, c.want)
		}
	}
	_, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 9))
	refused(t, "after the last", err, keydist.CodeNoKeyID)
}

func TestReplaces(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d, other := l.enrol("T-1", elliptic.P256()), l.enrol("T-2", elliptic.P256())
	old := d.fetch("CODE", 1)
	o := d.order("CODE", 1)
	o.Replaces = old
	got := must[*remote.Delivery](t)(l.host.Deliver(t.Context(), ra, o))
	opened := must[*remote.Opened](t)(d.open(o, got))
	defer opened.Wipe()
	if opened.Replaces != old {
		t.Errorf("replaces %v, want %v", opened.Replaces, old)
	}
	o = other.order("CODE", 1)
	o.Replaces = old
	_, err := l.host.Deliver(t.Context(), ra, o)
	refused(t, "the key of another terminal", err, keydist.CodeKeyIDMismatch)
	o = d.order("CODE", 2)
	o.Replaces = old
	_, err = l.host.Deliver(t.Context(), ra, o)
	refused(t, "the key of another slot", err, keydist.CodeKeyIDMismatch)
	o = d.order("CODE", 3)
	o.Replaces = keyID(t, "FFFF9876500000000000") // of a bundle, say: this host does not know it
	must[*remote.Delivery](t)(l.host.Deliver(t.Context(), ra, o))
}

// TestPendingCap stops a terminal that asks again and again, in one slot, until it confirms.
func TestPendingCap(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	for range keydist.MaxPending {
		d.fetch("CODE", 1)
	}
	_, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
	refused(t, "one more", err, keydist.CodeTooManyPending)
	_, err = l.host.Deliver(t.Context(), ra, d.order("SHORT", 1))
	refused(t, "one more of another set in the slot", err, keydist.CodeTooManyPending)
	l.advance(keydist.PendingPause)
	last := d.fetch("CODE", 1)
	_, err = l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
	refused(t, "one more right after that", err, keydist.CodeTooManyPending)
	d.fetch("CODE", 2)
	l.enrol("T-2", elliptic.P256()).fetch("CODE", 1)
	if err := l.host.Settle(t.Context(), ra, d.settlement("CODE", 1, last, keyset.SlotActive)); err != nil {
		t.Fatal(err)
	}
	d.fetch("CODE", 1)
}

// TestParallelOrders gives out 200 ids at once.
func TestParallelOrders(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	const orders = 200
	devices := make([]*device, orders/keydist.MaxPending)
	for i := range devices {
		devices[i] = l.enrol(keyset.TerminalID(fmt.Sprint("T-", i)), elliptic.P256())
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	seen := make(map[dukpt.KeyID]int)
	for i := range orders {
		o := devices[i%len(devices)].order("CODE", 1)
		all.Go(func() {
			d, err := l.host.Deliver(t.Context(), ra, o)
			if err != nil {
				t.Errorf("order %d: %v", i, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[d.KeyID]++
		})
	}
	all.Wait()
	if len(seen) != orders || len(l.store.IssuedAll()) != orders {
		t.Errorf("%d key ids delivered and %d recorded, want %d", len(seen), len(l.store.IssuedAll()), orders)
	}
}

// TestNoIDTwice goes through random histories: orders, confirmations, failing stores and keys, restarts. Whatever was
// delivered was delivered once, and every id that went out stands in the store.
func TestNoIDTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			random := rand.New(rand.NewPCG(seed, 2))
			devices := []*device{l.enrol("T-1", elliptic.P256()), l.enrol("T-2", elliptic.P256())}
			sets := []keyset.ID{"CODE", "SHORT"}
			seen := make(map[string]bool)
			var delivered []remote.Settlement
			for range 120 {
				d, set, slot := devices[random.IntN(2)], sets[random.IntN(2)], uint8(random.IntN(2))+1
				switch random.IntN(8) {
				case 0:
					left := random.IntN(2)
					l.store.Fail = func() error {
						if left--; left < 0 {
							return &keydist.Refusal{Code: keydist.CodeStoreUnavailable}
						}
						return nil
					}
				case 1:
					l.store.Fail = nil
					l.start()
				case 2:
					l.mu.Lock()
					l.keysFail = map[bool]error{true: errors.New("the token is gone")}[l.keysFail == nil]
					l.mu.Unlock()
				case 3:
					if len(delivered) > 0 {
						s := delivered[random.IntN(len(delivered))]
						s.State = keyset.SlotState([]keyset.SlotState{keyset.SlotActive, keyset.SlotRetired}[random.IntN(2)])
						_ = l.host.Settle(t.Context(), ra, s) // some conflict
					}
				default:
					got, err := l.host.Deliver(t.Context(), ra, d.order(set, slot))
					if err != nil {
						continue
					}
					if name := fmt.Sprint(set, got.KeyID); seen[name] {
						t.Fatalf("%s was delivered twice", name)
					} else {
						seen[name] = true
					}
					delivered = append(delivered, d.settlement(set, slot, got.KeyID, keyset.SlotActive))
				}
			}
			issued := make(map[string]bool)
			for _, i := range l.store.IssuedAll() {
				issued[fmt.Sprint(i.KeySet, i.KeyID)] = true
			}
			for name := range seen {
				if !issued[name] {
					t.Errorf("%s was delivered and not recorded", name)
				}
			}
			if len(seen) < 4 {
				t.Errorf("only %d deliveries: the history tests nothing", len(seen))
			}
		})
	}
}

// TestAFailedDeliveryBurnsItsID lets the keys fail between the allocation and the delivery.
func TestAFailedDeliveryBurnsItsID(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	l.keysFail = errors.New("the token is gone: 1234")
	_, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
	refused(t, "without keys", err, keydist.CodeKeysUnavailable)
	if strings.Contains(err.Error(), "1234") {
		t.Errorf("%v tells what the token said", err)
	}
	l.keysFail = nil
	if got := d.fetch("CODE", 1); got != keyID(t, "FFFF9876543211000000") {
		t.Errorf("after a failure: %v, want the next id", got)
	}
	if leaves := l.store.Leaves(); len(leaves) != 3 || leaves[0].Result != "ALLOCATED" || leaves[1].Result != "ALLOCATED" || leaves[2].Result != "DELIVERED" {
		t.Errorf("recorded %+v", leaves)
	}
}

// TestNothingLeavesUnrecorded lets the store fail in each of the transactions of a delivery.
func TestNothingLeavesUnrecorded(t *testing.T) {
	t.Parallel()
	for n := range 2 {
		l := newLaboratory(t)
		d := l.enrol("T-1", elliptic.P256())
		left := n
		l.store.Fail = func() error {
			if left--; left < 0 {
				return errors.New("disk: /secret/path")
			}
			return nil
		}
		got, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
		refused(t, fmt.Sprint("transaction ", n), err, keydist.CodeStoreUnavailable)
		if got != nil || strings.Contains(err.Error(), "path") {
			t.Errorf("transaction %d: %v, %v", n, got, err)
		}
	}
	l := newLaboratory(t)
	l.store.Fail = func() error { return &keydist.Refusal{Code: keydist.CodeStoreFull} }
	_, err := l.host.Deliver(t.Context(), ra, l.enrol("T-1", elliptic.P256()).order("OTHER", 1))
	refused(t, "a refusal that cannot be recorded", err, keydist.CodeStoreFull)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.store.Fail = nil
	if _, err := l.host.Deliver(ctx, ra, l.enrol("T-1", elliptic.P256()).order("CODE", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that is gone: %v", err)
	}
}

// TestBoundToTheOrder opens what was delivered as somebody else, or for another order.
func TestBoundToTheOrder(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	o := d.order("CODE", 1)
	got := must[*remote.Delivery](t)(l.host.Deliver(t.Context(), ra, o))
	for name, change := range map[string]func(*remote.Order){
		"nonce": func(o *remote.Order) { o.Nonce[0] ^= 1 }, "exporter": func(o *remote.Order) { o.Exporter[0] ^= 1 },
		"slot": func(o *remote.Order) { o.Slot++ }, "key set": func(o *remote.Order) { o.KeySet = "SHORT" },
	} {
		other := o
		change(&other)
		if opened, err := d.open(other, got); err == nil {
			opened.Wipe()
			t.Errorf("opens with another %s", name)
		}
	}
	thief := *d
	thief.key = newKey(t, elliptic.P256())
	if _, err := thief.open(o, got); err == nil {
		t.Error("opens with another key")
	}
}
