package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// registry is how commands reach the registration authority: as one of the people of a deployment.
type registry struct {
	folder
	server string
	person string
}

// registryTimeout bounds one call.
const registryTimeout = 15 * time.Second

// flags adds the flags that every command on the registry has.
func (r *registry) flags(cmd *cobra.Command) {
	r.folder.flags(cmd)
	p := cmd.PersistentFlags()
	p.StringVar(&r.server, "server", "https://localhost:8446", "services address of latchkey-provisiond")
	p.StringVar(&r.person, "as", deploy.FirstOperator, "who asks: a folder below operators/")
}

// ask makes one piece of work with the registration authority, within a time limit.
func (r *registry) ask(ctx context.Context, work func(context.Context, *admin.Client) error) error {
	return r.with(func(d *deploy.Deployment) error {
		client, end, err := registryClient(d, r.server, r.person)
		if err != nil {
			return err
		}
		defer end()
		ctx, cancel := context.WithTimeout(ctx, registryTimeout)
		defer cancel()
		return answered(work(ctx, client))
	})
}

// registryClient connects as a person. end drops the connections.
func registryClient(d *deploy.Deployment, server, person string) (_ *admin.Client, end func(), err error) {
	p, err := d.Operator(person)
	if err != nil {
		return nil, nil, exit.With(exit.NotFound, err, "the people of a deployment are the folders below operators/")
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
	if errors.Is(err, admin.ErrUnreachable) {
		return exit.With(exit.Unreachable, err, "is latchkey-provisiond running, and is --server its services address?")
	}
	refusal, ok := errors.AsType[*admin.Error](err)
	switch {
	case !ok:
		return err
	case refusal.Status == http.StatusNotFound:
		return exit.With(exit.NotFound, err, refusal.Hint)
	case refusal.Status >= http.StatusInternalServerError:
		return exit.With(exit.Unreachable, err, refusal.Hint)
	}
	return exit.With(exit.Refused, err, refusal.Hint)
}
