// Command acquirer runs the example host of package acquirer over a deployment folder made by `latchkey init`.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
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
	dir, passphrase, listen, service, ledger, pinKey, pinFormat string
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
	host, listen, err := o.host(slog.New(slog.NewTextHandler(stderr, nil)))
	if err != nil {
		return err
	}
	defer host.Ledger.Close()
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "listening on https://%s\n", l.Addr())
	return serve(ctx, host, tls.NewListener(l, listen))
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
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return options{}, err
		}
		return options{}, exit.With(exit.Usage, err, "see: acquirer -help")
	}
	if f.NArg() > 0 || o.passphrase == "" {
		return options{}, exit.Errorf(exit.Usage, "acquirer takes flags only, and needs -passphrase-file")
	}
	return o, nil
}

// host puts the host together: who it is, whom it calls, where it books.
func (o options) host(log *slog.Logger) (*acquirer.Host, *tls.Config, error) {
	pass, err := seal.ReadPassphrase(o.passphrase)
	if err != nil {
		return nil, nil, err
	}
	defer pass.Wipe()
	folder := filepath.Join(o.dir, "services", deploy.ServiceAcquirer)
	cert, err := deploy.Credential(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.sealed"), pass)
	if err != nil {
		return nil, nil, err
	}
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		return nil, nil, err
	}
	trust, err := deploy.LoadTrust(o.dir)
	if err != nil {
		return nil, nil, err
	}
	listen, err := acquirer.Listener(credential, trust, tlsconf.OpenGate())
	if err != nil {
		return nil, nil, err
	}
	call, err := acquirer.Caller(credential, trust)
	if err != nil {
		return nil, nil, err
	}
	ledger, err := acquirer.OpenLedger(o.ledger)
	if err != nil {
		return nil, nil, err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: call}, Timeout: 15 * time.Second}
	return &acquirer.Host{
		Service: api.NewClient(o.service, client), Ledger: ledger, PINKey: o.pinKey, PINFormat: o.pinFormat, Log: log,
	}, listen, nil
}

// serve answers terminals until ctx ends, then lets those in flight finish.
func serve(ctx context.Context, host *acquirer.Host, l net.Listener) error {
	srv := &http.Server{
		Handler: host.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := srv.Shutdown(last)
	<-failed
	return err
}
