package provision

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// The files that `latchkey vault setup` writes below the deployment folder, and that a section vault looks for by default.
const (
	VaultFolder       = "vault"
	VaultChainFile    = "vault/chain.pem"
	VaultRoleIDFile   = "vault/role-id"
	VaultSecretIDFile = "vault/secret-id"
)

// Ways to log in to Vault.
const (
	vaultAppRole     = "approle"
	vaultToken       = "token"
	vaultCertificate = "cert"
)

// VaultConfig is the section vault of a configuration: the terminals are certified by a Vault, and not by the issuer in the
// deployment folder. Paths are relative to the deployment folder.
type VaultConfig struct {
	Address   string `yaml:"address"`   // https URL, or http on this machine; required
	Namespace string `yaml:"namespace"` // of Vault Enterprise or OpenBao; default: the root namespace
	CA        string `yaml:"ca"`        // roots of Vault's own certificate (PEM); default: those of the machine
	Mount     string `yaml:"mount"`     // of the PKI engine; default pki
	Role      string `yaml:"role"`      // of the PKI engine; default latchkey-terminals
	Chain     string `yaml:"chain"`     // chain of the issuer in Vault, the root last (PEM); default vault/chain.pem

	Auth      string `yaml:"auth"`       // how to log in: approle, token or cert; default approle
	AuthMount string `yaml:"auth-mount"` // of the auth method; default: its name
	// AppRole. What a wrapping token gave is kept sealed beside its file, in .sealed and .key.sealed.
	RoleIDFile   string `yaml:"role-id-file"`   // default vault/role-id
	SecretIDFile string `yaml:"secret-id-file"` // mode 0600; default vault/secret-id
	Wrapped      bool   `yaml:"wrapped"`        // the file has a wrapping token, as vault setup writes it; default true
	TokenFile    string `yaml:"token-file"`     // mode 0600; with auth: token
	CertRole     string `yaml:"cert-role"`      // of the cert method, where the service shows its own certificate; with auth: cert

	Timeout    daemon.Duration `yaml:"timeout"`    // of one call; default 2.5s, 100ms to 10s
	Concurrent int             `yaml:"concurrent"` // calls at once; default 8, 1 to 256
}

// complete sets what a section says nothing about, after the text of the file that it is in was read into c.
func (c *VaultConfig) complete(file []byte) error {
	var members map[string]any
	if err := yaml.Unmarshal(file, &members); err != nil {
		return err
	}
	section, named := members["vault"]
	if !named {
		return nil
	}
	if c == nil {
		return errors.New("vault: want a mapping with address")
	}
	said, _ := section.(map[string]any)
	usual := DefaultVault(c.Address)
	for name, set := range map[string]func(){
		"mount":          func() { c.Mount = usual.Mount },
		"role":           func() { c.Role = usual.Role },
		"chain":          func() { c.Chain = usual.Chain },
		"role-id-file":   func() { c.RoleIDFile = usual.RoleIDFile },
		"secret-id-file": func() { c.SecretIDFile = usual.SecretIDFile },
		"wrapped":        func() { c.Wrapped = usual.Wrapped },
		"timeout":        func() { c.Timeout = usual.Timeout },
		"concurrent":     func() { c.Concurrent = usual.Concurrent },
	} {
		if _, named := said[name]; !named {
			set()
		}
	}
	if _, named := said["auth"]; !named {
		c.Auth = usual.Auth
	}
	if _, named := said["auth-mount"]; !named {
		c.AuthMount = c.Auth
	}
	return nil
}

// DefaultVault returns the section of a file that says only where Vault is.
func DefaultVault(address string) *VaultConfig {
	return &VaultConfig{
		Address: address, Mount: vault.DefaultMount, Role: vault.DefaultRole, Chain: VaultChainFile,
		Auth: vaultAppRole, AuthMount: vaultAppRole, RoleIDFile: VaultRoleIDFile, SecretIDFile: VaultSecretIDFile, Wrapped: true,
		Timeout: daemon.Duration(2500 * time.Millisecond), Concurrent: 8,
	}
}

// check reports the first member that cannot be right. It touches no file; nil is right.
func (c *VaultConfig) check(issuerKey string) error {
	if c == nil {
		return nil
	}
	if issuerKey != "" {
		return errors.New("issuer-key: Vault certifies the terminals, and has the key: leave out one of the two")
	}
	err := daemon.First(
		vault.Server{Address: c.Address, Namespace: c.Namespace}.Check(),
		vault.CheckPath("mount", c.Mount), vault.CheckName("role", c.Role), vault.CheckPath("auth-mount", c.AuthMount),
		daemon.CheckPaths(daemon.Member{Name: "chain", Value: c.Chain}),
		daemon.CheckDuration("timeout", c.Timeout, 100*time.Millisecond, 10*time.Second),
		c.checkAuth(),
	)
	if err == nil && (c.Concurrent < 1 || c.Concurrent > 256) {
		err = errors.New("concurrent: want 1 to 256")
	}
	if err != nil {
		return errors.New("vault: " + strings.TrimPrefix(err.Error(), "vault: "))
	}
	return nil
}

func (c *VaultConfig) checkAuth() error {
	switch c.Auth {
	case vaultAppRole:
		return daemon.CheckPaths(
			daemon.Member{Name: "role-id-file", Value: c.RoleIDFile}, daemon.Member{Name: "secret-id-file", Value: c.SecretIDFile},
		)
	case vaultToken:
		return daemon.CheckPaths(daemon.Member{Name: "token-file", Value: c.TokenFile})
	case vaultCertificate:
		return vault.CheckName("cert-role", c.CertRole)
	}
	return fmt.Errorf("auth: %q, want approle, token or cert", c.Auth)
}

// terminalsIssuer is what certifies terminals, in the deployment folder or elsewhere.
type terminalsIssuer interface {
	ca.Issuer
	Close() error
}

// openVault makes the issuer of a section vault. It does not ask Vault for anything: the registry is served while that is away.
func (n *node) openVault(passphrase secret.Bytes) (*vault.Issuer, error) {
	c := n.config.Vault
	chain, err := deploy.LoadChain(n.path(c.Chain))
	if err != nil {
		return nil, fmt.Errorf("chain: %w", err)
	}
	if err := n.trusted(chain); err != nil {
		return nil, err
	}
	server := vault.Server{Address: c.Address, Namespace: c.Namespace}
	outside := tlsconf.OutsideOptions{}
	if c.CA != "" {
		roots, err := deploy.LoadChain(n.path(c.CA))
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		outside.Roots = x509.NewCertPool()
		for _, root := range roots {
			outside.Roots.AddCert(root)
		}
	}
	if c.Auth == vaultCertificate {
		outside.Credential = n.credential
	}
	if server.TLS, err = tlsconf.Outside(outside); err != nil {
		return nil, err
	}
	login, err := n.vaultLogin(passphrase)
	if err != nil {
		return nil, err
	}
	calls := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "latchkey_vault_call_seconds", Help: "Calls to Vault by what they ask for, ok or failed.",
		Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2.5, 5, 10},
	}, []string{"call", "result"})
	i, err := vault.New(vault.Options{
		Server: server, Mount: c.Mount, Role: c.Role, Chain: chain, Login: login, Timeout: time.Duration(c.Timeout),
		Concurrent: c.Concurrent, Logger: n.log, Observe: func(call string, took time.Duration, err error) {
			result := "ok"
			if err != nil {
				result = "failed"
			}
			calls.WithLabelValues(call, result).Observe(took.Seconds())
		},
	})
	if err != nil {
		return nil, err
	}
	return i, n.watchVault(i, calls)
}

// watchVault shows how Vault is.
func (n *node) watchVault(i *vault.Issuer, calls prometheus.Collector) error {
	resting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "latchkey_vault_resting", Help: "1 while nobody asks Vault, because it has failed several times in a row.",
	}, func() float64 {
		if i.Resting() {
			return 1
		}
		return 0
	})
	refused := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "latchkey_vault_refused_certificates", Help: "Certificates that Vault signed otherwise than asked for, and has not revoked yet.",
	}, func() float64 { return float64(i.Refused()) })
	for _, c := range []prometheus.Collector{calls, resting, refused} {
		if err := n.metrics.Registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// trusted holds the root of a chain to the roots of terminals: listeners would let nobody in that another root is above.
func (n *node) trusted(chain []*x509.Certificate) error {
	root := chain[len(chain)-1]
	with := n.trust.Terminals.Clone()
	with.AddCert(root)
	if !with.Equal(n.trust.Terminals) {
		return fmt.Errorf("chain: its root %q is not one that terminals are trusted by", root.Subject.CommonName)
	}
	return nil
}

func (n *node) vaultLogin(passphrase secret.Bytes) (vault.Login, error) {
	c := n.config.Vault
	switch c.Auth {
	case vaultToken:
		return &vault.TokenFile{File: n.path(c.TokenFile)}, nil
	case vaultCertificate:
		return &vault.Certificate{Mount: c.AuthMount, Name: c.CertRole}, nil
	}
	id, err := os.ReadFile(n.path(c.RoleIDFile))
	if err != nil {
		return nil, fmt.Errorf("role-id-file: %w", err)
	}
	login := &vault.AppRole{
		Mount: c.AuthMount, RoleID: strings.TrimSuffix(string(id), "\n"), SecretIDFile: n.path(c.SecretIDFile), Wrapped: c.Wrapped,
	}
	if err := vault.CheckRoleID(login.RoleID); err != nil {
		return nil, fmt.Errorf("role-id-file: %w", err)
	}
	if c.Wrapped {
		file := n.path(c.SecretIDFile)
		n.kept = &sealedFile{
			path: file + ".sealed", keyPath: file + ".key.sealed", label: "latchkey vault secret-id", passphrase: passphrase.Clone(),
		}
		login.Keep = n.kept
	}
	return login, nil
}

// sealedFile keeps a secret in a file, under a random key which is in another one, under the passphrase of the deployment: what a
// passphrase costs is spent before there is a secret to keep. It is safe for concurrent use.
type sealedFile struct {
	path, keyPath string
	label         string
	passphrase    secret.Bytes

	mu  sync.Mutex
	key secret.Bytes
}

// quick is what a key costs that nobody can guess.
var quick = seal.Params{Memory: 8, Time: 1, Parallelism: 1}

// Ready implements vault.Keeper.
func (f *sealedFile) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.loadKey()
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key := secret.From([]byte(rand.Text() + rand.Text()))
	sealed, err := seal.Seal(f.passphrase, f.label+" key", key.Expose())
	if err == nil {
		err = seal.WriteFile(f.keyPath, sealed, 0o600)
	}
	if err != nil {
		key.Wipe()
		return err
	}
	f.key = key
	return nil
}

// loadKey opens the key, once.
func (f *sealedFile) loadKey() error {
	if !f.key.IsZero() {
		return nil
	}
	b, err := os.ReadFile(f.keyPath)
	if err != nil {
		return err
	}
	f.key, err = seal.Open(f.passphrase, f.label+" key", b)
	return err
}

// Load implements vault.Keeper.
func (f *sealedFile) Load() (secret.Bytes, error) {
	b, err := os.ReadFile(f.path)
	if err != nil {
		return secret.Bytes{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.loadKey(); err != nil {
		return secret.Bytes{}, fmt.Errorf("%s: %v", f.keyPath, err) // not that nothing was kept
	}
	return seal.Open(f.key, f.label, b)
}

// Save implements vault.Keeper. Call Ready before.
func (f *sealedFile) Save(s secret.Bytes) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := seal.SealWith(quick, f.key, f.label, s.Expose())
	if err != nil {
		return err
	}
	return seal.WriteFile(f.path, b, 0o600)
}

func (f *sealedFile) wipe() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passphrase.Wipe()
	f.key.Wipe()
}
