package remote_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// message is every message of the package.
type message interface{ Marshal() ([]byte, error) }

// fuzz adds seeds that succeed, and demands that what parses is written as the same bytes and keeps the property. A message
// comes in three pieces, so that the fuzzer changes the middle one and the end as often as all the rest.
func fuzz[M message](f *testing.F, parse func([]byte) (M, error), property func(t *testing.T, m M), seeds ...M) {
	f.Helper()
	for _, m := range seeds {
		b, err := m.Marshal()
		check(f, err)
		if _, err := parse(b); err != nil {
			f.Fatalf("seed %x: %v", b, err)
		}
		f.Add(b, []byte{}, []byte{})
	}
	f.Fuzz(func(t *testing.T, front, middle, back []byte) {
		b := slices.Concat(front, middle, back)
		m, err := parse(b)
		if err != nil {
			return
		}
		again, err := m.Marshal()
		if err != nil {
			t.Fatalf("Marshal of what %x says: %v", b, err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("Marshal of what %x says gives %x", b, again)
		}
		property(t, m)
	})
}

// FuzzParseDelivery: a delivery has one spelling, its key id is of its key set, and none but the one of the vectors opens.
func FuzzParseDelivery(f *testing.F) {
	l, seed := vector(f, "single-id")
	want, err := seed.Marshal()
	check(f, err)
	if opened, err := remote.Open(seed, l.binding, l.agreement, l.options()); err != nil {
		f.Fatal(err)
	} else {
		opened.Wipe()
	}
	front, back, ok := bytes.Cut(want, seed.KeyID.Append(nil))
	if !ok {
		f.Fatal("the delivery does not name its key id")
	}
	f.Add(front, seed.KeyID.Append(nil), back)
	fuzz(f, remote.ParseDelivery, func(t *testing.T, d *remote.Delivery) {
		set, err := keyset.Unmarshal(d.KeySet)
		if err != nil || !set.Contains(d.KeyID) || set.State != keyset.Active || set.Delivery == keyset.DeliveryNone {
			t.Fatalf("key id %v is parsed under key set %x", d.KeyID, d.KeySet)
		}
		opened, err := remote.Open(d, l.binding, l.agreement, l.options())
		if err != nil {
			if opened != nil {
				t.Fatalf("%v comes with %v", err, opened)
			}
			return
		}
		defer opened.Wipe()
		b, err := d.Marshal()
		check(t, err)
		// Two things are not under the signature: itself, because (r, n-s) verifies where (r, s) does, and how many issuing
		// certificates come along.
		d.Signature, d.Certificates = seed.Signature, append(d.Certificates[:1:1], seed.Certificates[1:]...)
		if same, err := d.Marshal(); err != nil || !bytes.Equal(same, want) {
			t.Fatalf("%x opens", b)
		}
	}, seed)
}

// vector reads a delivery of the vectors, with the terminal that it is for.
func vector(f *testing.F, id string) (*lab, *remote.Delivery) {
	f.Helper()
	b, err := os.ReadFile("../../testdata/protocol/delivery.json")
	check(f, err)
	var file struct{ Vectors []map[string]any }
	check(f, json.Unmarshal(b, &file))
	i := slices.IndexFunc(file.Vectors, func(v map[string]any) bool { return v["id"] == id })
	if i < 0 {
		f.Fatalf("no vector %s", id)
	}
	v := file.Vectors[i]
	bytesOf := func(member any) []byte {
		b, err := hex.DecodeString(fmt.Sprint(member))
		check(f, err)
		return b
	}
	certificate := func(member any) *x509.Certificate {
		c, err := x509.ParseCertificate(bytesOf(member))
		check(f, err)
		return c
	}
	d, err := remote.ParseDelivery(bytesOf(v["delivery"]))
	check(f, err)
	l := &lab{roots: x509.NewCertPool()}
	l.roots.AddCert(certificate(v["roots"].([]any)[0]))
	l.set, err = keyset.Unmarshal(d.KeySet)
	check(f, err)
	l.agreement, err = ecdh.P256().NewPrivateKey(bytesOf(v["agreement_private"]))
	check(f, err)
	l.binding = remote.Binding{
		Tenant: l.set.Tenant, Terminal: keyset.TerminalID(fmt.Sprint(v["terminal"])), Slot: uint8(v["slot"].(float64)),
		TLS: certificate(v["tls_certificate"]), Agreement: certificate(v["agreement_certificate"]),
		Nonce: [32]byte(bytesOf(v["nonce"])), Exporter: [32]byte(bytesOf(v["exporter"])),
	}
	return l, d
}

// FuzzParseRequest: a request has one spelling, a slot that exists and a nonce.
func FuzzParseRequest(f *testing.F) {
	_, chain := certified(f, newLab(f, keys.AES128, elliptic.P256()).keydist, "agreement", tenant, terminal, elliptic.P256())
	fuzz(f, remote.ParseRequest, func(t *testing.T, r *remote.Request) {
		if r.Slot < 1 || r.Slot > keyset.MaxSlots || r.Nonce == [32]byte{} {
			t.Fatalf("parsed: %+v", r)
		}
	}, &remote.Request{Slot: 1, Nonce: [32]byte{1}}, &remote.Request{Slot: 16, Nonce: [32]byte{31: 1}, Attestation: [][]byte{chain[0].Raw}})
}

// FuzzParseOrder: an order has one spelling, and everything that a delivery is bound to.
func FuzzParseOrder(f *testing.F) {
	l := newLab(f, keys.AES128, elliptic.P256())
	o := &remote.Order{
		Tenant: tenant, Terminal: terminal, Slot: 3, KeySet: "DATA", TLSChain: [][]byte{l.binding.TLS.Raw},
		AgreementChain: [][]byte{l.binding.Agreement.Raw}, Nonce: [32]byte{1}, Exporter: [32]byte{2},
	}
	next := *o
	next.Replaces, next.Beyond = l.set.FirstID, l.set.LastID
	fuzz(f, remote.ParseOrder, func(t *testing.T, o *remote.Order) {
		if len(o.TLSChain) == 0 || len(o.AgreementChain) == 0 || o.Nonce == [32]byte{} || o.Exporter == [32]byte{} || o.Tenant == "" {
			t.Fatalf("parsed: %+v", o)
		}
	}, o, &next)
}

// FuzzParseCertifyOrder: an order has one spelling and a signing request.
func FuzzParseCertifyOrder(f *testing.F) {
	l := newLab(f, keys.AES128, elliptic.P256())
	fuzz(f, remote.ParseCertifyOrder, func(t *testing.T, o *remote.CertifyOrder) {
		if len(o.CSR) == 0 || len(o.TLSChain) == 0 {
			t.Fatalf("parsed: %+v", o)
		}
	}, &remote.CertifyOrder{Tenant: tenant, Terminal: terminal, TLSChain: [][]byte{l.binding.TLS.Raw}, CSR: []byte{0x30, 0}})
}

// FuzzParseSettlement: a settlement has one spelling, and settles a key.
func FuzzParseSettlement(f *testing.F) {
	id := keyID(f, "1234567890123456")
	fuzz(f, remote.ParseSettlement, func(t *testing.T, s *remote.Settlement) {
		if s.KeyID.IsZero() || s.State != keyset.SlotActive && s.State != keyset.SlotRetired {
			t.Fatalf("parsed: %+v", s)
		}
	},
		&remote.Settlement{Tenant: tenant, Terminal: terminal, Slot: 1, KeySet: "DATA", KeyID: id, State: keyset.SlotActive},
		&remote.Settlement{Tenant: tenant, Terminal: terminal, Slot: 2, KeySet: "DATA", KeyID: id, State: keyset.SlotRetired},
	)
}

// FuzzParseWithdrawal: a withdrawal has one spelling, and a key id.
func FuzzParseWithdrawal(f *testing.F) {
	fuzz(f, remote.ParseWithdrawal, func(t *testing.T, w *remote.Withdrawal) {
		if w.Through.IsZero() || w.KeySet == "" {
			t.Fatalf("parsed: %+v", w)
		}
	}, &remote.Withdrawal{Tenant: tenant, KeySet: "DATA", Through: keyID(f, "1234567890123456")})
}

// FuzzParseAdoption: an adoption has one spelling, and its keys ascend.
func FuzzParseAdoption(f *testing.F) {
	first := keyID(f, "1234567890123456")
	next, _ := first.Next()
	fuzz(f, remote.ParseAdoption, func(t *testing.T, a *remote.Adoption) {
		if len(a.Keys) == 0 || a.KeySet == "" {
			t.Fatalf("parsed: %+v", a)
		}
		for i, k := range a.Keys {
			if k.KeyID.IsZero() || i > 0 && a.Keys[i-1].KeyID.Compare(k.KeyID) >= 0 {
				t.Fatalf("parsed: %+v", a)
			}
		}
	}, &remote.Adoption{Tenant: tenant, KeySet: "DATA", Keys: []remote.AdoptedKey{{Terminal: terminal, Slot: 1, KeyID: first}, {Terminal: "T-2", Slot: 16, KeyID: next}}})
}

// FuzzParseAssignment: an assignment has one spelling, and its slots are distinct and ascending.
func FuzzParseAssignment(f *testing.F) {
	fuzz(f, remote.ParseAssignment, func(t *testing.T, a *remote.Assignment) {
		seen := make(map[dukpt.KeyID]bool)
		for i, s := range a.Slots {
			if i > 0 && a.Slots[i-1].Slot >= s.Slot || seen[s.KeyID] && !s.KeyID.IsZero() || s.Wanted && s.Delivery == keyset.DeliveryNone {
				t.Fatalf("parsed: %+v", a)
			}
			seen[s.KeyID] = true
		}
		if a.RenewBefore.Before(a.RenewAfter) || a.Environment != keyset.Test && a.Environment != keyset.Production {
			t.Fatalf("parsed: %+v", a)
		}
	}, assignment(f), &remote.Assignment{
		Tenant: tenant, Terminal: terminal, Environment: keyset.Production, RenewAfter: noon, RenewBefore: noon,
	})
}

func assignment(t testing.TB) *remote.Assignment {
	return &remote.Assignment{
		Tenant: tenant, Terminal: terminal, Environment: keyset.Test, Slots: []remote.AssignedSlot{
			{Slot: 1, KeySet: "DATA", Delivery: keyset.Code, Wanted: true, KeyID: keyID(t, "1234567890123456")},
			{Slot: 2, KeySet: "PIN", Delivery: keyset.DeliveryNone},
		},
		Endpoints: []string{"https://acquirer.example:7443"}, RenewAfter: noon, RenewBefore: noon.AddDate(0, 1, 0),
	}
}
