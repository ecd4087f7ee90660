package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

func newVault(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("vault", "A Vault that certifies terminals: prepare it, look at what it is to be told", newVaultSetup(f), newVaultPrint(f))
	f.flags(cmd)
	return cmd
}

// vaultSetup is one call of `latchkey vault setup`.
type vaultSetup struct {
	*folder
	server      vault.Server
	ca          string
	tokenFile   string
	plan        vault.Plan
	dryRun      bool
	newSecretID bool
	within      time.Duration
}

func newVaultSetup(f *folder) *cobra.Command {
	s := &vaultSetup{folder: f}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Prepare a Vault, or an OpenBao, to certify the terminals of a deployment",
		Long: `Setup makes in a running Vault what the registration authority needs, and no more:

  a PKI secrets engine, and in it an issuer. Vault makes its key and never gives it away; the root of
      terminals in DIR/ca/terminals certifies it, so that whoever trusts terminals now goes on to
  a role for terminals of this tenant: their names, 90 days by default and a year at most, no hosts,
      no authorities, nothing that stands in a signing request but the public key
  a policy for the service: sign under that role, revoke, renew its own token. Never sign-verbatim
  AppRole with a role of its own, and a secret-id, which is wrapped: its file holds a token that
      gives the secret-id away once. If the service finds it used, somebody else has the secret-id

What is there and as wanted stays: run it again after a change, or to see with --dry-run what would
change. The policy and the role are shown by latchkey vault print.

It writes what the service reads:

  DIR/vault/chain.pem    the chain of the issuer
  DIR/vault/role-id      of AppRole; not secret
  DIR/vault/secret-id    the wrapping token (mode 0600), where there is no such file, or with
                         --new-secret-id. Start the service within --within, an hour by default

Then DIR/provisiond.yaml gets a section, and the service a new start:

  vault:
    address: https://vault.example:8200

The token in --token-file is that of a person who may write all of the above; it is not kept. The
passphrase opens the key of the root: it is asked for only when an issuer is to be certified. Keep
that key offline afterwards: services never use it.`,
		Example: `  latchkey vault setup --dir ./pos --address https://vault.example:8200 --token-file ./token --dry-run
  latchkey vault setup --dir ./pos --address https://vault.example:8200 --token-file ./token --cidr 10.1.2.0/24`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context()) },
	}
	p := cmd.Flags()
	p.StringVar(&s.server.Address, "address", "", "URL of the Vault; http on this machine only")
	p.StringVar(&s.server.Namespace, "namespace", "", "namespace of Vault Enterprise or OpenBao")
	p.StringVar(&s.ca, "ca", "", "roots of Vault's own certificate (PEM); default: those of this machine")
	p.StringVar(&s.tokenFile, "token-file", "", "file with the token of who sets it up (mode 0600); - for standard input; default: ask")
	p.StringVar(&s.plan.AppRole, "approle", "approle", "mount of the AppRole method")
	p.StringSliceVar(&s.plan.CIDRs, "cidr", nil, "network that the service logs in from, and uses its token from; more with commas")
	p.StringVar(&s.plan.Public, "public-url", "", "how third parties reach Vault: its revocation list and OCSP are named in certificates; default: they are not")
	p.BoolVar(&s.dryRun, "dry-run", false, "change nothing, and say what would be changed")
	p.BoolVar(&s.newSecretID, "new-secret-id", false, "have a new secret-id made and wrapped, although there is a file with one")
	p.DurationVar(&s.within, "within", time.Hour, "how long the wrapping token can be used")
	s.names(cmd)
	required(cmd, "address")
	return cmd
}

// names adds the flags of what things are called in the Vault.
func (s *vaultSetup) names(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.plan.Mount, "mount", vault.DefaultMount, "mount of the PKI engine")
	cmd.Flags().StringVar(&s.plan.Role, "role", vault.DefaultRole, "name of the role, of the policy and of the role of AppRole")
}

func newVaultPrint(f *folder) *cobra.Command {
	s := &vaultSetup{folder: f}
	cmd := &cobra.Command{
		Use:   "print policy|role",
		Short: "Print the policy or the role that setup writes, to look at or to write by other means",
		Example: `  latchkey vault print policy --dir ./pos | vault policy write latchkey-terminals -
  latchkey vault print role --dir ./pos | vault write pki/roles/latchkey-terminals -`,
		Args: arguments("policy|role"),
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := f.config()
			if err != nil {
				return err
			}
			s.plan.Tenant = string(config.Tenant)
			text, err := s.plan.Policy()
			switch {
			case args[0] == "role":
				text, err = s.plan.PKIRole()
			case args[0] != "policy":
				return exit.With(exit.Usage, fmt.Errorf("there is no %q to print", args[0]), "it is policy or role")
			}
			if err != nil {
				return exit.With(exit.Usage, err, "see: latchkey vault print --help")
			}
			_, err = fmt.Fprint(f.c.stdout, text)
			return err
		},
	}
	s.names(cmd)
	return cmd
}

func (s *vaultSetup) run(ctx context.Context) error {
	config, err := s.config()
	if err != nil {
		return err
	}
	s.plan.Tenant = string(config.Tenant)
	if _, err := s.plan.Policy(); err != nil {
		return exit.With(exit.Usage, err, "see: latchkey vault setup --help")
	}
	o, err := s.options()
	if err != nil {
		return err
	}
	defer o.Token.Wipe()
	out, err := vault.Setup(ctx, s.plan, o)
	if err != nil {
		return s.failed(err)
	}
	if !s.dryRun {
		if err := s.write(ctx, o, out); err != nil {
			return err
		}
	}
	rows := make([][]string, len(out.Changes))
	for i, change := range out.Changes {
		rows[i] = []string{change.What, change.Done, change.Note}
	}
	if err := s.c.list(out.Changes, []string{"WHAT", "DONE", "NOTE"}, rows); err != nil {
		return err
	}
	if !s.dryRun {
		s.c.note("next: put this into %s, and start latchkey-provisiond again:\n\n%s", filepath.Join(s.dir, deploy.ProvisiondFile), s.section())
	}
	return nil
}

// section is what the configuration of the service needs.
func (s *vaultSetup) section() string {
	lines := []string{"vault:", "  address: " + s.server.Address}
	for _, member := range []struct{ name, value, usual string }{
		{"namespace", s.server.Namespace, ""}, {"mount", s.plan.Mount, vault.DefaultMount}, {"role", s.plan.Role, vault.DefaultRole},
		{"auth-mount", s.plan.AppRole, "approle"},
	} {
		if member.value != member.usual {
			lines = append(lines, "  "+member.name+": "+member.value)
		}
	}
	if s.ca != "" {
		lines = append(lines, "  ca: vault/ca.pem")
	}
	return strings.Join(lines, "\n")
}

func (s *vaultSetup) options() (vault.SetupOptions, error) {
	o := vault.SetupOptions{Server: s.server, DryRun: s.dryRun, Sign: s.sign}
	if err := s.server.Check(); err != nil {
		return o, exit.With(exit.Usage, err, "as in: --address https://vault.example:8200")
	}
	trust, err := deploy.LoadTrust(s.dir)
	if err != nil {
		return o, err
	}
	o.Roots = trust.Terminals
	outside := tlsconf.OutsideOptions{}
	if s.ca != "" {
		certs, err := deploy.LoadChain(s.ca)
		if err != nil {
			return o, exit.With(exit.Usage, err, "--ca names a file with certificates in PEM")
		}
		outside.Roots = pool(certs)
	}
	if o.Server.TLS, err = tlsconf.Outside(outside); err != nil {
		return o, err
	}
	o.Token, err = s.token()
	return o, err
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, cert := range certs {
		p.AddCert(cert)
	}
	return p
}

const maxToken = 4096 // bytes

func (s *vaultSetup) token() (secret.Bytes, error) {
	if s.tokenFile == "" || s.tokenFile == "-" {
		return s.c.secret(s.tokenFile, "--token-file", "token of Vault")
	}
	t, err := seal.ReadSecret(s.tokenFile, "token", 8, maxToken)
	if err != nil {
		return t, exit.With(exit.Usage, err, "the token stands in a file of mode 0600, in one line")
	}
	return t, nil
}

// sign has the root of terminals certify the issuer in Vault.
func (s *vaultSetup) sign(csr []byte) ([]*x509.Certificate, error) {
	pass, err := s.passphrase()
	if err != nil {
		return nil, err
	}
	defer pass.Wipe()
	dir := filepath.Join(s.dir, "ca", identity.TerminalCA.String())
	chain, err := embedded.CertifyIssuing(dir, pass, csr, embedded.Options{})
	switch {
	case errors.Is(err, seal.ErrPassphrase):
		return nil, exit.With(exit.Verification, err, "the passphrase is not the one the deployment was made with")
	case errors.Is(err, embedded.ErrNoKey):
		return nil, exit.With(exit.NotFound, err, "bring "+embedded.RootKeyFile+" back to "+dir+" for this: the root certifies the issuer in Vault")
	}
	return chain, err
}

func (s *vaultSetup) failed(err error) error {
	_, coded := errors.AsType[*exit.Error](err)
	switch {
	case coded:
		return err
	case errors.Is(err, vault.ErrDenied):
		return exit.With(exit.Refused, err, "the token needs a policy that may write engines, policies and auth methods; what was made until now stays")
	case errors.Is(err, vault.ErrTaken):
		return exit.With(exit.Refused, err, "choose other names with --mount, --role and --approle")
	}
	return exit.With(exit.Unreachable, err, "what was made until now stays, and the next run goes on from there")
}

// write writes what the service reads.
func (s *vaultSetup) write(ctx context.Context, o vault.SetupOptions, out *vault.Prepared) error {
	if err := os.MkdirAll(filepath.Join(s.dir, nodeprovision.VaultFolder), 0o700); err != nil {
		return err
	}
	err := errors.Join(
		seal.WriteFile(filepath.Join(s.dir, nodeprovision.VaultChainFile), pemOf(out.Chain), 0o644),
		seal.WriteFile(filepath.Join(s.dir, nodeprovision.VaultRoleIDFile), []byte(out.RoleID+"\n"), 0o644),
	)
	if err == nil && s.ca != "" {
		var b []byte
		if b, err = os.ReadFile(s.ca); err == nil {
			err = seal.WriteFile(filepath.Join(s.dir, nodeprovision.VaultFolder, "ca.pem"), b, 0o644)
		}
	}
	if err != nil {
		return err
	}
	return s.secretID(ctx, o)
}

// secretID has a secret-id made and wrapped, unless there is a file with one.
func (s *vaultSetup) secretID(ctx context.Context, o vault.SetupOptions) error {
	file := filepath.Join(s.dir, nodeprovision.VaultSecretIDFile)
	if _, err := os.Stat(file); !s.newSecretID && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	token, err := vault.WrapSecretID(ctx, s.plan, o, s.within)
	if err != nil {
		return s.failed(err)
	}
	defer token.Wipe()
	if err := writePassphrase(file, token); err != nil {
		return err
	}
	s.c.note("%s holds a token that gives the secret-id away once, within %v", file, s.within)
	return nil
}
