package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
)

const (
	maxAgreementFile = 64 << 10 // bytes
	keyHint          = "a PEM file of PKCS #8, as openssl genpkey writes it"
	chainHint        = "a PEM file of the maker's certificates, that of the key first, without the root"
)

// agreement puts the agreement key that a maker has certified, and its certificates, into the options. A pair that does not
// belong together would cost the one-time code, and the authority would refuse it: it is refused here.
func (f enrolFlags) agreement(o *terminal.EnrolOptions) error {
	if f.agreementKey == "" && f.attestation == "" {
		return nil
	}
	if f.agreementKey == "" || f.attestation == "" {
		return exit.With(exit.Usage, errors.New("--agreement-key-file and --attestation-file go together"), "the maker of the device gives both")
	}
	if f.curve != "" {
		return exit.Errorf(exit.Usage, "the key in --agreement-key-file has its curve: leave --curve out")
	}
	chain, err := readChain(f.attestation)
	if err != nil {
		return err
	}
	key, public, err := readKey(f.agreementKey)
	if err != nil {
		return err
	}
	if !public.Equal(chain[0].PublicKey) {
		key.Wipe()
		return exit.With(exit.Verification, fmt.Errorf("%s does not begin with the certificate of the key in %s", f.attestation, f.agreementKey), chainHint)
	}
	o.Agreement = key
	for _, c := range chain {
		o.Attestation = append(o.Attestation, c.Raw)
	}
	return nil
}

// readKey reads a private key, PKCS #8 in PEM, from a file that only its owner may read, and returns it as PKCS #8, which the
// caller wipes, and what is public of it.
func readKey(path string) (secret.Bytes, *ecdsa.PublicKey, error) {
	text, err := readFile(path, 0o077)
	if err != nil {
		return secret.Bytes{}, nil, fmt.Errorf("agreement key: %w", err)
	}
	defer secret.Wipe(text)
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return secret.Bytes{}, nil, exit.With(exit.Usage, fmt.Errorf("agreement key: %s is not one private key", path), keyHint)
	}
	defer secret.Wipe(block.Bytes)
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil { // which might quote it
		return secret.Bytes{}, nil, exit.With(exit.Usage, fmt.Errorf("agreement key: %s is not PKCS #8", path), keyHint)
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok || curves[key.Curve.Params().Name] == nil {
		return secret.Bytes{}, nil, exit.With(exit.Usage, fmt.Errorf("agreement key: %s is not on P-256, P-384 or P-521", path), keyHint)
	}
	return secret.From(block.Bytes), &key.PublicKey, nil
}

// readChain reads one certificate or more, and nothing else.
func readChain(path string) (chain []*x509.Certificate, err error) {
	text, err := readFile(path, 0)
	if err != nil {
		return nil, fmt.Errorf("attestation: %w", err)
	}
	for len(bytes.TrimSpace(text)) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil || block.Type != "CERTIFICATE" {
			return nil, exit.With(exit.Usage, fmt.Errorf("attestation: %s holds something else than certificates", path), chainHint)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, exit.With(exit.Usage, fmt.Errorf("attestation: %s: %w", path, err), chainHint)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, exit.With(exit.Usage, fmt.Errorf("attestation: %s holds no certificate", path), chainHint)
	}
	return chain, nil
}

// readFile reads a file of bounded size that has none of the permissions.
func readFile(path string, closed os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&closed != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, want 0600", seal.ErrExposed, path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxAgreementFile+1))
	if err == nil && len(b) > maxAgreementFile {
		err = exit.Errorf(exit.Usage, "%s has over %d bytes", path, maxAgreementFile)
	}
	if err != nil {
		secret.Wipe(b)
		return nil, err
	}
	return b, nil
}
