// Command acquirer runs the example host of package acquirer over a deployment folder made by `latchkey init`.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	exit.Report(os.Stderr, "acquirer", err)
	os.Exit(int(exit.CodeOf(err)))
}

type options struct {
	dir, passphrase, listen, service, ledger, pinKey, pinFormat, feedCache string
	feed                                                                   []string
}

// run serves until ctx ends. It prints the address it listens on.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	credential, trust, err := o.identity()
	if err != nil {
		return err
	}
	host, err := o.host(credential, trust, log)
	if err != nil {
		return err
	}
	defer host.Ledger.Close()
	gate, changed := tlsconf.OpenGate(), make(chan struct{}, 1)
	if len(o.feed) == 0 {
		log.Warn("no registry feed is followed: terminals that were revoked or stolen are let in; name the registration authority with -feed")
	} else {
		follower, err := o.follower(credential, trust, changed, log)
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(ctx)
		var following sync.WaitGroup
		following.Go(func() { _ = follower.Run(ctx) }) // ends with ctx, without an error
		defer following.Wait()
		defer stop()
		gate = follower
	}
	door, err := acquirer.Listener(credential, trust, gate)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return exit.With(exit.Failure, err, "another program has it: end that, or take another address with -listen")
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "listening on https://%s\n", l.Addr())
	return host.Serve(ctx, tls.NewListener(l, door), gate, changed)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("acquirer", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.dir, "dir", ".", "deployment folder")
	f.StringVar(&o.passphrase, "passphrase-file", "", "file with the passphrase of the deployment")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8444", "address for terminals")
	f.StringVar(&o.service, "decrypt", "https://127.0.0.1:8443", "decryption service")
	f.StringVar(&o.ledger, "ledger", "ledger.jsonl", "file that sales are booked in")
	f.StringVar(&o.pinKey, "pin-key", "", "zone key for PINs; empty: the only one that the key set allows")
	f.StringVar(&o.pinFormat, "pin-format", "", "format of outgoing PIN blocks; empty: that of the terminal")
	f.Func("feed", "https://HOST:PORT of a registration authority, which says which terminals may connect; repeat it, or\n"+
		"separate several by commas; without it every terminal with a certificate may connect", func(s string) error {
		o.feed = append(o.feed, strings.Split(s, ",")...)
		return nil
	})
	f.StringVar(&o.feedCache, "feed-cache", "", "file that keeps what the feed said; empty: none")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return options{}, err
		}
		return options{}, exit.With(exit.Usage, err, "see: acquirer -help")
	}
	if f.NArg() > 0 || o.passphrase == "" {
		return options{}, exit.With(exit.Usage, errors.New("acquirer takes flags only, and needs -passphrase-file"), "see: acquirer -help")
	}
	if o.feedCache != "" && len(o.feed) == 0 {
		return options{}, exit.With(exit.Usage, errors.New("-feed-cache keeps what -feed says, which is missing"), "see: acquirer -help")
	}
	return o, nil
}

// identity reads who the host is, and whom it trusts.
func (o options) identity() (*tlsconf.Credential, tlsconf.Trust, error) {
	pass, err := seal.ReadPassphrase(o.passphrase)
	if err != nil {
		return nil, tlsconf.Trust{}, coded(err)
	}
	defer pass.Wipe()
	folder := filepath.Join(o.dir, "services", deploy.ServiceAcquirer)
	cert, err := deploy.Credential(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.sealed"), pass)
	if err != nil {
		return nil, tlsconf.Trust{}, coded(err)
	}
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		return nil, tlsconf.Trust{}, err
	}
	trust, err := deploy.LoadTrust(o.dir)
	return credential, trust, coded(err)
}

// coded gives the errors of reading the deployment their exit codes.
func coded(err error) error {
	switch {
	case errors.Is(err, seal.ErrPassphraseFile) && errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, "write the passphrase to it: one line, mode 0600")
	case errors.Is(err, seal.ErrPassphraseFile):
		return exit.With(exit.Usage, err, "the passphrase stands in a file of mode 0600: one line of 12 bytes or more")
	case errors.Is(err, seal.ErrPassphrase):
		return exit.With(exit.Verification, err, "is -passphrase-file that of this deployment, and the sealed file unchanged?")
	case errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, "name the folder that latchkey init made with -dir")
	}
	return err
}

// host puts the host together: whom it calls, where it books.
func (o options) host(credential *tlsconf.Credential, trust tlsconf.Trust, log *slog.Logger) (*acquirer.Host, error) {
	call, err := acquirer.Caller(credential, trust)
	if err != nil {
		return nil, err
	}
	ledger, err := acquirer.OpenLedger(o.ledger)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: call}, Timeout: 15 * time.Second}
	return &acquirer.Host{
		Service: api.NewClient(o.service, client), Ledger: ledger, PINKey: o.pinKey, PINFormat: o.pinFormat, Log: log,
	}, nil
}

// follower follows the registry feed, and says so on changed when something has changed.
func (o options) follower(
	credential *tlsconf.Credential, trust tlsconf.Trust, changed chan<- struct{}, log *slog.Logger,
) (*feed.Follower, error) {
	call, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: credential, Trust: trust, ServerRole: identity.RA, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return nil, err
	}
	f, err := feed.New(feed.Options{
		URLs: o.feed, Client: &http.Client{Transport: &http.Transport{TLSClientConfig: call}}, Services: trust.Services,
		Tenant: keyset.TenantID(credential.Identity().Tenant), Cache: o.feedCache, Logger: log,
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default: // one is waiting already
			}
		},
	})
	return f, exit.With(exit.Usage, err, "as in: -feed https://localhost:8446")
}
