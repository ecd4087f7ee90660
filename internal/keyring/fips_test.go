package keyring

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/fipstest"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// TestFIPSOnly runs itself in a process with Go's FIPS mode enforced: a key without a check value is neither taken in nor
// read back, though the file claims none either.
func TestFIPSOnly(t *testing.T) {
	t.Parallel()
	fipstest.Enforced(t, fipsOnly)
}

func fipsOnly(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, folderMode))
	p, err := protector(secret.From([]byte("0123456789abcdefghijklmnopqrstuv"))) // sealing is refused here
	must(t, err)
	stamp, err := masterStamp(dir)
	must(t, err)
	r := newRing(dir, &master{protectors: []*keyblock.Protector{p}, stamp: stamp}, cheap)
	defer r.Close()
	for _, name := range secretNames {
		must(t, r.addSecret(name))
	}
	_, err = r.Generate(alias(t, "aes"), zoneAES, keyset.Test)
	must(t, err)
	_, err = r.Generate(alias(t, "drawn"), zoneTDES, keyset.Test)
	if !errors.Is(err, keys.ErrForbidden) {
		t.Errorf("generate: %v, want %v", err, keys.ErrForbidden)
	}
	k, err := keys.NewKey(zoneTDES, []byte("0123456789abcdef"))
	must(t, err)
	if _, err := r.Import(alias(t, "tdes"), k, keyset.Test); !errors.Is(err, errNoKCV) || !errors.Is(err, keys.ErrForbidden) {
		t.Errorf("import: %v, want %v", err, errNoKCV)
	}

	rec := record{
		Version: recordVersion, Ref: "alias/tdes", ID: strings.Repeat("7", 26), Created: "2026-03-04T05:06:07Z",
		Environment: "test", KeyVersion: 1, Fingerprint: k.Fingerprint(r.fingerprints()).String(),
	}
	rec.Block, err = r.master.wrap(k, rec.label())
	must(t, err)
	b, err := writeStrict(rec)
	must(t, err)
	must(t, seal.WriteFile(filepath.Join(dir, rec.ID+keySuffix), b, fileMode))
	if err := r.Reload(); !errors.Is(err, errNoKCV) || errors.Is(err, ErrDamaged) {
		t.Errorf("reload: %v, want %v and no talk of damage", err, errNoKCV)
	}
	if n := len(r.List()); n != 1 {
		t.Errorf("%d keys are open, want the AES key alone", n)
	}
}
