package main

import (
	"context"
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
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	nodedecrypt "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const (
	demoTenant   = "DEMO-SHOP"
	demoAcquirer = "ACQ-1" // as in the certificate that deploy.Create makes
	demoTimeout  = 15 * time.Second

	checkpointFile = "checkpoint"
)

// site is everything that runs on the host's side: a deployment folder, the decryption service, and an acquirer's host,
// each with its own listener.
type site struct {
	dir        string // the deployment folder
	passphrase string // the file with its passphrase
	database   string
	deployment *deploy.Deployment
	issuer     *issuer
	log        *slog.Logger
	logFile    *os.File

	url     string // of the acquirer's host
	service nodedecrypt.Addrs
	wire    *wire
	client  *api.Client // the acquirer's, for questions about counters
	ledger  *acquirer.Ledger
	reload  chan os.Signal // has the decryption service read key sets again

	callers witness // the terminals, as the acquirer's host saw them

	stop    context.CancelFunc
	running []chan error // one for each part that runs
}

// createSite makes the deployment folder, the zone keys of the issuer, and sample keys and key sets.
func createSite(root string) (_ *site, err error) {
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
	b.deployment, err = deploy.Create(b.dir, deploy.Options{
		Tenant: demoTenant, Environment: keyset.Test, Passphrase: pass,
	})
	if err != nil {
		return nil, err
	}
	if b.issuer, err = newIssuer(b.deployment); err != nil {
		return nil, err
	}
	if err := sample.Prepare(b.deployment); err != nil {
		return nil, err
	}
	return b, nil
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
callers:
  - name: %[2]s
    pin-keys: [%[3]s, %[4]s]
`, demoTenant, demoAcquirer, sample.ZoneTDES, sample.ZoneAES, checkpointFile)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nodedecrypt.Config{}, err
	}
	return nodedecrypt.LoadConfig(path)
}

// start starts both services, each on a free port of the loopback interface. They run until close, also when ctx ends:
// whoever interrupts the demonstration gets an orderly end.
func (b *site) start(ctx context.Context, root string) error {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	b.stop = stop
	config, err := b.writeConfig(root)
	if err != nil {
		return err
	}
	config.Reload = b.reload
	if err := b.startService(ctx, config); err != nil {
		return err
	}
	return b.startAcquirer(ctx, root)
}

// run runs a part until ctx ends; close waits for it.
func (b *site) run(part func() error) chan error {
	done := make(chan error, 1)
	b.running = append(b.running, done)
	go func() { done <- part() }()
	return done
}

func (b *site) startService(ctx context.Context, config nodedecrypt.Config) error {
	ready := make(chan nodedecrypt.Addrs, 1)
	done := b.run(func() error {
		return nodedecrypt.Run(ctx, config, b.log.With("service", "decrypt"), func(a nodedecrypt.Addrs) { ready <- a })
	})
	select {
	case b.service = <-ready:
		return nil
	case err := <-done:
		done <- nil // for close
		return errors.Join(errors.New("the decryption service did not start"), err)
	}
}

func (b *site) startAcquirer(ctx context.Context, root string) error {
	cert, err := b.deployment.ServiceCredential(deploy.ServiceAcquirer)
	if err != nil {
		return err
	}
	credential, err := tlsconf.NewCredential(cert)
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
	door, err := acquirer.Listener(credential, trust, &b.callers)
	if err != nil {
		return err
	}
	if b.ledger, err = acquirer.OpenLedger(filepath.Join(root, "ledger.jsonl")); err != nil {
		return err
	}
	b.wire = &wire{next: &http.Transport{TLSClientConfig: call}}
	b.client = api.NewClient("https://"+b.service.Service, &http.Client{Transport: b.wire, Timeout: demoTimeout})
	log := b.log.With("service", "acquirer")
	host := &acquirer.Host{Service: b.client, Ledger: b.ledger, Log: log}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.url = "https://" + l.Addr().String()
	b.run(func() error {
		return serve.Run(ctx, l, serve.Options{Handler: host.Handler(), TLS: door, Logger: log})
	})
	return nil
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
	if b.logFile != nil {
		errs = append(errs, b.logFile.Close())
	}
	return errors.Join(errs...)
}
