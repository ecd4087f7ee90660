package remote_test

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

func TestSuites(t *testing.T) {
	t.Parallel()
	want := map[keys.Algorithm]string{keys.TDES2: "P-256", keys.AES128: "P-256", keys.AES192: "P-384", keys.AES256: "P-521"}
	for a := keys.Algorithm(0); a <= keys.HMAC256+1; a++ {
		s, err := remote.SuiteFor(a)
		if (err == nil) != (want[a] != "") || err == nil && (s.String() != want[a] || fmt.Sprint(s.Curve()) != want[a]) {
			t.Errorf("%v: suite %v on %v, %v, want %q", a, s, s.Curve(), err, want[a])
		}
	}
	if s := remote.Suite(0); s.Curve() != nil || s.String() != "Suite(0)" {
		t.Errorf("no suite: %v, %v", s, s.Curve())
	}
}

// TestMarshalRefuses what has not been filled in, before it leaves. The vectors have what is refused on the way in.
func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	tls, agreement := [][]byte{l.binding.TLS.Raw}, [][]byte{l.binding.Agreement.Raw}
	order := remote.Order{
		Tenant: tenant, Terminal: terminal, Slot: 3, KeySet: "DATA", TLSChain: tls, AgreementChain: agreement,
		Nonce: [32]byte{1}, Exporter: [32]byte{2},
	}
	changed := func(change func(*remote.Order)) *remote.Order {
		o := order
		change(&o)
		return &o
	}
	assigned := func(change func(*remote.Assignment)) *remote.Assignment {
		a := assignment(t)
		change(a)
		return a
	}
	sealed := func(change func(*remote.Delivery)) *remote.Delivery {
		d := l.seal(t)
		change(d)
		return d
	}
	for name, m := range map[string]message{
		"an empty request":          &remote.Request{},
		"a request without nonce":   &remote.Request{Slot: 1},
		"a request for slot 17":     &remote.Request{Slot: 17, Nonce: [32]byte{1}},
		"an empty order":            &remote.Order{},
		"an order without chain":    changed(func(o *remote.Order) { o.TLSChain = nil }),
		"an order without exporter": changed(func(o *remote.Order) { o.Exporter = [32]byte{} }),
		"an order with a huge chain": changed(func(o *remote.Order) {
			for len(o.Attestation) < 9 {
				o.Attestation = append(o.Attestation, agreement[0])
			}
		}),
		"an empty certify order":          &remote.CertifyOrder{},
		"a certify order without request": &remote.CertifyOrder{Tenant: tenant, Terminal: terminal, TLSChain: tls},
		"an empty settlement":             &remote.Settlement{},
		"a settlement that is pending": &remote.Settlement{
			Tenant: tenant, Terminal: terminal, Slot: 1, KeySet: "DATA", KeyID: l.set.FirstID, State: keyset.SlotPending,
		},
		"an empty withdrawal":               &remote.Withdrawal{},
		"a withdrawal of nothing":           &remote.Withdrawal{Tenant: tenant, KeySet: "DATA"},
		"an empty adoption":                 &remote.Adoption{},
		"an adoption without a slot":        &remote.Adoption{Tenant: tenant, KeySet: "DATA", Keys: []remote.AdoptedKey{{Terminal: terminal, KeyID: l.set.FirstID}}},
		"an adoption of one key twice":      &remote.Adoption{Tenant: tenant, KeySet: "DATA", Keys: []remote.AdoptedKey{{Terminal: terminal, Slot: 1, KeyID: l.set.FirstID}, {Terminal: "T-2", Slot: 1, KeyID: l.set.FirstID}}},
		"an adoption of too many keys":      &remote.Adoption{Tenant: tenant, KeySet: "DATA", Keys: make([]remote.AdoptedKey, remote.MaxAdopted+1)},
		"an empty assignment":               &remote.Assignment{},
		"an assignment with half a second":  assigned(func(a *remote.Assignment) { a.RenewAfter = a.RenewAfter.Add(time.Second / 2) }),
		"an assignment without environment": assigned(func(a *remote.Assignment) { a.Environment = 0 }),
		"an assignment without delivery":    assigned(func(a *remote.Assignment) { a.Slots[0].Delivery = 0 }),
		"an empty delivery":                 &remote.Delivery{},
		"a delivery without time":           sealed(func(d *remote.Delivery) { d.IssuedAt = time.Time{} }),
		"a delivery without key id":         sealed(func(d *remote.Delivery) { d.KeyID = dukpt.KeyID{} }),
		"a delivery without block":          sealed(func(d *remote.Delivery) { d.Block = "" }),
		"a delivery without signature":      sealed(func(d *remote.Delivery) { d.Signature = nil }),
		"a delivery with a long signature":  sealed(func(d *remote.Delivery) { d.Signature = make([]byte, 257) }),
		"a delivery with a damaged certificate": sealed(func(d *remote.Delivery) {
			d.Certificates = [][]byte{d.Certificates[0][1:]}
		}),
	} {
		b, err := m.Marshal()
		if b != nil || !errors.Is(err, remote.ErrFormat) {
			t.Errorf("%s: %x, %v, want an error that wraps ErrFormat", name, b, err)
		}
	}
}

// TestTooLong: nothing reads or writes more than 64 KiB.
func TestTooLong(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte{0}, 64<<10+1)
	for name, err := range map[string]error{
		"request": second(remote.ParseRequest(long)), "order": second(remote.ParseOrder(long)),
		"certify order": second(remote.ParseCertifyOrder(long)), "settlement": second(remote.ParseSettlement(long)),
		"withdrawal": second(remote.ParseWithdrawal(long)), "adoption": second(remote.ParseAdoption(long)), "assignment": second(remote.ParseAssignment(long)), "delivery": second(remote.ParseDelivery(long)),
	} {
		if !errors.Is(err, remote.ErrFormat) || !strings.Contains(err.Error(), "want at most 65536") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[M any](_ M, err error) error { return err }
