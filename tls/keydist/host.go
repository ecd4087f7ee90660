package keydist

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// MaxPending is how many keys of one slot may wait to be confirmed before further ones come one in each PendingPause only.
// It is a brake and no end: answers that were lost on their way count too, and no terminal may be stuck because of them.
const MaxPending = 8

// PendingPause is how long after the newest key that waits another one is delivered, beyond MaxPending. It is what a
// terminal waits whose answers are lost on their way, so it is short.
const PendingPause = time.Minute

// KeyInfo is what audit records say about a base key.
type KeyInfo struct {
	KCV    string       // check value
	Labels audit.Labels // how it is held
}

// Config says what a host works with. Fields are required unless their comment says otherwise.
type Config struct {
	Tenant      keyset.TenantID    // whose terminals get keys
	Environment keyset.Environment // key sets of the other one are refused
	Store       Store
	Issuer      ca.Issuer                   // of the key-distribution authority, for agreement keys
	Blocks      remote.BlockMaker           // derives and wraps initial keys. Its label stands as the reason in the audit records of deliveries
	Describe    func(keyset.KeyRef) KeyInfo // for the audit log; nil: records say nothing about base keys
	// KeySets returns the latest revision of a set from its verified document.
	KeySets func(keyset.ID) (*keyset.KeySet, bool)
	// After returns a key id of the set that, with all before it, is never given out here: after a restore, or where ids
	// were given out by other means. Zero for none; nil: none of any set.
	After  func(*keyset.KeySet) dukpt.KeyID
	Signer crypto.Signer       // signs deliveries
	Chain  []*x509.Certificate // of the signer: role kdh, leaf first, no root
	Trust  tlsconf.Trust       // Terminals and KeyDist
	// Makers returns, from its verified document, whose word for an agreement key is taken in sets with delivery attested. It is
	// asked at each order. Nil, or nothing returned: no such key is delivered.
	Makers   func() *Makers
	Clock    func() time.Time // nil: time.Now
	Instance string           // names the host in its audit log
	Logger   *slog.Logger
	Observe  func(action, result string) // told about every order that ended; nil: nobody is
}

// Host answers the orders of the registration authority. It is safe for concurrent use. Every error of Certify, Deliver,
// Settle, Withdraw and Adopt is a *Refusal, or the error of the context.
type Host struct{ c Config }

// Caller is who gives an order: the verified identity at the other end of the connection, and its address.
type Caller struct {
	Identity identity.Identity
	Source   string // network address, for the audit log
}

// New makes a host. It refuses a configuration with which it could not deliver.
func New(c Config) (*Host, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Describe == nil {
		c.Describe = func(keyset.KeyRef) KeyInfo { return KeyInfo{} }
	}
	if c.After == nil {
		c.After = func(*keyset.KeySet) dukpt.KeyID { return dukpt.KeyID{} }
	}
	if c.Makers == nil {
		c.Makers = func() *Makers { return nil }
	}
	if c.Observe == nil {
		c.Observe = func(string, string) {}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Chain = slices.Clone(c.Chain)
	h := &Host{c}
	if err := h.CheckSigner(); err != nil {
		return nil, err
	}
	if err := c.Makers().Distinct(c.Issuer.Chain()...); err != nil {
		return nil, err
	}
	return h, nil
}

func (c *Config) check() error {
	switch {
	case c.Store == nil, c.Issuer == nil, c.Blocks == nil, c.KeySets == nil, c.Signer == nil, c.Logger == nil:
		return errors.New("keydist: store, issuer, block maker, key sets, signer or logger is missing")
	case c.Instance == "":
		return errors.New("keydist: the host has no name for its audit log")
	case c.Trust.Terminals == nil || c.Trust.KeyDist == nil:
		return errors.New("keydist: no roots of the terminals or of the key-distribution authority")
	}
	if _, err := keyset.ParseTenant(string(c.Tenant)); err != nil {
		return fmt.Errorf("keydist: %w", err)
	}
	if _, err := c.Environment.MarshalText(); err != nil {
		return fmt.Errorf("keydist: %w", err)
	}
	return nil
}

// Check reports whether the host could deliver and certify now: it signs, and asks the store and the issuer.
func (h *Host) Check(ctx context.Context) error {
	if err := h.CheckSigner(); err != nil {
		return err
	}
	if err := h.c.Store.Check(ctx); err != nil {
		return fmt.Errorf("keydist: store: %w", err)
	}
	if err := h.c.Issuer.Health(ctx); err != nil {
		return fmt.Errorf("keydist: issuer: %w", err)
	}
	return nil
}

// CheckSigner reports whether deliveries could be signed now: it holds the certificate of the host to what terminals hold it
// to, and signs with its key.
func (h *Host) CheckSigner() error {
	if len(h.c.Chain) == 0 || slices.Contains(h.c.Chain, nil) {
		return errors.New("keydist: the signer has no certificate")
	}
	leaf := h.c.Chain[0]
	id, err := verify(h.c.Chain, h.c.Trust.KeyDist, identity.KDH, h.c.Clock())
	if err != nil {
		return fmt.Errorf("keydist: certificate of the signer: %w", err)
	}
	if id.Tenant != string(h.c.Tenant) {
		return fmt.Errorf("keydist: the signer is %v, want one of tenant %s", id, h.c.Tenant)
	}
	digest := sha256.Sum256([]byte("latchkey check of the signer"))
	signature, err := h.c.Signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("keydist: the signer does not sign: %w", err)
	}
	if !verifies(leaf, digest[:], signature) {
		return errors.New("keydist: the signer's key is not that of its certificate")
	}
	return nil
}
