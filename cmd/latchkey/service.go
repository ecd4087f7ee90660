package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// held is a private key in a token that a flag names: by token and object in one URI.
type held struct {
	element
	flag string // the flag of the URI
}

// with opens the token of the key, and the key, for one piece of work. Without a URI there is none.
func (h *held) with(ctx context.Context, work func(crypto.Signer) error) error {
	if h.uri == "" {
		return work(nil)
	}
	u, err := h.parse()
	if err != nil {
		return err
	}
	return h.element.with(ctx, func(t *hsm.Token) error {
		key, err := t.Signer(ctx, u)
		if err != nil {
			err, _ = exit.Explain(fmt.Errorf("--%s: %w", h.flag, err), exit.When(engine.ErrKeyNotFound, exit.NotFound, "latchkey key pair makes one"))
			return err
		}
		return work(key)
	})
}

func (h *held) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&h.uri, h.flag, "", "PKCS#11 URI of the private key, with token, object and module-path")
	cmd.Flags().StringVar(&h.pinFile, "pin-file", "", "file with the PIN of its token (mode 0600); - for standard input; default: pin-source of the URI, or ask")
}

// issuerKey is the issuing key of an authority, where it is in a token.
type issuerKey struct{ held }

func newIssuerKey(c *console) *issuerKey {
	return &issuerKey{held{element{c: c}, "issuer-key"}}
}

func (k *issuerKey) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&k.uri, k.flag, "", "PKCS#11 URI of the key of the authority, with token, object and module-path, where it is in a token")
	cmd.Flags().StringVar(&k.pinFile, "issuer-pin-file", "", "file with the PIN of that token (mode 0600); default: pin-source of the URI, or ask")
}

// with does a piece of work that needs an authority, whose key may be in a token.
func (k *issuerKey) with(ctx context.Context, d *deploy.Deployment, kind identity.Authority, work func() error) error {
	err := k.held.with(ctx, func(key crypto.Signer) error {
		if key != nil {
			if err := d.HoldIssuer(kind, key); err != nil {
				return err
			}
		}
		return work()
	})
	err, _ = exit.Explain(err,
		exit.When(embedded.ErrNoKey, exit.NotFound, "it is in a token: name it by --issuer-key"),
		exit.When(ca.ErrOtherKey, exit.Verification, "look at the name of the key"),
	)
	return err
}

func newService(c *console) *cobra.Command {
	f := &folder{c: c}
	cmd := noun("service", "Certificates of the services, of what signs for them, and of acquirer hosts: certify, host", newServiceCertify(c, f), newServiceHost(c, f))
	f.flags(cmd)
	return cmd
}

// configured are the members of the configurations that name certificate and key of a service.
var configured = map[string]struct{ file, certificate, key string }{
	deploy.ServiceDecrypt: {deploy.DecryptdFile, "certificate", "key"},
	deploy.ServiceRA:      {deploy.ProvisiondFile, "certificate", "key"},
	deploy.SignerRegistry: {deploy.ProvisiondFile, "signer-certificate", "signer-key"},
	deploy.ServiceKeydist: {deploy.KeydFile, "certificate", "key"},
	deploy.SignerKDH:      {deploy.KeydFile, "signer-certificate", "signer-key"},
}

// certified is what service certify shows.
type certified struct {
	Identity      string            `json:"identity"`
	Certificate   string            `json:"certificate"` // file
	NotAfter      time.Time         `json:"notAfter"`
	Configuration string            `json:"configuration"` // file
	Members       map[string]string `json:"members"`       // of it
}

func newServiceCertify(c *console, f *folder) *cobra.Command {
	var file string
	key, issuer := &held{element{c: c}, "key"}, newIssuerKey(c)
	cmd := &cobra.Command{
		Use:   "certify NAME",
		Short: "Certify a key pair in a token for a service that runs",
		Long: `Certify has the public half of a key pair in a PKCS#11 token (latchkey key pair) certified for one of

  decrypt, ra, keydist      the listeners of the three services
  registry, kdh-signer      what signs the registry feed, and deliveries

with the identity, names and addresses that it has. The certificate is written to a new file; the service goes on as it is. When
its configuration names the file and the key, which are shown, and it is started again, it uses them. The same key may be
certified again, to a new file, before its certificate ends.`,
		Example: "  latchkey key pair --hsm 'pkcs11:token=keyd?module-path=/usr/lib/softhsm/libsofthsm2.so' --pin-file keyd.pin --name kdh-signer\n" +
			"  latchkey service certify kdh-signer --dir ./pos --pin-file keyd.pin \\\n" +
			"    --key 'pkcs11:token=keyd;object=kdh-signer?module-path=/usr/lib/softhsm/libsofthsm2.so'",
		Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, ok := configured[args[0]]
			if !ok {
				return exit.With(exit.Usage, fmt.Errorf("%w: %q", deploy.ErrNoService, args[0]), "one of "+strings.Join(deploy.Services(), ", ")+", but for that of the acquirer")
			}
			kind, err := deploy.ServiceAuthority(args[0])
			if err != nil {
				return err
			}
			if file == "" {
				file = filepath.Join("services", args[0], "token.pem")
			}
			u, err := key.parse()
			if err != nil {
				return err
			}
			var cert *x509.Certificate
			err = f.with(func(d *deploy.Deployment) error {
				path := file
				if !filepath.IsAbs(path) {
					path = d.Path(path)
				}
				return issuer.with(cmd.Context(), d, kind, func() error {
					return key.with(cmd.Context(), func(held crypto.Signer) error {
						cert, err = d.CertifyService(cmd.Context(), args[0], held, path)
						return err
					})
				})
			})
			if errors.Is(err, fs.ErrExist) {
				return exit.With(exit.Refused, err, "no certificate is overwritten: choose another --file")
			}
			if err != nil {
				return err
			}
			id, err := identity.FromCertificate(cert)
			if err != nil {
				return err
			}
			m := certified{id.String(), file, cert.NotAfter.UTC(), in.file, map[string]string{in.certificate: file, in.key: u.Object().String()}}
			return c.show(m, field{"identity", m.Identity}, field{"until", moment(m.NotAfter.Unix())}, field{"in " + in.file, in.certificate + ": " + file},
				field{"", in.key + ": " + m.Members[in.key]})
		},
	}
	key.flags(cmd)
	cmd.Flags().StringVar(&file, "file", "", "new file for the certificate, relative to --dir; default services/NAME/token.pem")
	issuer.flags(cmd)
	required(cmd, "key")
	return cmd
}
