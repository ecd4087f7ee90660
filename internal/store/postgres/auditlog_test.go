package postgres

import (
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

func auditKey(t testing.TB) (*audit.Signer, *audit.Verifier) {
	t.Helper()
	s, v, err := audit.GenerateKey("latchkey/SHOP/decryptd")
	if err != nil {
		t.Fatal(err)
	}
	return must(audit.NewSigner(s)), must(audit.NewVerifier(v))
}

// TestAuditLog verifies the logs of two services of one database, each by itself, and finds what was changed in one.
func TestAuditLog(t *testing.T) {
	t.Parallel()
	stores, o := replicas(t, 2)
	s, v := auditKey(t)
	var kept [2][][]byte
	for n := range 23 {
		for i, store := range stores {
			if _, err := store.Claim(t.Context(), claimSet(fmt.Sprint(i, n), i, uint32(n)+1)); err != nil {
				t.Fatal(err)
			}
			if n%7 != 3+i {
				continue
			}
			signed := must(store.Checkpoint(t.Context(), s))
			if again, err := store.Checkpoint(t.Context(), s); err != nil || string(again) != string(signed) {
				t.Errorf("a second checkpoint of the same log differs: %v", err)
			}
			kept[i] = append(kept[i], signed)
		}
	}
	verify := func(i int) (audit.Report, error) {
		log := must(OpenAudit(t.Context(), o[i]))
		defer func() { _ = log.Close() }()
		return audit.Verify(t.Context(), log, v, kept[i]...)
	}
	for i := range stores {
		if r, err := verify(i); err != nil || r.Size != 23 || r.Checkpoints != 2*len(kept[i]) {
			t.Errorf("log %d: %+v %v", i, r, err)
		}
	}
	for _, spoil := range []string{
		`UPDATE audit_leaves SET record = set_byte(record, 20, get_byte(record, 20) # 1) WHERE n = 5 AND instance = 'DECRYPT-1'`,
		`UPDATE audit_leaves SET hashes = set_byte(hashes, 31, get_byte(hashes, 31) # 1) WHERE n = 6 AND instance = 'DECRYPT-1'`,
		`DELETE FROM audit_leaves WHERE n = 4 AND instance = 'DECRYPT-1'`,
	} {
		if err := exec(t, o[0], spoil); err != nil {
			t.Fatal(err)
		}
		if _, err := verify(0); !audit.Broken(err) {
			t.Errorf("%s: %v", spoil, err)
		}
	}
	if _, err := verify(1); err != nil {
		t.Errorf("the other log: %v", err)
	}
}

// TestKept refuses a database that does not contain a checkpoint.
func TestKept(t *testing.T) {
	t.Parallel()
	o := inFolder(t, t.TempDir())
	signer, _ := auditKey(t)
	store := mustOpen(t, o)
	var kept [][]byte
	for n := range 9 {
		kept = append(kept, must(store.Checkpoint(t.Context(), signer)))
		if _, err := store.Claim(t.Context(), claimSet(fmt.Sprint(n), 1, uint32(n)+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	opens := func(kept []byte) error {
		o := o
		o.Kept = kept
		s, err := Open(t.Context(), o)
		if err == nil {
			err = s.Close()
		}
		return err
	}
	for size, c := range kept {
		if err := opens(c); err != nil {
			t.Errorf("checkpoint of %d: %v", size, err)
		}
	}
	if err := opens([]byte("nonsense")); !errors.Is(err, audit.ErrCheckpoint) {
		t.Errorf("no checkpoint: %v", err)
	}
	if err := exec(t, o, `DELETE FROM audit_leaves WHERE n >= 5`); err != nil { // an older copy
		t.Fatal(err)
	}
	for size, c := range kept {
		if err := opens(c); (size <= 5) != (err == nil) || size > 5 && !errors.Is(err, ErrBehind) {
			t.Errorf("checkpoint of %d, the copy holds 5: %v", size, err)
		}
	}
	store = mustOpen(t, o)
	for n := range 5 { // it went another way
		if _, err := store.Claim(t.Context(), claimSet(fmt.Sprint("other", n), 2, uint32(n)+1)); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := opens(kept[8]); !errors.Is(err, ErrBehind) {
		t.Errorf("a copy that went another way: %v", err)
	}
}
