package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	nodedecrypt "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	nodekeydist "github.com/latchkey-pos/latchkey/internal/node/keydist"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const (
	demoTenant   = "DEMO-SHOP"
	demoAcquirer = "ACQ-1" // as in the certificate that deploy.Create makes
	demoTimeout  = 15 * time.Second

	checkpointFile   = "checkpoint"
	keydDatabase     = "keyd.db"
	registryDatabase = "provisiond.db"
)

// site is everything that runs on the host's side: a deployment folder, the key-distribution host, the registration
// authority, the decryption service, and an acquirer's host, each with its own listener.
type site struct {
	dir        string // the deployment folder
	passphrase string // the file with its passphrase
	database   string
	deployment *deploy.Deployment
	tokens     *strongroom // nil when keys are in the keyring and in files
	vault      *demoVault  // nil when the issuer in the folder certifies the terminals
	initialKey func(context.Context, keyset.KeyRef, dukpt.KeyID) (*dukpt.InitialKey, error)
	issuer     *issuer
	log        *slog.Logger
	logFile    *os.File

	keydURL, raURL, servicesURL, publicationURL string

	url     string // of the acquirer's host
	service nodedecrypt.Addrs
	relay   *relay        // between registration authority and key-distribution host
	admin   *admin.Client // as the first operator
	wire    *wire
	client  *api.Client // the acquirer's, for questions about counters
	ledger  *acquirer.Ledger
	reload  chan os.Signal // has the decryption service read key sets again

	callers  witness // the terminals, as the acquirer's host saw them
	follower *feed.Follower
	end      func() // drops the operator's connections

	ctx     context.Context // of what runs
	stop    context.CancelFunc
	running []chan error // one for each part that runs
}

// createSite makes the deployment folder, the zone keys of the issuer, and sample keys and key sets; and tokens for the keys, where
// they are wanted.
func createSite(ctx context.Context, root string, o demoOptions) (_ *site, err error) {
	b := &site{
		dir: filepath.Join(root, "deployment"), passphrase: filepath.Join(root, "passphrase"),
		reload: make(chan os.Signal),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.logFile, err = os.OpenFile(filepath.Join(root, "demo.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	b.log = slog.New(slog.NewTextHandler(b.logFile, nil))
	pass := deploy.NewBundlePassphrase()
	defer pass.Wipe()
	if err := writePassphrase(b.passphrase, pass); err != nil {
		return nil, err
	}
	options := deploy.Options{Tenant: demoTenant, Environment: keyset.Test, Passphrase: pass}
	if o.hsm {
		if b.tokens, err = openStrongroom(ctx, root, o.module); err != nil {
			return nil, err
		}
		options.Key = b.tokens.key
	}
	if b.deployment, err = deploy.Create(b.dir, options); err != nil {
		return nil, err
	}
	if o.vault {
		if b.vault, err = openDemoVault(ctx, root, b.dir, o.vaultProgram, pass); err != nil {
			return nil, err
		}
	}
	return b, b.makeKeys()
}

// makeKeys makes zone keys, base keys and key sets.
func (b *site) makeKeys() (err error) {
	if b.tokens != nil {
		b.initialKey = b.tokens.initialKey
		if b.issuer, err = newIssuer(keyset.Test, b.tokens.zone); err != nil {
			return err
		}
		return sample.PrepareWith(b.deployment, keyset.Code, b.tokens.generate)
	}
	ring, err := b.deployment.Keyring()
	if err != nil {
		return err
	}
	b.initialKey = ring.InitialKey
	if b.issuer, err = newIssuer(keyset.Test, ring.Import); err != nil {
		return err
	}
	return sample.Prepare(b.deployment, keyset.Code)
}

// keyRows lists the keys of the host.
func (b *site) keyRows(ctx context.Context) ([][]string, error) {
	if b.tokens != nil {
		return b.tokens.rows(ctx)
	}
	ring, err := b.deployment.Keyring()
	if err != nil {
		return nil, err
	}
	rows := [][]string{{"KEY", "USAGE", "ALGORITHM", "KCV", "ENVIRONMENT", "KEY MODE"}}
	for _, k := range ring.List() {
		rows = append(rows, keyRow(k))
	}
	return rows, nil
}

func writePassphrase(path string, pass secret.Bytes) error {
	text := append(append([]byte{}, pass.Expose()...), '\n')
	defer secret.Wipe(text)
	return seal.WriteFile(path, text, 0o600)
}

// writeConfig writes the configuration of the decryption service: that of any deployment, on free ports.
func (b *site) writeConfig(root string) (nodedecrypt.Config, error) {
	path := filepath.Join(root, "decryptd.yaml")
	b.database = filepath.Join(root, "decryptd.db")
	text := fmt.Sprintf(`# What `+"`latchkey demo`"+` runs its decryption service with.
listen: 127.0.0.1:0
admin: 127.0.0.1:0
folder: deployment
tenant: %[1]s
environment: test
passphrase-file: ../passphrase
database: ../decryptd.db
checkpoint-file: ../%[5]s
checkpoint-every: 1s
registry:
  urls: [%[6]s]
  cache: ../decryptd.feed
callers:
  - name: %[2]s
    pin-keys: [%[3]s, %[4]s]
`, demoTenant, demoAcquirer, sample.ZoneTDES, sample.ZoneAES, checkpointFile, b.servicesURL)
	text += demoOffline
	if b.tokens != nil {
		text += fmt.Sprintf("key: %q\nhsm:\n  uri: %q\n  pin-file: %q\n", keyURI(deploy.ServiceDecrypt), b.tokens.uri(decryptdToken), b.tokens.pinFile(decryptdToken))
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nodedecrypt.Config{}, err
	}
	return nodedecrypt.LoadConfig(path)
}

// start starts the services, each on free ports of the loopback interface. They run until close, also when ctx ends: whoever
// interrupts the demonstration gets an orderly end.
func (b *site) start(ctx context.Context, root string) error {
	b.ctx, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, part := range []func(context.Context, string) error{
		b.startKeyd, b.startAuthority, b.startService, b.startAcquirer,
	} {
		if err := part(b.ctx, root); err != nil {
			return err
		}
	}
	return nil
}

// run runs a part until ctx ends; close waits for it.
func (b *site) run(part func() error) chan error {
	done := make(chan error, 1)
	b.running = append(b.running, done)
	go func() { done <- part() }()
	return done
}

// await waits until a part that was started with run is ready, or has ended.
func await[A any](what string, ready <-chan A, done chan error) (A, error) {
	var none A
	select {
	case a := <-ready:
		return a, nil
	case err := <-done:
		done <- nil // for close
		return none, errors.Join(fmt.Errorf("the %s did not start", what), err)
	}
}

// startKeyd starts the key-distribution host, and the relay that stands before it.
func (b *site) startKeyd(ctx context.Context, root string) error {
	c := nodekeydist.DefaultConfig()
	c.Folder, c.Tenant, c.Environment, c.PassphraseFile = b.dir, demoTenant, keyset.Test.String(), b.passphrase
	c.Listen, c.Admin = "127.0.0.1:0", "127.0.0.1:0"
	c.Database, c.CheckpointFile, c.CheckpointEvery = filepath.Join(root, keydDatabase), filepath.Join(root, "keyd.checkpoint"), daemon.Duration(time.Second)
	if b.tokens != nil {
		c.HSM, c.SignerKey, c.IssuerKey = b.tokens.section(keydToken), keyURI(deploy.SignerKDH), keyURI(deploy.IssuingKey(identity.KeyDistCA))
	}
	ready := make(chan nodekeydist.Addrs, 1)
	done := b.run(func() error {
		return nodekeydist.Run(ctx, c, b.log.With("service", "keyd"), func(a nodekeydist.Addrs) { ready <- a })
	})
	addrs, err := await("key-distribution host", ready, done)
	if err != nil {
		return err
	}
	b.relay, b.keydURL, err = newRelay(ctx, b, "https://"+addrs.Service)
	return err
}

func (b *site) startAuthority(ctx context.Context, root string) error {
	c := nodeprovision.DefaultConfig()
	c.Folder, c.Tenant, c.Environment, c.PassphraseFile = b.dir, demoTenant, keyset.Test.String(), b.passphrase
	c.Terminals, c.Services, c.Publication, c.Admin = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Keyd, c.Database = b.keydURL, filepath.Join(root, registryDatabase)
	c.CheckpointFile, c.CheckpointEvery = filepath.Join(root, "provisiond.checkpoint"), daemon.Duration(time.Second)
	if b.tokens != nil {
		c.HSM, c.SignerKey, c.IssuerKey = b.tokens.section(provisiondToken), keyURI(deploy.SignerRegistry), keyURI(deploy.IssuingKey(identity.TerminalCA))
	}
	if b.vault != nil {
		c.Vault = nodeprovision.DefaultVault(b.vault.address)
	}
	ready := make(chan nodeprovision.Addrs, 1)
	done := b.run(func() error {
		return nodeprovision.Run(ctx, c, b.log.With("service", "provisiond"), func(a nodeprovision.Addrs) { ready <- a })
	})
	addrs, err := await("registration authority", ready, done)
	if err != nil {
		return err
	}
	b.raURL, b.servicesURL, b.publicationURL = "https://"+addrs.Terminals, "https://"+addrs.Services, "http://"+addrs.Publication
	b.admin, b.end, err = registryClient(b.deployment, b.servicesURL, deploy.FirstOperator)
	return err
}

func (b *site) startService(ctx context.Context, root string) error {
	config, err := b.writeConfig(root)
	if err != nil {
		return err
	}
	config.Reload = b.reload
	ready := make(chan nodedecrypt.Addrs, 1)
	done := b.run(func() error {
		return nodedecrypt.Run(ctx, config, b.log.With("service", "decrypt"), func(a nodedecrypt.Addrs) { ready <- a })
	})
	b.service, err = await("decryption service", ready, done)
	return err
}

// credential opens the certificate and key of a service.
func (b *site) credential(name string) (*tlsconf.Credential, error) {
	cert, err := b.deployment.ServiceCredential(name)
	if err != nil {
		return nil, err
	}
	return tlsconf.NewCredential(cert)
}

func (b *site) startAcquirer(ctx context.Context, root string) error {
	credential, err := b.credential(deploy.ServiceAcquirer)
	if err != nil {
		return err
	}
	trust, err := b.deployment.Trust()
	if err != nil {
		return err
	}
	call, err := acquirer.Caller(credential, trust)
	if err != nil {
		return err
	}
	changed, err := b.follow(ctx, credential, trust)
	if err != nil {
		return err
	}
	door, err := acquirer.Listener(credential, trust, &b.callers)
	if err != nil {
		return err
	}
	if b.ledger, err = acquirer.OpenLedger(filepath.Join(root, "ledger.jsonl")); err != nil {
		return err
	}
	b.wire = &wire{next: &http.Transport{TLSClientConfig: call}}
	b.client = api.NewClient("https://"+b.service.Service, &http.Client{Transport: b.wire, Timeout: demoTimeout})
	host := &acquirer.Host{Service: b.client, Ledger: b.ledger, Log: b.log.With("service", "acquirer")}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.url = "https://" + l.Addr().String()
	b.run(func() error { return host.Serve(ctx, tls.NewListener(l, door), &b.callers, changed) })
	return nil
}

// follow has the acquirer's host follow the registry feed; who comes is judged by it.
func (b *site) follow(ctx context.Context, credential *tlsconf.Credential, trust tlsconf.Trust) (<-chan struct{}, error) {
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: credential, Trust: trust, ServerRole: identity.RA, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return nil, err
	}
	changed := make(chan struct{}, 1)
	b.follower, err = feed.New(feed.Options{
		URLs: []string{b.servicesURL}, Client: &http.Client{Transport: &http.Transport{TLSClientConfig: config}},
		Services: trust.Services, Tenant: demoTenant, Logger: b.log.With("service", "acquirer"),
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default: // one is waiting already
			}
		},
	})
	if err != nil {
		return nil, err
	}
	b.callers.next = b.follower
	b.run(func() error { return b.follower.Run(ctx) })
	return changed, nil
}

// setState signs a key set into another state and returns when the decryption service has read it.
func (b *site) setState(ctx context.Context, id keyset.ID, state keyset.State) error {
	if err := sample.SetState(b.deployment, id, state); err != nil {
		return err
	}
	return b.reread(ctx)
}

// reread has the decryption service read key sets and terminals, and returns when it has.
func (b *site) reread(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	// The service takes the second signal when it is done with the first: a whole reading lies between.
	for range 2 {
		select {
		case b.reload <- syscall.SIGHUP:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// close stops what runs, in order, and forgets the keys.
func (b *site) close() error {
	var errs []error
	if b.end != nil {
		b.end()
	}
	if b.stop != nil {
		b.stop()
	}
	for _, done := range b.running {
		errs = append(errs, <-done)
	}
	if b.ledger != nil {
		errs = append(errs, b.ledger.Close())
	}
	if b.issuer != nil {
		b.issuer.wipe()
	}
	if b.deployment != nil {
		errs = append(errs, b.deployment.Close())
	}
	if b.tokens != nil {
		errs = append(errs, b.tokens.close())
	}
	if b.vault != nil {
		errs = append(errs, b.vault.close())
	}
	if b.logFile != nil {
		errs = append(errs, b.logFile.Close())
	}
	return errors.Join(errs...)
}
