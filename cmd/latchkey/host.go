package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// hostCertificate is what service host shows.
type hostCertificate struct {
	Identity    string    `json:"identity"`
	Certificate string    `json:"certificate"` // file
	NotAfter    time.Time `json:"notAfter"`
}

func newServiceHost(c *console, f *folder) *cobra.Command {
	var request, file string
	issuer := newIssuerKey(c)
	cmd := &cobra.Command{
		Use:   "host NAME",
		Short: "Certify the key of an acquirer host that has one of its own",
		Long: `Host has the key of a certificate signing request certified for the acquirer host NAME, whose private key never leaves it.
Of the request only the key is used. The decryption service serves the host when NAME stands under callers of its configuration.`,
		Example: "  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout host.key -subj /CN=host -out host.csr\n" +
			"  latchkey service host ACQ-2 --csr host.csr --file host.pem --dir ./pos",
		Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := keyset.ParseTerminal(args[0]) // the alphabet of every name in a certificate
			if err != nil {
				return exit.With(exit.Usage, fmt.Errorf("%q is no name of a host", args[0]), "[A-Z0-9-]{1,32}, as under callers of decryptd.yaml")
			}
			csr, err := os.ReadFile(request)
			if err != nil {
				return err
			}
			var cert *x509.Certificate
			err = f.with(func(d *deploy.Deployment) error {
				return issuer.with(cmd.Context(), d, identity.ServicesCA, func() error {
					cert, err = d.CertifyHost(cmd.Context(), string(name), csr, file)
					return err
				})
			})
			switch {
			case errors.Is(err, fs.ErrExist):
				return exit.With(exit.Refused, err, "no certificate is overwritten: choose another --file")
			case errors.Is(err, deploy.ErrRequest):
				return exit.With(exit.Verification, err, "give the request of openssl req -new, in PEM, with a key of P-256, P-384 or P-521")
			case err != nil:
				return err
			}
			id, err := identity.FromCertificate(cert)
			if err != nil {
				return err
			}
			m := hostCertificate{id.String(), file, cert.NotAfter.UTC()}
			return c.show(m, field{"identity", m.Identity}, field{"certificate", m.Certificate}, field{"until", moment(m.NotAfter.Unix())})
		},
	}
	cmd.Flags().StringVar(&request, "csr", "", "file with the certificate signing request, in PEM")
	cmd.Flags().StringVar(&file, "file", "", "new file for the certificate and its chain, in PEM")
	issuer.flags(cmd)
	required(cmd, "csr")
	required(cmd, "file")
	return cmd
}
