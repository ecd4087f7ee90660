package provision

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Addrs are the addresses that a running registration authority listens on.
type Addrs struct {
	Terminals   string // for terminals, HTTPS
	TLS12       string // for terminals without TLS 1.3; empty where there is no such listener
	Services    string // for people and services, HTTPS
	Publication string // for everyone, plain HTTP
	Admin       string // for operators, plain HTTP
}

// Check opens everything that Run needs and closes it again. It listens on nothing.
func Check(ctx context.Context, c Config, log *slog.Logger) error {
	n, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	return n.close()
}

// Run serves until ctx ends, and then lets requests under way finish. It calls ready, if not nil, once the listeners are
// open. It returns nil after an orderly end.
func Run(ctx context.Context, c Config, log *slog.Logger, ready func(Addrs)) (err error) {
	n, err := open(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if c.NewEpoch {
		if err := n.engine.NewEpoch(ctx); err != nil {
			return fmt.Errorf("new epoch: %w", err)
		}
	}
	terminals := &daemon.Door{Name: "terminals", Address: c.Terminals, Options: n.terminals}
	services := &daemon.Door{Name: "services", Address: c.Services, Options: n.services}
	publication := &daemon.Door{Name: "publication", Address: c.Publication, Options: n.publication}
	admin := daemon.AdminDoor(c.Admin, n.readiness, n.metrics.Registry, log)
	doors := daemon.Doors{terminals, services, publication, admin}
	legacy := &daemon.Door{Name: "terminals-tls12", Address: c.TLS12, Options: n.legacy}
	if c.TLS12 != "" {
		doors = append(doors, legacy)
	}
	opened := func() {
		if ready == nil {
			return
		}
		a := Addrs{Terminals: terminals.Addr(), Services: services.Addr(), Publication: publication.Addr(), Admin: admin.Addr()}
		if c.TLS12 != "" {
			a.TLS12 = legacy.Addr()
		}
		ready(a)
	}
	loops := []func(context.Context) error{n.engine.Run, n.follower.Run, n.own.Run, n.signer.Run}
	if n.token != nil {
		loops = append(loops, n.token.Run)
	}
	if n.vault != nil {
		loops = append(loops, n.vault.Run)
	}
	return doors.Run(ctx, n.checkpoints, n.readiness, opened, loops...)
}

// strangersIdle is how long who may be anybody keeps a connection without a request.
const strangersIdle = 10 * time.Second

// node is everything that runs.
type node struct {
	config      Config
	environment keyset.Environment
	log         *slog.Logger
	metrics     *metrics
	credential  *tlsconf.Credential
	trust       tlsconf.Trust
	token       *token.Token // nil without a section hsm
	issuer      terminalsIssuer
	status      provision.StatusSigner // nil where nobody is answered
	vault       *vault.Issuer          // the issuer, with a section vault; else nil
	kept        *sealedFile            // what Vault gave to keep; nil when nothing
	db          store
	pepper      secret.Bytes
	catalog     *deploy.Catalog
	list        atomic.Pointer[published]
	follower    *daemon.Follower
	keyd        *keydist.Client
	engine      *provision.Engine
	connections tlsconf.Connections
	checkpoints *daemon.Checkpoints
	own, signer *daemon.Lifetime // of the certificates of the listeners, and of what signs the feed
	readiness   *serve.Readiness

	terminals, legacy, services, publication serve.Options
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
		n.openMetrics, n.openToken, n.openTLS, n.openIssuer, n.openStore, n.openCatalog, n.openKeyd, n.openEngine, n.openDoors,
	} {
		if err := step(ctx, passphrase); err != nil {
			return nil, err
		}
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
	t, err := token.Open(ctx, h, token.Signatures, n.path(h.PINFile), n.log)
	if err != nil {
		return err
	}
	n.token = t
	return t.Watch(n.metrics.Registry)
}

func (n *node) openTLS(ctx context.Context, passphrase secret.Bytes) error {
	c := n.config
	key, err := n.token.Key(ctx, "key", c.Key, n.path, passphrase)
	if err != nil {
		return err
	}
	if n.credential, err = daemon.OpenCredential(n.path(c.Certificate), key, c.Tenant, identity.RA); err != nil {
		return err
	}
	if n.trust, err = deploy.LoadTrust(n.config.Folder); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	chain, err := deploy.LoadChain(n.path(c.Certificate))
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	n.own = &daemon.Lifetime{Name: "certificate", Chain: chain, Logger: n.log}
	return nil
}

func (n *node) openIssuer(ctx context.Context, passphrase secret.Bytes) (err error) {
	if n.config.Vault != nil {
		if n.vault, err = n.openVault(passphrase); err != nil {
			return fmt.Errorf("vault: %w", err)
		}
		n.issuer = n.vault
	} else if err := n.openEmbedded(ctx, passphrase); err != nil {
		return err
	}
	if n.pepper, err = deploy.OpenPepper(n.path(n.config.Pepper), passphrase); err != nil {
		return fmt.Errorf("pepper: %w", err)
	}
	return nil
}

func (n *node) openEmbedded(ctx context.Context, passphrase secret.Bytes) error {
	crl, status := n.config.published()
	i, err := n.token.Issuer(ctx, n.path(n.config.Issuer), n.config.IssuerKey, passphrase, embedded.Options{CRL: crl, Status: status})
	if err != nil {
		return err
	}
	n.issuer = i
	if n.config.OCSP {
		n.status = i
	}
	if i.Kind() != identity.TerminalCA {
		return fmt.Errorf("issuer: it is the authority of %v, want terminals", i.Kind())
	}
	return nil
}

func (n *node) openStore(ctx context.Context, passphrase secret.Bytes) error {
	kept, err := daemon.LastCheckpoint(n.path(n.config.CheckpointFile))
	if err != nil {
		return err
	}
	if n.db, err = n.openDatabase(ctx, kept); err != nil {
		return err
	}
	key, err := n.token.Key(ctx, "checkpoint-key", n.config.CheckpointKey, n.path, passphrase)
	if err != nil {
		return err
	}
	n.checkpoints, err = daemon.OpenCheckpoints(key, deploy.CheckpointName(keyset.TenantID(n.config.Tenant), "provisiond"), n.path(n.config.CheckpointFile),
		n.config.CheckpointEvery, n.log, n.metrics.Checkpoints)
	if err != nil {
		return err
	}
	n.checkpoints.Log = n.db
	return nil
}

// openCatalog reads the key sets. There is no keyring here to compare them with.
func (n *node) openCatalog(context.Context, secret.Bytes) (err error) {
	n.catalog, err = deploy.NewCatalog(deploy.CatalogOptions{
		Dir: n.config.Folder, Tenant: keyset.TenantID(n.config.Tenant), Environment: n.environment,
	})
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if err := n.readTrustList(); err != nil {
		return err
	}
	reload := func() error { return errors.Join(n.catalog.Reload(), n.readTrustList()) }
	n.follower = &daemon.Follower{Reload: reload, Told: n.config.Reload, Logger: n.log, Count: n.metrics.Reloads}
	return nil
}

func (n *node) openKeyd(context.Context, secret.Bytes) error {
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: n.credential, Trust: n.trust, ServerRole: identity.KDH, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return fmt.Errorf("keyd: %w", err)
	}
	n.keyd = keydist.NewClient(n.config.Keyd, &http.Client{Transport: &http.Transport{TLSClientConfig: config}})
	return nil
}

func (n *node) openEngine(ctx context.Context, passphrase secret.Bytes) error {
	c := n.config
	key, err := n.token.Key(ctx, "signer-key", c.SignerKey, n.path, passphrase)
	if err != nil {
		return err
	}
	signer, chain, err := daemon.OpenSigner(n.path(c.SignerCertificate), key)
	if err != nil {
		return err
	}
	n.signer = &daemon.Lifetime{Name: "signer-certificate", Chain: chain, Logger: n.log}
	keydist, err := deploy.LoadChain(deploy.TrustPath(c.Folder, identity.KeyDistCA))
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	n.engine, err = provision.New(ctx, provision.Config{
		Store: n.db, Issuer: n.issuer, Status: n.status, Distributor: n.keyd, Tenant: keyset.TenantID(c.Tenant), Environment: n.environment,
		Instance: c.Instance, Signer: signer, Chain: chain,
		KeySets: n.catalog.KeySet, Pepper: n.pepper, TrustList: n.trustList, KeyDist: keydist,
		Logger: n.log, Count: n.metrics.count, Shared: c.Postgres != nil, OnChange: n.cut, Overlap: time.Duration(c.Overlap), Drain: time.Duration(c.Drain),
		DailyCap: c.DailyCap, Renewal: provision.Window(c.Renewal.WindowConfig), Renewals: c.Renewal.groups(),
	})
	if err != nil {
		return err
	}
	return n.metrics.Registry.Register(&census{engine: n.engine, log: n.log})
}

// published is the trust list as it is handed out.
type published struct {
	doc []byte
	pin string
}

// readTrustList reads the list and holds it against its pin. A new list is put into its place while the daemon runs.
func (n *node) readTrustList() error {
	doc, pin, err := deploy.LoadTrustList(n.path(n.config.TrustList), keyset.TenantID(n.config.Tenant))
	if err != nil {
		return fmt.Errorf("trust-list: %w", err)
	}
	n.list.Store(&published{doc, pin.String()})
	return nil
}

func (n *node) trustList() ([]byte, string, error) {
	l := n.list.Load()
	return l.doc, l.pin, nil
}

// cut closes the connections of terminals that are no longer admitted. It is called while the registry changes, so the
// work is done elsewhere.
func (n *node) cut() {
	go func() {
		if closed := n.connections.Cut(n.engine); closed > 0 {
			n.log.Info("connections of terminals closed", slog.Int("connections", closed))
		}
	}()
}

func (n *node) openDoors(context.Context, secret.Bytes) error {
	forTerminals := tlsconf.ServerOptions{
		Credential: n.credential, Trust: n.trust, Accept: []identity.Role{identity.Terminal}, Visitors: true, Gate: n.engine,
	}
	terminals, err := tlsconf.Server(forTerminals)
	if err != nil {
		return err
	}
	legacy, err := tlsconf.LegacyServer(forTerminals)
	if err != nil {
		return err
	}
	services, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: n.credential, Trust: n.trust, Gate: tlsconf.OpenGate(), // people and services are named by their role
		Accept: []identity.Role{identity.Operator, identity.Auditor, identity.Custodian, identity.AcquirerHost, identity.Decrypt},
	})
	if err != nil {
		return err
	}
	wrap := func(h http.Handler) http.Handler { return serve.Wrap(h, n.log, n.metrics.Traffic) }
	door := func(name string, h http.Handler, c *tls.Config) serve.Options {
		return serve.Options{
			Handler: h, TLS: c, Logger: n.log, Connections: maxConnections,
			PerSource: n.config.ConnectionsPerSource, Crowded: n.metrics.crowd(name, n.log).refused,
		}
	}
	member := func(name string, h http.Handler, c *tls.Config) serve.Options {
		o := door(name, n.connections.Guard(n.engine, wrap(h)), c)
		o.ConnState, o.Idle = n.connections.ConnState, strangersIdle
		return o
	}
	n.terminals = member("terminals", provision.TerminalHandler(n.engine), terminals)
	n.legacy = member("terminals-tls12", provision.LegacyHandler(n.engine), legacy)
	n.services = door("services", wrap(admin.Handler(n.engine)), services)
	n.publication = door("publication", wrap(provision.PublicationHandler(n.engine)), nil)
	n.publication.Idle = strangersIdle
	n.readiness = serve.NewReadiness(
		serve.Check{Name: "store", Run: n.engine.Check},
		serve.Check{Name: "issuer", Run: n.issuer.Health},
		serve.Check{Name: "catalog", Run: n.follower.Check},
		serve.Check{Name: "certificate", Run: n.own.Check},
		serve.Check{Name: "signer", Run: n.signer.Check},
	)
	return nil
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
	n.pepper.Wipe()
	if n.kept != nil {
		n.kept.wipe()
	}
	if n.token != nil {
		errs = append(errs, n.token.Close())
	}
	return errors.Join(errs...)
}
