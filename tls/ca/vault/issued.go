package vault

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"
)

// seen is what was read of certificates that nobody here knew: it does not change, and reading takes a call for each.
type seen struct {
	mu   sync.Mutex
	keys map[string][32]byte // by serial number; zero for what is no certificate of ours
}

// Issued finds among what Vault keeps what was issued under public keys, as ca.Issuer says. Vault lists serial numbers and
// nothing else, so whatever is not known is read, once in the life of the issuer. Errors are as those of Revoke, but none of
// them makes the breaker open: a policy of an earlier release forbids to list, and certificates are to be had under it.
func (i *Issuer) Issued(ctx context.Context, keys map[[32]byte]bool, known func(serial string) bool) (map[string][32]byte, error) {
	i.seen.mu.Lock()
	defer i.seen.mu.Unlock()
	serials, err := i.list(ctx)
	if err != nil {
		return nil, err
	}
	before := i.seen.keys
	i.seen.keys = make(map[string][32]byte)
	for _, serial := range serials { // and what Vault has tidied away is forgotten
		if key, ok := before[serial]; ok {
			i.seen.keys[serial] = key
		}
	}
	out := make(map[string][32]byte)
	for _, serial := range serials {
		if known(serial) {
			continue
		}
		key, ok := i.seen.keys[serial]
		if !ok {
			if key, err = i.keyOf(ctx, serial); err != nil {
				return nil, err
			}
			i.seen.keys[serial] = key
		}
		if keys[key] {
			out[serial] = key
		}
	}
	return out, nil
}

// list returns the serial numbers of everything that Vault keeps.
func (i *Issuer) list(ctx context.Context) ([]string, error) {
	answer, err := i.quiet(ctx, "list", func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().ListWithContext(ctx, i.options.Mount+"/certs")
	})
	if err != nil || answer == nil {
		return nil, err
	}
	entries, _ := answer.Data["keys"].([]any)
	out := make([]string, 0, len(entries))
	for _, entry := range entries {
		text, _ := entry.(string)
		serial := strings.NewReplacer(":", "", "-", "").Replace(strings.ToLower(text))
		if number, err := hex.DecodeString(serial); err != nil || len(number) == 0 {
			return nil, later(roleWait, nil, "list: %q is no serial number", plain(text))
		}
		out = append(out, serial)
	}
	return out, nil
}

// keyOf reads a certificate and returns what names its public key; zero for an authority, and when it is gone.
func (i *Issuer) keyOf(ctx context.Context, serial string) (key [32]byte, err error) {
	number, err := hex.DecodeString(serial)
	if err != nil {
		return key, err
	}
	answer, err := i.quiet(ctx, "read", func(ctx context.Context, c *api.Client) (*api.Secret, error) {
		return c.Logical().ReadWithContext(ctx, i.options.Mount+"/cert/"+strings.ReplaceAll(colons(number), ":", "-"))
	})
	if err != nil || answer == nil {
		return key, err
	}
	text, _ := answer.Data["certificate"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return key, later(roleWait, nil, "read: the answer for %s has no certificate", serial)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.IsCA {
		return key, nil // of somebody else who uses the mount
	}
	return sha256.Sum256(cert.RawSubjectPublicKeyInfo), nil
}

// quiet asks Vault as call does, without the breaker.
func (i *Issuer) quiet(ctx context.Context, what string, f request) (*api.Secret, error) {
	if err := i.sit(ctx); err != nil {
		return nil, err
	}
	defer i.rise()
	begun := i.options.Clock()
	answer, err := i.authorized(ctx, f)
	i.options.Observe(what, i.options.Clock().Sub(begun), err)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return nil, errors.Join(ctx.Err(), err)
	}
	return nil, later(shortWait, err, "%s", describe(what, err))
}
