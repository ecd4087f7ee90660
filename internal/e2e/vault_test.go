package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// vaultCommand is `latchkey vault setup` for a deployment and a Vault, under names that nobody else uses there.
type vaultCommand struct {
	server      *vaulttest.Server
	dir         string
	mount, role string
	approle     string
	args        []string
}

func newVaultCommand(t *testing.T, s *vaulttest.Server, dir string) *vaultCommand {
	t.Helper()
	v := &vaultCommand{server: s, dir: dir, mount: s.Name("pki"), role: s.Name("terminals"), approle: s.Name("approle")}
	token := filepath.Join(t.TempDir(), "token")
	check(t, os.WriteFile(token, []byte(s.Token+"\n"), 0o600))
	v.args = []string{
		"vault", "setup", "--dir", dir, "--passphrase-file", filepath.Join(dir, "passphrase"), "--address", s.Address, "--token-file", token,
		"--mount", v.mount, "--role", v.role, "--approle", v.approle,
	}
	return v
}

// run runs it with further arguments, and wants an exit code.
func (v *vaultCommand) run(t *testing.T, code int, more ...string) (out, errs string) {
	t.Helper()
	out, errs, got := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), append(v.args, more...)...)
	if got != code {
		t.Fatalf("vault setup %v ends with %d, want %d\n%s%s", more, got, code, out, errs)
	}
	return out, errs
}

// onVault prepares a Vault for the authority, and has its configuration say so.
func (a *authority) onVault(t *testing.T, s *vaulttest.Server) *vaultCommand {
	t.Helper()
	v := newVaultCommand(t, s, a.dir)
	v.run(t, 0)
	config := filepath.Join(a.dir, deploy.ProvisiondFile)
	text := read(t, config) + fmt.Sprintf("\nvault:\n  address: %s\n  mount: %s\n  role: %s\n  auth-mount: %s\n", s.Address, v.mount, v.role, v.approle)
	check(t, os.WriteFile(config, []byte(text), 0o600))
	return v
}

// TestVaultSetup runs the command as somebody would: to look, to make, again, and after somebody has changed something.
func TestVaultSetup(t *testing.T) {
	server := vaulttest.New(t)
	a, d := emptyAuthority(t, keyset.Test)
	check(t, d.Close())
	v := newVaultCommand(t, server, a.dir)

	out, _ := v.run(t, 0, "--dry-run")
	if n := strings.Count(out, "would make"); n != 8 || strings.Contains(out, "  made") {
		t.Errorf("a dry run would make %d things, want 8\n%s", n, out)
	}
	if _, err := server.Do(t.Context(), "GET", v.mount+"/roles/"+v.role, nil); err == nil {
		t.Error("a dry run has made something")
	}
	if _, err := os.Stat(filepath.Join(a.dir, "vault")); err == nil {
		t.Error("a dry run has written something")
	}

	out, errs := v.run(t, 0)
	if !strings.Contains(out, "made") || !strings.Contains(errs, "vault:\n  address: "+server.Address) {
		t.Errorf("made\n%s%s", out, errs)
	}
	files := map[string]string{}
	for _, name := range []string{"chain.pem", "role-id", "secret-id"} {
		files[name] = read(t, filepath.Join(a.dir, "vault", name))
	}
	wrapping := strings.TrimSpace(files["secret-id"])
	info, err := os.Stat(filepath.Join(a.dir, "vault", "secret-id"))
	check(t, err)
	if info.Mode().Perm() != 0o600 || strings.Contains(out+errs, wrapping) || strings.Contains(out+errs, server.Token) {
		t.Errorf("secret-id has mode %v, or a token is printed\n%s%s", info.Mode(), out, errs)
	}

	out, _ = v.run(t, 0)
	if strings.Contains(out, "made") || strings.Contains(out, "changed") {
		t.Errorf("the second time something changes\n%s", out)
	}
	for name, before := range files {
		if now := read(t, filepath.Join(a.dir, "vault", name)); now != before {
			t.Errorf("the second time %s is another\n%s", name, now)
		}
	}
	v.run(t, 0, "--new-secret-id")
	if now := read(t, filepath.Join(a.dir, "vault", "secret-id")); now == files["secret-id"] {
		t.Error("--new-secret-id gives the old one")
	}

	server.Must("POST", v.mount+"/roles/"+v.role, map[string]any{"allow_any_name": true, "use_csr_sans": true})
	out, _ = v.run(t, 0, "--dry-run")
	if !regexp.MustCompile(`(?m)^role ` + v.mount + `/roles/` + v.role + ` +would change +.*\ballow_any_name\b.*\buse_csr_sans\b`).MatchString(out) {
		t.Errorf("a changed role is not named\n%s", out)
	}
	v.run(t, 0)
	if role := server.Must("GET", v.mount+"/roles/"+v.role, nil); role["allow_any_name"] != false || role["use_csr_sans"] != false {
		t.Errorf("the role is not brought back: %v", role)
	}
}

// TestVaultSetupRefuses wants every error to say what to do, and to change nothing.
func TestVaultSetupRefuses(t *testing.T) {
	server := vaulttest.New(t)
	a, d := emptyAuthority(t, keyset.Test)
	check(t, d.Close())
	v := newVaultCommand(t, server, a.dir)
	bad := filepath.Join(t.TempDir(), "bad")
	check(t, os.WriteFile(bad, []byte("no-token-of-anybody\n"), 0o600))
	open := filepath.Join(t.TempDir(), "open")
	check(t, os.WriteFile(open, []byte(server.Token+"\n"), 0o644))
	kv := server.Name("kv")
	server.Must("POST", "sys/mounts/"+kv, map[string]any{"type": "kv"})
	others := server.Name("others")
	server.Must("POST", "sys/mounts/"+others, map[string]any{"type": "pki"})
	server.Must("POST", others+"/root/generate/internal", map[string]any{"common_name": "somebody else", "key_type": "ec"})
	for _, tc := range []struct {
		code int
		says string
		args []string
	}{
		{4, "permission denied", []string{"--token-file", bad}},
		{2, "0600", []string{"--token-file", open}},
		{2, "tokens travel in the clear", []string{"--address", "http://vault.example:8200"}},
		{2, "https://HOST:PORT", []string{"--address", "vault.example"}},
		{5, "refused", []string{"--address", "http://127.0.0.1:1"}},
		{4, "want pki", []string{"--mount", kv}},
		{4, "take another mount", []string{"--mount", others}},
		{2, `mount "a b"`, []string{"--mount", "a b"}},
		{3, "latchkey init", []string{"--dir", t.TempDir()}},
		{2, "--ca", []string{"--ca", bad}},
		{6, "passphrase", []string{"--passphrase-file", wrongPassphrase(t)}},
	} {
		out, errs := v.run(t, tc.code, tc.args...)
		if !strings.Contains(errs, tc.says) || !strings.Contains(errs, "next: ") {
			t.Errorf("%v does not say %q\n%s%s", tc.args, tc.says, out, errs)
		}
	}
	check(t, os.Remove(filepath.Join(a.dir, "ca", "terminals", "root.key.sealed")))
	if _, errs := v.run(t, 3); !strings.Contains(errs, "root.key.sealed") {
		t.Errorf("without the key of the root: %s", errs)
	}
	if _, err := os.Stat(filepath.Join(a.dir, "vault")); err == nil {
		t.Error("a refusal has written something")
	}
}

func wrongPassphrase(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wrong")
	check(t, os.WriteFile(file, []byte("not the passphrase of it\n"), 0o600))
	return file
}

// TestVaultPage runs the scripts of docs/vault.md one after the other in one shell, on free ports.
func TestVaultPage(t *testing.T) {
	for _, program := range []string{"bash", "curl"} {
		testvec.Program(t, program)
	}
	vault := vaulttest.Program(t)
	page, err := os.ReadFile("../../docs/vault.md")
	check(t, err)
	p := &ports{t: t, own: make(map[string]string)}
	t.Cleanup(p.release)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(p.in(string(page)), -1)
	if len(blocks) != 3 {
		t.Fatalf("docs/vault.md has %d scripts, want 3", len(blocks))
	}
	path := t.TempDir()
	check(t, os.Symlink(vault, filepath.Join(path, "vault")))
	s := newShell(t, p.in(`export PATH=`+path+`:$PATH
umask 077
echo `+passphraseText+` > pass.txt
latchkey init pos --tenant SHOP-1 --passphrase-file pass.txt
cp pass.txt pos/passphrase
`))
	s.run(t, "the deployment", "true", []string{`tenant +SHOP-1`})
	p.inFiles(filepath.Join(s.dir, "pos", "*d.yaml"), 3)
	p.release()
	s.run(t, "a Vault", blocks[0][1], nil)
	s.run(t, "setting it up", blocks[1][1], []string{
		`(?m)^secrets engine pki +would make`, `(?m)^issuer in pki +made`, `(?m)^policy latchkey-terminals +made`, `path "pki/sign/latchkey-terminals" \{`,
	})
	s.run(t, "the service", blocks[2][1], []string{`"issuer":"ok"`})
	if log := s.log.String(); !strings.Contains(log, "logged in to Vault") {
		t.Errorf("the service does not log in\n%s", log)
	}
}
