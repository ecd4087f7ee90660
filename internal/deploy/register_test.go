package deploy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func secretOf(s string) secret.Bytes { return secret.From([]byte(s)) }

// withSets is a deployment with a PIN set and a data set of three key ids each.
func withSets(t *testing.T) *Deployment {
	t.Helper()
	d := deployment(t, keyset.Test)
	op := person(t, d, FirstOperator)
	_, err := d.SaveKeySet(sign(t, pinSet(t, d, "PIN-1", "11111111000000FE", "1111111100000100"), op))
	must(t, err)
	_, err = d.SaveKeySet(sign(t, dataSet(t, d, "DATA-1", "FFFF9876541FFFC00000", "FFFF9876542000000000"), op))
	must(t, err)
	return d
}

func registration(t *testing.T, d *Deployment, id keyset.TerminalID) Registration {
	t.Helper()
	return Registration{
		ID: id, Slots: []SlotRequest{{Slot: 1, KeySet: "DATA-1"}, {Slot: 2, KeySet: "PIN-1"}},
		Endpoints:  []terminal.Endpoint{{URL: "https://127.0.0.1:7443", ServerName: "localhost"}},
		Passphrase: NewBundlePassphrase(), Signers: []*Person{person(t, d, FirstOperator)},
	}
}

func TestRegisterTerminal(t *testing.T) {
	t.Parallel()
	d := withSets(t)
	r := registration(t, d, "T-1")
	got, err := d.RegisterTerminal(t.Context(), r)
	must(t, err)

	bundle, err := terminal.OpenBundle(r.Passphrase, got.Bundle)
	must(t, err)
	defer bundle.Wipe()
	if bundle.Tenant != "ACME" || bundle.Terminal != "T-1" || bundle.Environment != keyset.Test || len(bundle.Slots) != 2 {
		t.Errorf("bundle %v", bundle)
	}
	if _, err := terminal.OpenBundle(passphrase, got.Bundle); !errors.Is(err, seal.ErrPassphrase) {
		t.Errorf("the passphrase of the deployment opens the bundle: %v", err)
	}
	terminals, err := d.Terminals()
	must(t, err)
	if len(terminals) != 1 || terminals[0].ID != "T-1" || terminals[0].Serial != got.Serial || terminals[0].Status != keyset.StatusActive {
		t.Fatalf("records %+v", terminals)
	}
	if got, want := terminals[0].Slots[0].KeyID.String(), "FFFF9876541FFFC00000"; got != want {
		t.Errorf("first key id %s, want %s", got, want)
	}

	// What the terminal makes with the key in the bundle, the engine over the keyring takes.
	ring, err := d.Keyring()
	must(t, err)
	for i, ref := range []string{"alias/bdk/tdes", "alias/bdk/aes"} {
		ik, err := bundle.Slots[i].InitialKey()
		must(t, err)
		tm, err := dukpt.NewTerminal(ik)
		must(t, err)
		defer tm.Wipe()
		must(t, tm.Reserve(1, func(secret.Bytes) error { return nil }))
		tx := dukpt.NewTransaction()
		must(t, tm.Next(tx))
		defer tx.End()
		spec := tx.KSN().Scheme().DefaultMAC()
		mac, err := tx.MAC(nil, spec, []byte("m"))
		must(t, err)
		ops, err := ring.Engine().Begin(t.Context(), keyRef(t, ref), tx.KSN())
		must(t, err)
		defer ops.End()
		if err := ops.VerifyMAC(spec, []byte("m"), mac); err != nil {
			t.Errorf("slot %d: %v", i+1, err)
		}
		if tx.KSN().KeyID() != terminals[0].Slots[i].KeyID {
			t.Errorf("slot %d: key id %v, the record says %v", i+1, tx.KSN().KeyID(), terminals[0].Slots[i].KeyID)
		}
	}
}

func keyRef(t *testing.T, s string) keyset.KeyRef { return ref(t, s) }

func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	d := withSets(t)
	op := person(t, d, FirstOperator)
	closed := pinSet(t, d, "PIN-CLOSED", "2111111100000001", "21111111000000FF")
	closed.State = keyset.Blocked
	_, err := d.SaveKeySet(sign(t, closed, op))
	must(t, err)
	code := pinSet(t, d, "PIN-CODE", "4111111100000001", "41111111000000FF")
	code.Delivery = keyset.Code
	_, err = d.SaveKeySet(sign(t, code, op))
	must(t, err)
	attested := pinSet(t, d, "PIN-ATTESTED", "3111111100000001", "31111111000000FF")
	attested.Delivery = keyset.Attested
	_, err = d.SaveKeySet(sign(t, attested, op))
	must(t, err)
	_, err = d.RegisterTerminal(t.Context(), registration(t, d, "T-1"))
	must(t, err)
	marks := read(t, d.Path("keysets", "PIN-1.last")) + read(t, d.Path("keysets", "DATA-1.last"))
	for name, tt := range map[string]struct {
		change func(*Registration)
		want   error
	}{
		"exists":          {func(r *Registration) { r.ID = "T-1" }, fs.ErrExist},
		"no name":         {func(r *Registration) { r.ID = "" }, keyset.ErrTerminal},
		"bad name":        {func(r *Registration) { r.ID = "../T" }, keyset.ErrTerminal},
		"no slot":         {func(r *Registration) { r.Slots = nil }, nil},
		"slot 0":          {func(r *Registration) { r.Slots[0].Slot = 0 }, keyset.ErrTerminal},
		"one slot twice":  {func(r *Registration) { r.Slots[1].Slot = 1 }, keyset.ErrTerminal},
		"unknown set":     {func(r *Registration) { r.Slots[1].KeySet = "NOTHING" }, ErrDocument},
		"blocked set":     {func(r *Registration) { r.Slots[1].KeySet = "PIN-CLOSED" }, ErrDelivery},
		"code set":        {func(r *Registration) { r.Slots[1].KeySet = "PIN-CODE" }, ErrDelivery},
		"attested set":    {func(r *Registration) { r.Slots[1].KeySet = "PIN-ATTESTED" }, ErrDelivery},
		"no endpoint":     {func(r *Registration) { r.Endpoints = nil }, nil},
		"no signer":       {func(r *Registration) { r.Signers = nil }, nil},
		"no passphrase":   {func(r *Registration) { r.Passphrase = secret.Bytes{} }, nil},
		"weak passphrase": {func(r *Registration) { r.Passphrase = secretOf("short") }, nil},
	} {
		r := registration(t, d, "T-2")
		tt.change(&r)
		got, err := d.RegisterTerminal(t.Context(), r)
		if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, tt.want)
		}
	}
	if got := read(t, d.Path("keysets", "PIN-1.last")) + read(t, d.Path("keysets", "DATA-1.last")); got != marks {
		t.Errorf("refusals used up key ids: %q after %q", got, marks)
	}
	// An auditor's signature is found out only when the record is checked. The certificate made until then is revoked.
	r := registration(t, d, "T-2")
	r.Signers = []*Person{person(t, d, FirstAuditor)}
	if _, err := d.RegisterTerminal(t.Context(), r); !errors.Is(err, ErrDocument) {
		t.Errorf("signed by an auditor: %v", err)
	}
	if ledger := read(t, d.Path("ca", "terminals", "issued.jsonl")); !strings.Contains(ledger, "revoke") {
		t.Errorf("the certificate was not revoked: %s", ledger)
	}
	terminals, err := d.Terminals()
	must(t, err)
	if len(terminals) != 1 {
		t.Errorf("%d terminals, want 1", len(terminals))
	}
}

// What the record or the bundle would refuse in the end is refused before a key id or a certificate is used up.
func TestRegisterRefusesBeforeItAllocates(t *testing.T) {
	t.Parallel()
	d := withSets(t)
	twin := dataSet(t, d, "DATA-TWIN", "FFFF9876541FFFC00000", "FFFF9876542000000000")
	ring, err := d.Keyring()
	must(t, err)
	other, err := ring.Generate(ref(t, "alias/bdk/other"), bdkTDES, keyset.Test)
	must(t, err)
	twin.BaseKey, twin.BaseKeyFingerprint = other.Ref, other.Fingerprint
	_, err = d.SaveKeySet(sign(t, twin, person(t, d, FirstOperator)))
	must(t, err)
	used := func() string {
		out := ""
		for _, path := range []string{
			d.Path("keysets", "PIN-1.last"), d.Path("keysets", "DATA-1.last"), d.Path("keysets", "DATA-TWIN.last"),
			d.Path("ca", "terminals", "issued.jsonl"),
		} {
			b, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			out += string(b) + "|"
		}
		return out
	}
	before := used()
	for name, slots := range map[string][]SlotRequest{
		"slot 0":                 {{Slot: 0, KeySet: "DATA-1"}, {Slot: 2, KeySet: "PIN-1"}},
		"slot 17":                {{Slot: 1, KeySet: "DATA-1"}, {Slot: 17, KeySet: "PIN-1"}},
		"one slot twice":         {{Slot: 1, KeySet: "DATA-1"}, {Slot: 1, KeySet: "PIN-1"}},
		"slots descending":       {{Slot: 2, KeySet: "DATA-1"}, {Slot: 1, KeySet: "PIN-1"}},
		"one key id of two sets": {{Slot: 1, KeySet: "DATA-1"}, {Slot: 2, KeySet: "DATA-TWIN"}},
		"one set twice":          {{Slot: 1, KeySet: "DATA-1"}, {Slot: 2, KeySet: "DATA-1"}},
		"no slot for card data":  {{Slot: 1, KeySet: "PIN-1"}},
	} {
		r := registration(t, d, "T-1")
		r.Slots = slots
		if got, err := d.RegisterTerminal(t.Context(), r); err == nil {
			t.Fatalf("%s: registered as %+v", name, got.Terminal)
		}
		if after := used(); after != before {
			t.Errorf("%s: a refusal used up key ids or a certificate:\n%s after\n%s", name, after, before)
			before = after
		}
	}
	_, err = d.RegisterTerminal(t.Context(), registration(t, d, "T-1"))
	must(t, err)
	r := registration(t, d, "T-2") // DATA-1 is one further now, so the two sets do not meet
	r.Slots = []SlotRequest{{Slot: 1, KeySet: "DATA-1"}, {Slot: 2, KeySet: "DATA-TWIN"}}
	_, err = d.RegisterTerminal(t.Context(), r)
	must(t, err)
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

// Key ids are given out once each, also by processes beside each other, and then no more.
func TestAllocate(t *testing.T) {
	t.Parallel()
	d := withSets(t)
	var mu sync.Mutex
	seen := map[dukpt.KeyID]bool{}
	var wg sync.WaitGroup
	for range 2 {
		beside := reopen(t, d.Dir())
		catalog, err := beside.Catalog()
		must(t, err)
		set, _ := catalog.KeySet("PIN-1")
		wg.Go(func() {
			for range 2 {
				err := underLock(beside.Dir(), func() error {
					id, err := beside.allocate(set, catalog)
					if err != nil {
						return err
					}
					mu.Lock()
					defer mu.Unlock()
					if seen[id] || !set.Contains(id) {
						t.Errorf("key id %v was given out twice or is outside the set", id)
					}
					seen[id] = true
					return nil
				})
				if err != nil && !errors.Is(err, ErrNoKeyID) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(seen) != 3 {
		t.Errorf("%d key ids of a set of 3", len(seen))
	}
}

// A mark that is older than the records gives out no key id again, and one that is damaged none at all.
func TestAllocateAfterRestore(t *testing.T) {
	t.Parallel()
	d := withSets(t)
	first, err := d.RegisterTerminal(t.Context(), registration(t, d, "T-1"))
	must(t, err)
	mark := d.Path("keysets", "PIN-1.last")
	must(t, os.Remove(mark))
	second, err := d.RegisterTerminal(t.Context(), registration(t, d, "T-2"))
	must(t, err)
	if a, b := first.Terminal.Slots[1].KeyID, second.Terminal.Slots[1].KeyID; b.Compare(a) <= 0 {
		t.Errorf("key id %v after %v", b, a)
	}
	third := registration(t, d, "T-3")
	third.Slots = []SlotRequest{{Slot: 1, KeySet: "PIN-1"}, {Slot: 2, KeySet: "DATA-1"}}
	for _, text := range []string{"", "\n", "xyz\n", "11111111000000FE", "11111111000000FE\n\n", "2222222200000000\n", "FFFF9876541FFFC00000\n", "11111111000000fe\n"} {
		must(t, os.WriteFile(mark, []byte(text), 0o600))
		if _, err := d.RegisterTerminal(t.Context(), third); err == nil || !strings.Contains(err.Error(), filepath.Base(mark)) {
			t.Errorf("mark %q: %v", text, err)
		}
	}
	must(t, os.WriteFile(mark, []byte("1111111100000100\n"), 0o600))
	if _, err := d.RegisterTerminal(t.Context(), third); !errors.Is(err, ErrNoKeyID) {
		t.Errorf("a set at its end: %v", err)
	}
}

func TestSaveTerminal(t *testing.T) {
	t.Parallel()
	d := withSets(t)
	op := person(t, d, FirstOperator)
	made, err := d.RegisterTerminal(t.Context(), registration(t, d, "T-1"))
	must(t, err)
	other, err := d.RegisterTerminal(t.Context(), registration(t, d, "T-2"))
	must(t, err)
	next := func(change func(*keyset.Terminal)) []byte {
		c := *made.Terminal
		c.Slots = append([]keyset.Slot{}, c.Slots...)
		c.Generation++
		change(&c)
		payload, err := keyset.MarshalTerminal(&c)
		must(t, err)
		return signPayload(t, keyset.KindTerminal, payload, op)
	}
	for name, change := range map[string]func(*keyset.Terminal){
		"same generation":     func(c *keyset.Terminal) { c.Generation-- },
		"generation left out": func(c *keyset.Terminal) { c.Generation++ },
		"other tenant":        func(c *keyset.Terminal) { c.Tenant = "OTHER" },
		"another's key":       func(c *keyset.Terminal) { c.Slots[1].KeyID = other.Terminal.Slots[1].KeyID },
		"key outside the set": func(c *keyset.Terminal) { c.Slots[1].KeyID = keyID(t, "11111111000000FD") },
		"unknown set":         func(c *keyset.Terminal) { c.Slots[1].KeySet = "NOTHING" },
		"generation 2 first":  func(c *keyset.Terminal) { c.ID = "T-3" },
	} {
		if got, err := d.SaveTerminal(next(change)); !errors.Is(err, ErrDocument) {
			t.Errorf("%s: got %+v, %v; want %v", name, got, err, ErrDocument)
		}
	}
	_, err = d.SaveTerminal(next(func(c *keyset.Terminal) { c.Status = keyset.StatusBlocked }))
	must(t, err)
	c, err := d.Catalog()
	must(t, err)
	if got, ok := c.Terminal("ACME", "T-1"); !ok || got.Status != keyset.StatusBlocked || got.Generation != 2 {
		t.Errorf("got %+v", got)
	}
	must(t, os.Remove(d.Path("terminals", "T-1.g2.signed")))
	if err := c.Reload(); !errors.Is(err, ErrRollback) {
		t.Errorf("the block was taken back: %v", err)
	}
}

func TestBundlePassphrase(t *testing.T) {
	t.Parallel()
	a, b := NewBundlePassphrase(), NewBundlePassphrase()
	if a.Equal(b) || a.Len() != 26 || strings.Trim(string(a.Expose()), crockford.Alphabet) != "" {
		t.Errorf("%d and %d characters, equal %v", a.Len(), b.Len(), a.Equal(b))
	}
}

func TestTerminalCertificate(t *testing.T) {
	t.Parallel()
	d := withSets(t)
	r := registration(t, d, "T-1")
	got, err := d.RegisterTerminal(t.Context(), r)
	must(t, err)
	bundle, err := terminal.OpenBundle(r.Passphrase, got.Bundle)
	must(t, err)
	defer bundle.Wipe()
	issuer, err := d.Issuer(identity.TerminalCA)
	must(t, err)
	if string(bundle.Chain[1]) != string(issuer.Chain()[0].Raw) {
		t.Error("the terminal's certificate is not from the terminal authority")
	}
	services, err := d.Issuer(identity.ServicesCA)
	must(t, err)
	if len(bundle.Roots) != 1 || string(bundle.Roots[0]) != string(services.Root().Raw) {
		t.Error("the terminal trusts somebody else than the services authority")
	}
}
