package decrypt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Addrs are the addresses that a running service listens on.
type Addrs struct {
	Service string // for acquirer hosts, HTTPS
	Admin   string // for operators, plain HTTP
}

// Check opens everything that Run needs and closes it again: files, keys, key sets, database, certificate. It listens on
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
	return n.serve(ctx, ready)
}

// serve listens until ctx ends, or something that the service needs is lost for good.
func (n *node) serve(ctx context.Context, ready func(Addrs)) error {
	c, log := n.config, n.log
	h := &handlers{service: n.service, permissions: n.allowed, metrics: n.metrics, body: c.Limits.complete().Body}
	service := &daemon.Door{Name: "listen", Address: c.Listen, Options: serve.Options{
		Handler: serve.Wrap(h.routes(), log, n.metrics.Traffic), TLS: n.tls, Logger: log,
	}}
	admin := daemon.AdminDoor(c.Admin, n.readiness, n.metrics.Registry, log)
	doors := daemon.Doors{service, admin}
	opened := func() {
		if ready != nil {
			ready(Addrs{Service: service.Addr(), Admin: admin.Addr()})
		}
	}
	loops := []func(context.Context) error{n.follower.Run}
	if n.authority != nil { // a request that is under way may wait for the feed
		loops = append(loops, n.authority.follower.Run, n.reporter.run, n.floors.run, (&staleness{heard: n.authority.follower.Heard, log: n.log}).run)
	}
	if n.token != nil {
		loops = append(loops, n.token.Run)
	}
	return doors.Run(ctx, n.checkpoints, n.readiness, opened, loops...)
}

// node is everything that runs.
type node struct {
	config      Config
	log         *slog.Logger
	ring        *keyring.Ring // gives secrets, and keys unless there is a token
	token       *token.Token  // nil when keys are those of the ring
	db          store
	service     *decrypt.Service
	tls         *tls.Config
	authority   *registry // nil when terminals are those of the folder
	reporter    *reporter // nil without an authority
	floors      *floors   // nil without an authority
	metrics     *metrics
	checkpoints *daemon.Checkpoints
	follower    *daemon.Follower
	allowed     *permissions
	readiness   *serve.Readiness
}

func open(ctx context.Context, c Config, log *slog.Logger) (_ *node, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n := &node{config: c, log: log}
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
	reach := func(secret.Bytes) error { return n.openToken(ctx) }
	for _, step := range []func(secret.Bytes) error{n.openMetrics, reach, func(p secret.Bytes) error { return n.openTLS(ctx, p) }, func(p secret.Bytes) error { return n.openKeys(ctx, p) }, func(secret.Bytes) error { return n.openStore(ctx) }, n.openService} {
		if err := step(passphrase); err != nil {
			return nil, err
		}
	}
	if err := n.service.Check(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *node) path(p string) string { return daemon.Path(n.config.Folder, p) }

func (n *node) openMetrics(secret.Bytes) (err error) {
	n.metrics, err = newMetrics()
	return err
}

func (n *node) openTLS(ctx context.Context, passphrase secret.Bytes) error {
	c := n.config
	key, err := n.token.Key(ctx, "key", c.Key, n.path, passphrase)
	if err != nil {
		return err
	}
	credential, err := daemon.OpenCredential(n.path(c.Certificate), key, c.Tenant, identity.Decrypt)
	if err != nil {
		return err
	}
	trust, err := deploy.LoadTrust(c.Folder)
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	n.tls, err = tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential, Trust: trust, Accept: []identity.Role{identity.AcquirerHost},
		Gate: tlsconf.OpenGate(), // the feed has no records of services yet: the list of callers is what can be changed
	})
	if err != nil || c.Registry == nil {
		return err
	}
	return n.openRegistry(ctx, *c.Registry, credential, trust, passphrase)
}

// openRegistry makes the follower of the registry feed, which shows the credential of the service or one of its own.
func (n *node) openRegistry(ctx context.Context, r RegistryConfig, own *tlsconf.Credential, trust tlsconf.Trust, passphrase secret.Bytes) error {
	c := n.config
	if r.Certificate != c.Certificate || r.Key != c.Key {
		key, err := n.token.Key(ctx, "key", r.Key, n.path, passphrase)
		if err == nil {
			own, err = daemon.OpenCredential(n.path(r.Certificate), key, c.Tenant, identity.Decrypt)
		}
		if err != nil {
			return fmt.Errorf("registry: %w", err)
		}
	}
	var err error
	if n.authority, err = newRegistry(c, r, own, trust, n.log); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return follow(n.metrics.Registry, n.authority)
}

func (n *node) openKeys(ctx context.Context, passphrase secret.Bytes) (err error) {
	if n.ring, err = keyring.Open(n.path(n.config.Keyring), passphrase); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	key, err := n.token.Key(ctx, "checkpoint-key", n.config.CheckpointKey, n.path, passphrase)
	if err != nil {
		return err
	}
	n.checkpoints, err = daemon.OpenCheckpoints(key, deploy.CheckpointName(keyset.TenantID(n.config.Tenant), "decryptd"), n.path(n.config.CheckpointFile),
		n.config.CheckpointEvery, n.log, n.metrics.Checkpoints)
	return err
}

func (n *node) openService(secret.Bytes) error {
	c := n.config
	environment, err := keyset.ParseEnvironment(c.Environment)
	if err != nil {
		return err
	}
	keys := n.keys()
	documents, err := deploy.NewCatalog(deploy.CatalogOptions{
		Dir: c.Folder, Tenant: keyset.TenantID(c.Tenant), Environment: environment, Keys: keys.list, Holder: keys.name,
	})
	if err != nil {
		return fmt.Errorf("catalog, with the keys of the %s: %w", keys.name, err)
	}
	describe := func() { n.metrics.describe(documents.KeySets(), keys.list()) }
	describe()
	n.follower = &daemon.Follower{Told: c.Reload, Logger: n.log, Count: n.metrics.Reloads, Reload: func() error {
		defer describe()
		return errors.Join(n.ring.Reload(), documents.Reload())
	}}
	if n.allowed, err = newPermissions(c); err != nil {
		return err
	}
	config := decrypt.Config{
		Engine: keys.engine, Store: watched{n.db, n.metrics.evidence}, Catalog: documents, Secrets: n.ring,
		Clock: time.Now, Instance: c.Instance, Logger: n.log, Offline: c.Offline.limits(), Limits: c.limits(),
	}
	checks := []serve.Check{
		{Name: "keys", Run: keys.engine.Check},
		{Name: "store", Run: n.db.Check},
		{Name: "catalog", Run: n.follower.Check},
	}
	if n.authority != nil {
		config.Catalog, config.Registry = catalog{documents, n.authority.follower}, n.authority
		checks = append(checks, serve.Check{Name: "registry", Run: n.authority.follower.Check})
		n.reporter = &reporter{
			registry: n.authority, catalog: config.Catalog, store: n.db, log: n.log, metrics: n.metrics, orphans: make(map[decrypt.CounterKey]bool),
		}
		n.floors = &floors{
			registry: n.authority, catalog: config.Catalog, store: n.db, instance: c.Instance, tenant: c.Tenant, log: n.log, metrics: n.metrics, kept: make(map[decrypt.CounterKey]uint32),
		}
	}
	n.readiness = serve.NewReadiness(checks...)
	if n.service, err = decrypt.New(config); err != nil {
		return err
	}
	return n.metrics.load(n.service)
}

// keys returns what holds the keys that messages are worked on with.
func (n *node) keys() holder {
	if n.token != nil {
		return holder{"token", n.token.Engine(), n.token.List}
	}
	return holder{"keyring", n.ring.Engine(), n.ring.List}
}

// holder is the keyring or the token.
type holder struct {
	name   string // for errors
	engine engine.Engine
	list   func() []engine.KeyInfo // what is public about every key
}

// close releases what open took, also when it took only part.
func (n *node) close() error {
	var err error
	if n.db != nil {
		err = n.db.Close()
	}
	if n.token != nil {
		err = errors.Join(err, n.token.Close())
	}
	if n.ring != nil {
		n.ring.Close()
	}
	if n.authority != nil {
		n.authority.close()
	}
	return err
}
