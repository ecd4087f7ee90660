package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// demoVault is the Vault of the demonstration: in development mode, which keeps everything in memory and is not for
// anything else.
type demoVault struct {
	address string
	token   secret.Bytes // of root
	audit   string       // file of its audit log
	chain   []*x509.Certificate
	changes []vault.Change
	calls   vaultCalls

	command *exec.Cmd
	ended   chan error
}

// vaultCalls is what the audit log of Vault says.
type vaultCalls struct {
	Version string `json:"version"`
	Issuer  string `json:"issuer"`
	Signed  int    `json:"signed"`
	Revoked int    `json:"revoked"`
}

// findVault returns the program to run.
func findVault(program string) (string, error) {
	if program != "" {
		if _, err := os.Stat(program); err != nil {
			return "", exit.With(exit.NotFound, err, "--vault-program names the program of Vault or OpenBao")
		}
		return filepath.Abs(program)
	}
	for _, name := range []string{"vault", "bao"} {
		if found, err := exec.LookPath(name); err == nil {
			return filepath.Abs(found)
		}
	}
	return "", exit.With(exit.NotFound, errors.New("there is no program vault or bao"), "name one with --vault-program; in the sources, make demo-vault builds one")
}

// openDemoVault starts a Vault, and prepares it for the deployment as `latchkey vault setup` does.
func openDemoVault(ctx context.Context, root, dir, program string, passphrase secret.Bytes) (_ *demoVault, err error) {
	folder := filepath.Join(root, "vault")
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	v := &demoVault{audit: filepath.Join(folder, "audit.log")}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if err := v.start(ctx, program, folder); err != nil {
		return nil, err
	}
	if err := v.ask(ctx, http.MethodPut, "sys/audit/demo", map[string]any{"type": "file", "options": map[string]string{"file_path": v.audit}}, nil); err != nil {
		return nil, err
	}
	return v, v.prepare(ctx, dir, passphrase)
}

// start starts the program, and waits until it answers. It says its root token itself: no flag and no variable has it.
func (v *demoVault) start(ctx context.Context, program, folder string) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	listen := ln.Addr().String()
	if err := ln.Close(); err != nil {
		return err
	}
	v.address = "http://" + listen
	log, err := os.OpenFile(filepath.Join(folder, "vault.log"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	v.command = exec.Command(program, "server", "-dev", "-dev-no-store-token", "-dev-listen-address="+listen)
	v.command.Stdout, v.command.Stderr = log, log
	v.command.Env = []string{"HOME=" + folder, "PATH=" + os.Getenv("PATH")}
	if err := v.command.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	v.ended = make(chan error, 1)
	go func() { v.ended <- errors.Join(v.command.Wait(), log.Close()) }()
	return v.await(ctx, log.Name())
}

var rootToken = regexp.MustCompile(`(?m)^Root Token: (\S+)$`)

// await waits until Vault has said its token, and answers.
func (v *demoVault) await(ctx context.Context, log string) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	for {
		text, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		if said := rootToken.FindSubmatch(text); said != nil && v.token.IsZero() {
			v.token = secret.From(said[1])
		}
		secret.Wipe(text)
		if !v.token.IsZero() {
			var health struct{ Version string }
			if err := v.ask(ctx, http.MethodGet, "sys/health", nil, &health); err == nil {
				v.calls.Version = health.Version
				return nil
			}
		}
		select {
		case err := <-v.ended:
			v.ended <- nil // for close
			return errors.Join(errors.New("vault ended at its start; see "+log), err)
		case <-ctx.Done():
			return errors.New("vault does not answer; see " + log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ask has root ask Vault for something that no part of latchkey does: to log what happens.
func (v *demoVault) ask(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, v.address+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", string(v.token.Expose()))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("vault: %s: status %d: %s", path, resp.StatusCode, text)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}

// prepare sets the Vault up, and writes what the registration authority reads.
func (v *demoVault) prepare(ctx context.Context, dir string, passphrase secret.Bytes) error {
	trust, err := deploy.LoadTrust(dir)
	if err != nil {
		return err
	}
	plan := vault.Plan{Tenant: demoTenant}
	o := vault.SetupOptions{
		Server: vault.Server{Address: v.address}, Token: v.token, Roots: trust.Terminals,
		Sign: func(csr []byte) ([]*x509.Certificate, error) {
			return embedded.CertifyIssuing(filepath.Join(dir, "ca", identity.TerminalCA.String()), passphrase, csr, embedded.Options{})
		},
	}
	made, err := vault.Setup(ctx, plan, o)
	if err != nil {
		return err
	}
	v.chain, v.changes, v.calls.Issuer = made.Chain, made.Changes, made.Chain[0].Subject.CommonName
	wrapping, err := vault.WrapSecretID(ctx, plan, o, time.Minute)
	if err != nil {
		return err
	}
	defer wrapping.Wipe()
	if err := os.Mkdir(filepath.Join(dir, nodeprovision.VaultFolder), 0o700); err != nil {
		return err
	}
	return errors.Join(
		seal.WriteFile(filepath.Join(dir, nodeprovision.VaultChainFile), pemOf(made.Chain), 0o644),
		seal.WriteFile(filepath.Join(dir, nodeprovision.VaultRoleIDFile), []byte(made.RoleID+"\n"), 0o644),
		writePassphrase(filepath.Join(dir, nodeprovision.VaultSecretIDFile), wrapping),
	)
}

// pemOf writes certificates one behind the other.
func pemOf(certs []*x509.Certificate) (out []byte) {
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}

// close ends the program.
func (v *demoVault) close() error {
	v.token.Wipe()
	if v.command == nil || v.command.Process == nil {
		return nil
	}
	err := v.command.Process.Kill() // it keeps nothing
	<-v.ended                       // killed, as it was to be
	v.command = nil                 // whoever failed may close it once more
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// showVault tells what was made in Vault.
func (s *story) showVault() {
	s.out.line("Vault %s in development mode at %s, prepared as latchkey vault setup does:", s.vault.calls.Version, s.vault.address)
	var rows [][]string
	for _, change := range s.vault.changes {
		rows = append(rows, []string{"  " + change.What, change.Done, change.Note})
	}
	s.out.table(rows...)
}

// vaultRecord is what is looked at in a line of the audit log of Vault.
type vaultRecord struct {
	Type    string
	Error   string
	Request struct {
		Path      string
		Operation string
		Data      struct {
			CommonName   string `json:"common_name"`
			SerialNumber string `json:"serial_number"`
		}
	}
	Response struct {
		Data struct {
			SerialNumber string `json:"serial_number"`
		}
	}
}

// vaultAudit holds the registry against the audit log of Vault: every certificate of a terminal was signed there, under the
// one role, and verifies under the issuer whose key is there.
func (s *story) vaultAudit(ctx context.Context) error {
	signed, revoked, err := s.vault.readAudit()
	if err != nil {
		return err
	}
	all, err := s.admin.Certificates(ctx)
	if err != nil {
		return err
	}
	terminals := 0
	for _, cert := range all {
		if cert.Role != identity.Terminal.String() {
			continue
		}
		terminals++
		if signed[cert.Serial] != cert.Terminal {
			return fmt.Errorf("the audit log of Vault does not have certificate %s of %s, but %q", cert.Serial, cert.Terminal, signed[cert.Serial])
		}
	}
	if terminals == 0 {
		return errors.New("the registry has no certificate")
	}
	for _, t := range s.tills {
		leaf, err := s.vault.certificate(ctx, s.callers.peer(string(t.name)).serial)
		if err != nil {
			return fmt.Errorf("%s: the certificate that the acquirer's host saw: %w", t.name, err)
		}
		s.out.line("%s: the acquirer's host saw certificate %s, signed by", t.name, identity.Serial(leaf))
		s.out.line("   %q, whose key is in Vault, below", leaf.Issuer.CommonName)
		s.out.line("   %q, the root that terminals are trusted by", s.vault.chain[len(s.vault.chain)-1].Subject.CommonName)
	}
	s.vault.calls.Signed, s.vault.calls.Revoked = len(signed), revoked
	s.out.held("Vault's own audit log has %d signatures at %s/sign/%s and %d revocations; all %d certificates of terminals are among them",
		len(signed), vault.DefaultMount, vault.DefaultRole, revoked, terminals)
	return nil
}

// certificate asks Vault for one that it has signed, and verifies it up to the root.
func (v *demoVault) certificate(ctx context.Context, serial string) (*x509.Certificate, error) {
	var answer struct{ Data struct{ Certificate string } }
	if err := v.ask(ctx, http.MethodGet, vault.DefaultMount+"/cert/"+serialPairs.ReplaceAllString(serial, "$0-"), nil, &answer); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(answer.Data.Certificate))
	if block == nil {
		return nil, errors.New("vault: it gives no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	if identity.Serial(leaf) != serial {
		return nil, fmt.Errorf("vault: it gives another certificate, %s", identity.Serial(leaf))
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: pool(v.chain[len(v.chain)-1:]), Intermediates: pool(v.chain[:1]), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		CertificatePolicies: identity.Terminal.Policies(),
	})
	return leaf, err
}

// serialPairs finds the bytes of a serial number but the last: Vault wants a hyphen behind each.
var serialPairs = regexp.MustCompile(`..\B`)

// readAudit returns which serial numbers Vault has signed, with the names, and how many it has revoked. Nothing else may have
// been signed.
func (v *demoVault) readAudit() (signed map[string]string, revoked int, err error) {
	f, err := os.Open(v.audit)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	signed = make(map[string]string)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r vaultRecord
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, 0, err
		}
		if r.Type != "response" || r.Error != "" {
			continue
		}
		switch path := r.Request.Path; {
		case path == vault.DefaultMount+"/sign/"+vault.DefaultRole:
			signed[strings.ReplaceAll(r.Response.Data.SerialNumber, ":", "")] = r.Request.Data.CommonName
		case strings.Contains(path, "/sign"), strings.Contains(path, "/issue/"):
			return nil, 0, fmt.Errorf("something was signed at %s", path)
		case path == vault.DefaultMount+"/revoke":
			revoked++
		}
	}
	return signed, revoked, lines.Err()
}
