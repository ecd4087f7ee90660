package sample_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/sample"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// fresh makes a deployment with nothing in it. That takes a second or two.
func fresh(t *testing.T) *deploy.Deployment {
	t.Helper()
	passphrase := secret.From([]byte("correct horse battery staple"))
	t.Cleanup(passphrase.Wipe)
	d, err := deploy.Create(filepath.Join(t.TempDir(), "pos"), deploy.Options{
		Tenant: "ACME", Environment: keyset.Test, Passphrase: passphrase,
	})
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPrepare follows a deployment from empty to one with a terminal of each scheme.
func TestPrepare(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	must(t, sample.Prepare(d, keyset.DeliveryNone))

	ring, err := d.Keyring()
	must(t, err)
	want := map[string]struct {
		algorithm keys.Algorithm
		usage     keys.Usage
	}{
		"alias/bdk-tdes-data": {keys.TDES2, keys.UsageBDK}, "alias/bdk-tdes-pin": {keys.TDES2, keys.UsageBDK},
		"alias/bdk-aes-data": {keys.AES128, keys.UsageBDK}, "alias/bdk-aes-pin": {keys.AES128, keys.UsageBDK},
		sample.ZoneTDES: {keys.TDES2, keys.UsagePIN}, sample.ZoneAES: {keys.AES256, keys.UsagePIN},
	}
	infos := ring.List()
	if len(infos) != 6 {
		t.Errorf("%d keys, want 6", len(infos))
	}
	for _, info := range infos {
		w, ok := want[info.Ref.String()]
		if !ok || info.Attributes.Algorithm != w.algorithm || info.Attributes.Usage != w.usage || info.Labels.Environment != keyset.Test {
			t.Errorf("key %s: %v of %v, want %+v of the test environment", info.Ref, info.Attributes, info.Labels.Environment, w)
		}
	}

	sets, err := d.KeySets()
	must(t, err)
	if len(sets) != 4 {
		t.Errorf("%d key sets, want 4", len(sets))
	}
	for _, scheme := range []dukpt.Scheme{dukpt.TDES, dukpt.AES} {
		for _, slot := range []uint8{sample.DataSlot, sample.PINSlot} {
			s := setOf(t, d, sample.KeySet(scheme, slot))
			zones := len(s.OutgoingPINKeys)
			if s.FirstID.Scheme() != scheme || s.State != keyset.Active || s.Revision != 1 || (zones == 1) != (slot == sample.PINSlot) {
				t.Errorf("key set %s: scheme %v, state %v, revision %d, %d zone keys", s.ID, s.FirstID.Scheme(), s.State, s.Revision, zones)
			}
		}
	}
	if id := sample.KeySet(dukpt.AES, 3); id != "" {
		t.Errorf("slot 3 has key set %q, want none", id)
	}

	t.Run("terminal", func(t *testing.T) { registers(t, d) })
	t.Run("state", func(t *testing.T) { changesState(t, d) })
}

func setOf(t *testing.T, d *deploy.Deployment, id keyset.ID) *keyset.KeySet {
	t.Helper()
	sets, err := d.KeySets()
	must(t, err)
	for _, s := range sets {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("no key set %q", id)
	return nil
}

func registers(t *testing.T, d *deploy.Deployment) {
	const url = "https://127.0.0.1:1"
	for scheme, id := range map[dukpt.Scheme]keyset.TerminalID{dukpt.TDES: "T-1", dukpt.AES: "T-2"} {
		b, err := sample.Terminal(t.Context(), d, id, scheme, url)
		must(t, err)
		defer b.Wipe()
		if b.Terminal != id || b.Tenant != "ACME" || len(b.Endpoints) != 1 || b.Endpoints[0].URL != url {
			t.Errorf("bundle of %s for %s at %v, want %s at %s", b.Tenant, b.Terminal, b.Endpoints, id, url)
		}
		if len(b.Slots) != 2 {
			t.Fatalf("%s has %d slots, want 2", id, len(b.Slots))
		}
		for i, s := range b.Slots {
			number := uint8(i + 1)
			if s.Number != number || s.KeySet != sample.KeySet(scheme, number) || s.Scheme() != scheme || s.Block == "" || s.KBPK.Len() != 32 {
				t.Errorf("%s slot %d: key set %s of %v", id, s.Number, s.KeySet, s.Scheme())
			}
		}
		if !b.Slots[0].HasData() || b.Slots[1].PINFormat == 0 {
			t.Errorf("%s: slot 1 has data %t, slot 2 PIN format %v", id, b.Slots[0].HasData(), b.Slots[1].PINFormat)
		}
	}
	if b, err := sample.Terminal(t.Context(), d, "T-1", dukpt.AES, url); err == nil {
		b.Wipe()
		t.Error("registered a terminal twice")
	}
}

func changesState(t *testing.T, d *deploy.Deployment) {
	id := sample.KeySet(dukpt.AES, sample.PINSlot)
	must(t, sample.SetState(d, id, keyset.Blocked))
	if s := setOf(t, d, id); s.State != keyset.Blocked || s.Revision != 2 {
		t.Errorf("blocked: state %v in revision %d, want revision 2", s.State, s.Revision)
	}
	must(t, sample.SetState(d, id, keyset.Active))
	if s := setOf(t, d, id); s.State != keyset.Active || s.Revision != 3 {
		t.Errorf("active again: state %v in revision %d, want revision 3", s.State, s.Revision)
	}
	if err := sample.SetState(d, "NONE", keyset.Active); err == nil || !strings.Contains(err.Error(), "NONE") {
		t.Errorf("a key set that does not exist: %v, want an error that names it", err)
	}
}

// TestZoneKeysStay prepares a deployment whose operator has made a zone key: it is kept as it is.
func TestZoneKeysStay(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	ring, err := d.Keyring()
	must(t, err)
	ref, err := keyset.ParseKeyRef(sample.ZoneTDES)
	must(t, err)
	before, err := ring.Generate(ref, keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	}, keyset.Test)
	must(t, err)
	must(t, sample.Prepare(d, keyset.DeliveryNone))
	kept := 0
	for _, info := range ring.List() {
		if info.Ref == ref {
			kept++
			if info.ID != before.ID || info.Attributes != before.Attributes {
				t.Errorf("the zone key is %v now, want %v", info, before)
			}
		}
	}
	if n := len(ring.List()); kept != 1 || n != 6 {
		t.Errorf("%d keys with %d under %s, want 6 with one", n, kept, ref)
	}
}
