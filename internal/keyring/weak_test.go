package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const weakBDK = "0123456789ABCDEF01FE01FE01FE01FE" // its second half is a semi-weak key of DES

// TestImportRefusesWeakKeys: a key out of a key block was held to no rule yet.
func TestImportRefusesWeakKeys(t *testing.T) {
	t.Parallel()
	zone3 := zoneTDES
	zone3.Algorithm = keys.TDES3
	r, dir := create(t)
	for name, k := range map[string]keys.Key{
		"base key":               key(t, bdkTDES, weakBDK),
		"base key, other parity": key(t, bdkTDES, "0123456789ABCDEF00FE01FE01FE01FF"),
		"base key of zeros":      key(t, bdkAES, strings.Repeat("00", 16)),
		"zone key":               key(t, zoneTDES, "FEFEFEFEFEFEFEFE0123456789ABCDEF"),
		"outer parts equal":      key(t, zone3, "0123456789ABCDEFFEDCBA98765432100123456789ABCDEF"),
	} {
		if _, err := r.Import(alias(t, "key"), k, keyset.Test); !errors.Is(err, keys.ErrWeak) || !strings.Contains(err.Error(), "alias/key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(reopen(t, dir).List()); n != 0 {
		t.Errorf("%d keys after refusals", n)
	}
}

// TestOpenRefusesWeakBaseKey finds one that an earlier version took in. The file is not damaged: it says what is wrong with it.
func TestOpenRefusesWeakBaseKey(t *testing.T) {
	t.Parallel()
	r, dir := create(t)
	k := key(t, bdkTDES, weakBDK)
	rec := record{
		Version: recordVersion, Ref: "alias/bdk", ID: newID(make([]byte, 26)), Created: start.Format(timeLayout),
		Environment: keyset.Test.String(), KeyVersion: 1, KCV: k.KCV().String(), Fingerprint: k.Fingerprint(r.fingerprints()).String(),
	}
	var err error
	if rec.Block, err = r.master.wrap(k, rec.label()); err != nil {
		t.Fatal(err)
	}
	b, err := writeStrict(rec)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, rec.ID+keySuffix)
	if err := seal.WriteFile(path, b, fileMode); err != nil {
		t.Fatal(err)
	}
	_, err = OpenWith(dir, passphrase, cheap)
	if !errors.Is(err, keys.ErrWeak) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open: %v", err)
	}
	if err := r.Reload(); !errors.Is(err, keys.ErrWeak) {
		t.Errorf("Reload: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	reopen(t, dir)
}
