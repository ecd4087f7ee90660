package keydist

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Addrs are the addresses that a running host listens on.
type Addrs struct {
	Service string // for the registration authority, HTTPS
	Admin   string // for operators, plain HTTP
}

// Check opens everything that Run needs and closes it again: files, keys, key sets, database, certificates. It listens on
// nothing.
func Check(ctx context.Context, c Config, log *slog.Logger) error {
	n, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	return n.close()
}

// Run serves until ctx ends, and then lets requests under way finish. It calls ready, if not nil, once both listeners
// are open. It returns nil after an orderly end.
func Run(ctx context.Context, c Config, log *slog.Logger, ready func(Addrs)) (err error) {
	n, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	service := &daemon.Door{Name: "listen", Address: c.Listen, Options: serve.Options{
		Handler: serve.Wrap(keydist.Handler(n.host), log, n.metrics.Traffic), TLS: n.tls, Logger: log,
	}}
	admin := daemon.AdminDoor(c.Admin, n.readiness, n.metrics.Registry, log)
	doors := daemon.Doors{service, admin}
	opened := func() {
		if ready != nil {
			ready(Addrs{Service: service.Addr(), Admin: admin.Addr()})
		}
	}
	loops := []func(context.Context) error{n.follower.Run}
	if n.token != nil {
		loops = append(loops, n.token.Run)
	}
	return doors.Run(ctx, n.checkpoints, n.readiness, opened, loops...)
}

// node is everything that runs.
type node struct {
	config      Config
	environment keyset.Environment
	log         *slog.Logger
	metrics     *metrics
	trust       tlsconf.Trust
	tls         *tls.Config
	signer      crypto.Signer
	chain       []*x509.Certificate // of the signer
	issuer      *embedded.Issuer
	token       *token.Token  // nil when keys are those of the ring
	ring        *keyring.Ring // nil when they are those of the token
	keys        holder
	db          store
	checkpoints *daemon.Checkpoints
	catalog     *deploy.Catalog
	attested    *deploy.Attested
	revision    uint64 // of the makers that the log was told about
	follower    *daemon.Follower
	host        *keydist.Host
	readiness   *serve.Readiness
}

// holder is the keyring or the token.
type holder struct {
	name   string                  // for errors
	engine engine.Engine           // describes keys, and checks them
	list   func() []engine.KeyInfo // what is public about every key
	reload func() error
	blocks remote.BlockMaker
}

func open(ctx context.Context, c Config, log *slog.Logger) (_ *node, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n := &node{config: c, log: log}
	if n.environment, err = keyset.ParseEnvironment(c.Environment); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	passphrase, err := seal.ReadPassphrase(n.path(c.PassphraseFile))
	if err != nil {
		return nil, fmt.Errorf("passphrase-file: %w", err)
	}
	defer passphrase.Wipe()
	for _, step := range []func(context.Context, secret.Bytes) error{
		n.openMetrics, n.openToken, n.openTLS, n.openSigner, n.openIssuer, n.openKeys, n.openAttested, n.openCatalog, n.openStore, n.openHost,
	} {
		if err := step(ctx, passphrase); err != nil {
			return nil, err
		}
	}
	if err := n.host.Check(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *node) path(p string) string { return daemon.Path(n.config.Folder, p) }

func (n *node) openMetrics(context.Context, secret.Bytes) (err error) {
	n.metrics, err = newMetrics()
	return err
}

// openToken logs in to the token of the configuration, if there is one.
func (n *node) openToken(ctx context.Context, _ secret.Bytes) error {
	h := n.config.HSM
	if h == nil {
		return nil
	}
	t, err := token.Open(ctx, h, token.Distribution, n.path(h.PINFile), n.log)
	if err != nil {
		return err
	}
	n.token = t
	if err := t.Report(ctx, n.log); err != nil {
		return fmt.Errorf("hsm: %w", err)
	}
	return t.Watch(n.metrics.Registry)
}

// openTLS lets the registration authority in, and nobody else.
func (n *node) openTLS(ctx context.Context, passphrase secret.Bytes) error {
	key, err := n.token.Key(ctx, "key", n.config.Key, n.path, passphrase)
	if err != nil {
		return err
	}
	credential, err := daemon.OpenCredential(n.path(n.config.Certificate), key, n.config.Tenant, identity.KDH)
	if err != nil {
		return err
	}
	if n.trust, err = deploy.LoadTrust(n.config.Folder); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	n.tls, err = tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential, Trust: n.trust, Accept: []identity.Role{identity.RA},
		Gate: tlsconf.OpenGate(), // services have no feed of revocations yet
	})
	return err
}

func (n *node) openSigner(ctx context.Context, passphrase secret.Bytes) (err error) {
	key, err := n.token.Key(ctx, "signer-key", n.config.SignerKey, n.path, passphrase)
	if err != nil {
		return err
	}
	n.signer, n.chain, err = daemon.OpenSigner(n.path(n.config.SignerCertificate), key)
	return err
}

func (n *node) openIssuer(ctx context.Context, passphrase secret.Bytes) (err error) {
	if n.issuer, err = n.token.Issuer(ctx, n.path(n.config.Issuer), n.config.IssuerKey, passphrase, embedded.Options{}); err != nil {
		return err
	}
	if n.issuer.Kind() != identity.KeyDistCA {
		return fmt.Errorf("issuer: it is the authority of %v, want %v", n.issuer.Kind(), identity.KeyDistCA)
	}
	return nil
}

func (n *node) openKeys(ctx context.Context, passphrase secret.Bytes) (err error) {
	if n.token != nil {
		n.keys = holder{
			name: "token", engine: n.token.Engine(), list: n.token.List, reload: func() error { return nil },
			blocks: remote.InHost(n.token.Distribution().InitialKey),
		}
	} else {
		if n.ring, err = keyring.Open(n.path(n.config.Keyring), passphrase); err != nil {
			return fmt.Errorf("keyring: %w", err)
		}
		n.keys = holder{
			name: "keyring", engine: n.ring.Engine(), list: n.ring.List, reload: n.ring.Reload, blocks: remote.InHost(n.ring.InitialKey),
		}
	}
	key, err := n.token.Key(ctx, "checkpoint-key", n.config.CheckpointKey, n.path, passphrase)
	if err != nil {
		return err
	}
	n.checkpoints, err = daemon.OpenCheckpoints(key, deploy.CheckpointName(keyset.TenantID(n.config.Tenant), "keyd"), n.path(n.config.CheckpointFile),
		n.config.CheckpointEvery, n.log, n.metrics.Checkpoints)
	return err
}

func (n *node) openAttested(context.Context, secret.Bytes) (err error) {
	n.attested, err = deploy.NewAttested(deploy.AttestedOptions{
		Dir: n.config.Folder, Folder: n.path(n.config.Attested), Tenant: keyset.TenantID(n.config.Tenant), Environment: n.environment,
	})
	if err != nil {
		return fmt.Errorf("attested: %w", err)
	}
	return nil
}

func (n *node) openCatalog(context.Context, secret.Bytes) (err error) {
	n.catalog, err = deploy.NewCatalog(deploy.CatalogOptions{
		Dir: n.config.Folder, Tenant: keyset.TenantID(n.config.Tenant), Environment: n.environment, Keys: n.keys.list, Holder: n.keys.name,
	})
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	describe := func() {
		n.metrics.describe(n.catalog.KeySets(), n.keys.list(), n.keys.blocks.Exposure())
		n.describeMakers()
	}
	describe()
	n.follower = &daemon.Follower{Told: n.config.Reload, Logger: n.log, Count: n.metrics.Reloads, Reload: func() error {
		defer describe()
		return errors.Join(n.keys.reload(), n.catalog.Reload(), n.attested.Reload())
	}}
	return nil
}

// openStore makes the database at the first start only: where there is a checkpoint there was one, and an empty one in its
// place would give out every key id again.
func (n *node) openStore(ctx context.Context, _ secret.Bytes) error {
	kept, err := daemon.LastCheckpoint(n.path(n.config.CheckpointFile))
	if err != nil {
		return err
	}
	if n.db, err = n.openDatabase(ctx, kept); err != nil {
		return err
	}
	n.checkpoints.Log = n.db
	return nil
}

func (n *node) openHost(context.Context, secret.Bytes) error {
	after, err := newAfter(n.config, n.catalog)
	if err != nil {
		return err
	}
	n.host, err = keydist.New(keydist.Config{
		Tenant: keyset.TenantID(n.config.Tenant), Environment: n.environment,
		Store: n.db, Issuer: n.issuer, Blocks: n.keys.blocks, Describe: n.describe, KeySets: n.catalog.KeySet, After: after.of,
		Signer: n.signer, Chain: n.chain, Trust: n.trust, Makers: n.attested.Makers,
		Clock: time.Now, Instance: n.config.Instance, Logger: n.log, Observe: n.metrics.order,
	})
	if err != nil {
		return err
	}
	n.readiness = serve.NewReadiness(
		serve.Check{Name: "keys", Run: n.keys.engine.Check},
		serve.Check{Name: "signer", Run: func(context.Context) error { return n.host.CheckSigner() }},
		serve.Check{Name: "store", Run: n.db.Check},
		serve.Check{Name: "issuer", Run: n.issuer.Health},
		serve.Check{Name: "catalog", Run: n.follower.Check},
	)
	return nil
}

// describeMakers says in metrics whose word is taken, and in the log when it is another revision than before.
func (n *node) describeMakers() {
	m := n.attested.Makers()
	n.metrics.trust(m)
	if m == nil || m.Revision == n.revision {
		return
	}
	n.revision = m.Revision
	n.log.Info("makers in force", slog.Uint64("revision", m.Revision), slog.Int("roots", len(m.Roots)),
		slog.Int("devices", m.Devices.Len()), slog.Any("approvers", n.attested.Approvers()))
}

// describe says what audit records tell about a base key.
func (n *node) describe(ref keyset.KeyRef) keydist.KeyInfo {
	k, err := n.keys.engine.Describe(context.Background(), ref) // in memory, or what a connected token has at hand
	if err != nil {
		return keydist.KeyInfo{}
	}
	return keydist.KeyInfo{KCV: k.KCV.String(), Labels: audit.Labels{
		KeyMode: k.Labels.KeyMode.String(), PINExposure: k.Labels.PINExposure.String(), Environment: k.Labels.Environment.String(),
	}}
}

// close releases what open took, also when it took only part.
func (n *node) close() error {
	var errs []error
	if n.db != nil {
		errs = append(errs, n.db.Close())
	}
	if n.issuer != nil {
		errs = append(errs, n.issuer.Close())
	}
	if n.ring != nil {
		n.ring.Close()
	}
	if n.token != nil {
		errs = append(errs, n.token.Close())
	}
	return errors.Join(errs...)
}
