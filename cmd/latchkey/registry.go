package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// registry is how commands reach the registration authority: as one of the people of a deployment.
type registry struct {
	folder
	server     string
	person     string
	personFile string             // with the passphrase of the person
	opened     *deploy.Deployment // during a session
}

const (
	registryTimeout = 15 * time.Second // bounds one call
	defaultServer   = "https://localhost:8446"
)

// flags adds the flags that every command on the registry has.
func (r *registry) flags(cmd *cobra.Command) {
	r.folder.flags(cmd)
	p := cmd.PersistentFlags()
	p.StringVar(&r.server, "server", cmp.Or(r.c.server, defaultServer),
		"services address of latchkey-provisiond, https://HOST:PORT; the variable LATCHKEY_SERVER sets another default")
	p.StringVar(&r.person, "as", deploy.FirstOperator, "who asks: a folder below operators/")
	p.StringVar(&r.personFile, "as-passphrase-file", "",
		"file with the passphrase of who asks, where it is not that of the deployment (mode 0600); - for standard input")
}

// ask makes one piece of work with the registration authority, within a time limit.
func (r *registry) ask(ctx context.Context, work func(context.Context, *admin.Client) error) error {
	return r.session(ctx, func(ctx context.Context, client *admin.Client) error {
		ctx, cancel := context.WithTimeout(ctx, registryTimeout)
		defer cancel()
		return work(ctx, client)
	})
}

// session makes one piece of work with the registration authority that limits its calls itself.
func (r *registry) session(ctx context.Context, work func(context.Context, *admin.Client) error) error {
	if err := checkServer(r.server); err != nil {
		return err
	}
	return r.under(r.personsPassphrase, func(d *deploy.Deployment) error {
		client, end, err := registryClient(d, r.server, r.person)
		if err != nil {
			return err
		}
		defer end()
		r.opened = d
		return answered(work(ctx, client))
	})
}

// personsPassphrase reads the one passphrase that is needed: who asks may have one of their own, and not that of the
// deployment.
func (r *registry) personsPassphrase() (secret.Bytes, error) {
	if r.personFile != "" {
		return r.c.passphrase(r.personFile, "--as-passphrase-file", "passphrase of "+r.person)
	}
	return r.c.passphrase(r.passphraseFile, "--passphrase-file", "passphrase of "+r.person+", or of the deployment")
}

// checkServer wants an address with nothing after it.
func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" || u.Port() == "" || server != "https://"+u.Host {
		return exit.With(exit.Usage, fmt.Errorf("--server %q: want https://HOST:PORT", server),
			"name the services address of latchkey-provisiond, as in "+defaultServer)
	}
	return nil
}

// registryClient connects as a person. end drops the connections.
func registryClient(d *deploy.Deployment, server, person string) (_ *admin.Client, end func(), err error) {
	p, err := d.Operator(person)
	if err != nil {
		return nil, nil, notPerson(person, err)
	}
	credential, err := tlsconf.NewCredential(p.TLS())
	if err != nil {
		return nil, nil, err
	}
	trust, err := d.Trust()
	if err != nil {
		return nil, nil, err
	}
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: credential, Trust: trust, ServerRole: identity.RA, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return nil, nil, err
	}
	transport := &http.Transport{TLSClientConfig: config}
	return admin.NewClient(server, &http.Client{Transport: transport}), transport.CloseIdleConnections, nil
}

// answered gives the errors of the registration authority their exit codes.
func answered(err error) error {
	if _, told := errors.AsType[*exit.Error](err); told {
		return err
	}
	if errors.Is(err, admin.ErrUnreachable) {
		return exit.With(exit.Unreachable, err, "is latchkey-provisiond running, and is --server its services address?")
	}
	refusal, ok := errors.AsType[*admin.Error](err)
	switch {
	case !ok:
		return err
	case refusal.Code == "SlotUnknown": // its hint is for terminals
		return exit.With(exit.NotFound, err, "look at its slots: latchkey terminal show")
	case refusal.Status == http.StatusNotFound:
		return exit.With(exit.NotFound, err, refusal.Hint)
	case refusal.Status >= http.StatusInternalServerError:
		return exit.With(exit.Unreachable, err, refusal.Hint)
	}
	return exit.With(exit.Refused, err, refusal.Hint)
}
