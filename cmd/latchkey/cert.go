package main

import (
	"context"
	"encoding/pem"
	"os"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

func newCert(c *console) *cobra.Command {
	r := &registry{folder: folder{c: c}}
	cmd := noun("cert", "Certificates of terminals: list, revocation list", newCertList(c, r), newCertCRL(c, r))
	r.flags(cmd)
	return cmd
}

func newCertList(c *console, r *registry) *cobra.Command {
	var terminal string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the certificates that were issued, the latest first",
		Args:  arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if terminal != "" {
				if err := checkTerminal(terminal); err != nil {
					return err
				}
			}
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				all, err := client.CertificatesOf(ctx, terminal)
				if err != nil {
					return err
				}
				var rows [][]string
				for _, cert := range all {
					rows = append(rows, []string{cert.Serial, cert.Terminal, cert.Role, moment(cert.Issued), moment(cert.NotAfter), cert.State})
				}
				return c.list(members{all}, []string{"SERIAL", "TERMINAL", "ROLE", "ISSUED", "UNTIL", "STATE"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&terminal, "terminal", "", "of this terminal only")
	return cmd
}

func newCertCRL(c *console, r *registry) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "crl",
		Short: "Write the revocation list of terminals (PEM)",
		Long: `Crl writes the certificate revocation list of the terminals issuer, for listeners that do not follow the registry
feed. It is no more than a second best: those that follow the feed know within two seconds.`,
		Example: `  latchkey cert crl | openssl crl -noout -text`,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.ask(cmd.Context(), func(ctx context.Context, client *admin.Client) error {
				der, err := client.CRL(ctx)
				if err != nil {
					return err
				}
				text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
				if file != "" {
					return seal.WriteFile(file, text, os.FileMode(0o644))
				}
				_, err = c.stdout.Write(text)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "write it to a file instead of standard output")
	return cmd
}
