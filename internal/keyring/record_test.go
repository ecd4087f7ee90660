package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func mustKSN(t *testing.T) dukpt.KSN {
	t.Helper()
	k, err := dukpt.ParseKSNHex("FFFF9876543210E00001")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestReadStrict(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"unknown member": `{"v":1,"extra":1}`, "wrong case": `{"V":1}`, "repeated": `{"v":1,"v":1}`, "trailing": `{"v":1}x`,
		"array": `[]`, "type": `{"v":"1"}`, "cut": `{"v":1`,
	} {
		if err := readStrict([]byte(text), new(record)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

// FuzzRecord holds the file of a key to one thing: whatever is read out of damaged bytes, only the record that was written
// opens.
func FuzzRecord(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "ring")
	r, err := CreateWith(dir, passphrase, cheap)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(r.Close)
	ref, err := keyset.ParseKeyRef("alias/zone")
	if err != nil {
		f.Fatal(err)
	}
	info, err := r.Generate(ref, zoneAES, keyset.Test)
	if err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, info.ID.String()+keySuffix))
	if err != nil {
		f.Fatal(err)
	}
	var written record
	if err := readStrict(good, &written); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"v":1,"ref":"alias/zone","environment":"production"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var rec record
		if err := readStrict(b, &rec); err != nil {
			return
		}
		e, err := rec.open(r.master, r.labelled)
		if err != nil {
			return
		}
		defer e.wipe()
		if rec != written || e.info != info {
			t.Fatalf("%s opens as %+v, %+v was written", b, e.info, info)
		}
	})
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	if got, err := parseTime("2026-03-04T05:06:07Z"); err != nil || got.Unix() != 1772600767 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, s := range []string{"", "2026-03-04", "2026-03-04T05:06:07+00:00", "2026-03-04T05:06:07.5Z", "2026-3-4T05:06:07Z", "2026-13-04T05:06:07Z"} {
		if _, err := parseTime(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

func TestOpenTwice(t *testing.T) {
	t.Parallel()
	r, dir := create(t)
	r.Close()
	r.Close()
	if err := r.Reload(); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("Reload of a closed ring: %v", err)
	}
	reopen(t, dir)
}
