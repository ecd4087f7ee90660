package provision

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

func keptIn(dir string) *sealedFile {
	return &sealedFile{
		path: filepath.Join(dir, "id.sealed"), keyPath: filepath.Join(dir, "id.key.sealed"), label: "test", passphrase: nodetest.Passphrase.Clone(),
	}
}

// TestSealedFile keeps a secret over restarts, and loses it to nobody.
func TestSealedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const text = "7a9c-the-secret-id"
	f := keptIn(dir)
	if _, err := f.Load(); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("before: %v, want os.ErrNotExist", err)
	}
	for _, err := range []error{f.Ready(), f.Save(secret.From([]byte("another"))), f.Save(secret.From([]byte(text))), keptIn(dir).Ready()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, again := range []*sealedFile{f, keptIn(dir)} {
		if got, err := again.Load(); err != nil || string(got.Expose()) != text {
			t.Errorf("loaded %d bytes, %v", got.Len(), err)
		}
	}
	for _, name := range []string{f.path, f.keyPath} {
		b, err := os.ReadFile(name)
		info, _ := os.Stat(name)
		if err != nil || strings.Contains(string(b), text) || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v: %q", name, info.Mode(), err, b)
		}
	}
	if said := fmt.Sprintf("%v %+v", f, f); strings.Contains(said, text) || strings.Contains(said, string(nodetest.Passphrase.Expose())) {
		t.Errorf("it prints %s", said)
	}
	other := keptIn(dir)
	other.passphrase = secret.From([]byte("another passphrase"))
	if _, err := other.Load(); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("under another passphrase: %v", err)
	}
	if err := other.Ready(); !errors.Is(err, seal.ErrPassphrase) {
		t.Errorf("ready under another passphrase: %v", err)
	}
	if err := os.Remove(f.keyPath); err != nil {
		t.Fatal(err)
	}
	if _, err := keptIn(dir).Load(); err == nil || errors.Is(err, os.ErrNotExist) { // or a token would be spent for nothing
		t.Errorf("without its key: %v", err)
	}
	f.wipe()
	if err := keptIn(filepath.Join(dir, "nowhere")).Ready(); err == nil {
		t.Error("ready in a folder that is not there")
	}
}

// TestVaultSectionOpens wants what is missing or wrong named. No Vault is asked.
func TestVaultSectionOpens(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	chain := func(kind string) string {
		var text []byte
		for _, name := range []string{"issuing.crt", "root.crt"} {
			b, err := os.ReadFile(filepath.Join(p.dir, "ca", kind, name))
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, b...)
		}
		return write(kind+".pem", string(text))
	}
	good := func() *VaultConfig {
		v := DefaultVault("http://127.0.0.1:1")
		v.Chain, v.RoleIDFile, v.SecretIDFile = chain("terminals"), write("role-id", "0123-4567-89ab\n"), filepath.Join(dir, "secret-id")
		return v
	}
	c.Vault = good()
	if err := Check(t.Context(), c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, tc := range map[string]struct {
		change func(*VaultConfig)
		says   string
	}{
		"no chain":                 {func(v *VaultConfig) { v.Chain = filepath.Join(dir, "nowhere") }, "vault: chain"},
		"the chain of services":    {func(v *VaultConfig) { v.Chain = chain("services") }, "not one that terminals are trusted by"},
		"no role-id":               {func(v *VaultConfig) { v.RoleIDFile = filepath.Join(dir, "nowhere") }, "role-id-file"},
		"two lines in the role-id": {func(v *VaultConfig) { v.RoleIDFile = write("two", "0123-4567\n89ab-cdef\n") }, "role-id-file"},
		"no roots of Vault":        {func(v *VaultConfig) { v.CA = write("ca", "no certificate") }, "vault: ca"},
	} {
		c.Vault = good()
		tc.change(c.Vault)
		if err := Check(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want that it says %q", name, err, tc.says)
		}
	}
}
