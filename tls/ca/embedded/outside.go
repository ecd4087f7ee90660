package embedded

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
)

// CertifyIssuing has the root of the authority in dir certify the key of a further issuer of that authority, which is not
// of this package: one in Vault. csr is a certificate signing request (DER) that proves the possession of the key; nothing
// else in it counts. The certificate carries the policies of the authority in the short spelling, the one that such an
// issuer can write. It needs the key of the root, sealed in the folder or given, and not the issuing key. It returns the
// issuing certificate and the root. Errors wrap ca.ErrRequest for a signing request that is none, or ErrNoKey.
func CertifyIssuing(dir string, passphrase secret.Bytes, csr []byte, o Options) ([]*x509.Certificate, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	request, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: certificate signing request: %w", ca.ErrRequest, err)
	}
	root, err := readCertificate(filepath.Join(dir, RootFile))
	if err != nil {
		return nil, err
	}
	own, err := readCertificate(filepath.Join(dir, IssuingFile))
	if err != nil {
		return nil, err
	}
	kind, err := kindOf(own)
	if err != nil {
		return nil, err
	}
	key := o.Root
	if key == nil {
		if key, err = readKey(dir, kind, RootKeyFile, passphrase); err != nil {
			return nil, err
		}
	}
	if err := ca.Prove(key, root); err != nil {
		return nil, fmt.Errorf("embedded: the key of the root is not that of %s: %w", RootFile, err)
	}
	signer, err := softcas.New(context.Background(), apiv1.Options{CertificateChain: []*x509.Certificate{root}, Signer: key})
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	template := outsideTemplate(kind, root, o.Clock())
	template.PublicKey = request.PublicKey
	resp, err := signer.CreateCertificate(&apiv1.CreateCertificateRequest{
		Template: template, Lifetime: template.NotAfter.Sub(template.NotBefore),
	})
	if err != nil {
		return nil, fmt.Errorf("embedded: issuing certificate: %w", err)
	}
	if err := resp.Certificate.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("embedded: issuing certificate: %w", err)
	}
	return []*x509.Certificate{resp.Certificate, root}, nil
}

// outsideTemplate is an issuing certificate that differs from one of generate in its name, in how its policies are spelled,
// and in that it does not demand one of the certificates below it: Vault verifies what it has signed with a library that
// knows no policy constraints, and then takes it for a failure. Every one of our own checks demands the policy by itself.
func outsideTemplate(kind Kind, root *x509.Certificate, now time.Time) *x509.Certificate {
	tag := make([]byte, 4)
	_, _ = rand.Read(tag)
	start := now.Add(-backdate).UTC().Truncate(time.Second)
	if start.Before(root.NotBefore) {
		start = root.NotBefore // a root of this hour
	}
	end := start.Add(IssuingLifetime)
	if end.After(root.NotAfter) {
		end = root.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: start, NotAfter: end,
		Subject: pkix.Name{
			Organization: []string{"latchkey"}, CommonName: fmt.Sprintf("latchkey %v issuing outside %s", kind, hex.EncodeToString(tag)),
		},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		ExtKeyUsage: usages(kind),
	}
	for _, role := range kind.Roles() {
		template.Policies = append(template.Policies, role.ShortPolicy())
	}
	return template
}
