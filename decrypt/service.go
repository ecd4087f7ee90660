package decrypt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// The names of the secrets that a service uses.
const (
	SecretClaim = "claim" // HMAC key of claim contents
	SecretFill  = "fill"  // HMAC key of the fill of outgoing PIN blocks
	SecretPAN   = "pan"   // HMAC key of the digests that PANs and PIN blocks are counted by
)

// Catalog knows the key sets and the terminals. It answers from memory and is safe for concurrent use. What it returns
// is shared and not to be changed.
type Catalog interface {
	// KeySet returns the latest revision of a set.
	KeySet(id keyset.ID) (*keyset.KeySet, bool)
	// Terminal returns the latest record of a terminal.
	Terminal(tenant keyset.TenantID, id keyset.TerminalID) (*keyset.Terminal, bool)
	// KeySetOver returns the latest revision of the set over a base key that holds a key id. There is one at most.
	KeySetOver(base keys.Fingerprint, id dukpt.KeyID) (*keyset.KeySet, bool)
	// Holder returns the latest record of the terminal that has the key of a set and id in one of its slots, in whatever state.
	Holder(tenant keyset.TenantID, set keyset.ID, id dukpt.KeyID) (*keyset.Terminal, bool)
}

// Secrets gives the named HMAC keys of the host. Keys are copies that the caller wipes.
type Secrets interface {
	// Secret returns the current version.
	Secret(name string) (version uint32, key secret.Bytes, err error)
	// SecretVersion returns an older one, for what was released under it.
	SecretVersion(name string, version uint32) (secret.Bytes, error)
}

// Config is what a service is made of. Every field but Registry and Offline is required.
type Config struct {
	Engine   engine.Engine
	Store    Store
	Catalog  Catalog
	Registry Registry // nil: terminals are those of signed documents, and nobody is told what messages prove
	Secrets  Secrets
	Clock    func() time.Time
	Instance string // names this instance in the audit log
	Logger   *slog.Logger
	Offline  *message.Limits // what terminals are told in each ack of the sales they may make without the host; nil: none
	Limits   Limits          // how often what may be asked; the zero value of each says what that means
}

// Service verifies, decrypts and translates what terminals send, each content once. It is safe for concurrent use and
// keeps no state but that of its parts. See Transaction for the order of its checks.
type Service struct {
	engine   engine.Engine
	store    Store
	catalog  Catalog
	registry Registry // may be nil
	secrets  Secrets
	clock    func() time.Time
	instance string
	log      *slog.Logger
	offline  *message.Limits // may be nil
	limits   *limits
}

// New checks that nothing is missing. The parts stay the caller's, who closes them after the last call.
func New(c Config) (*Service, error) {
	for name, missing := range map[string]bool{
		"an engine": c.Engine == nil, "a store": c.Store == nil, "a catalog": c.Catalog == nil, "secrets": c.Secrets == nil,
		"a clock": c.Clock == nil, "an instance name": c.Instance == "", "a logger": c.Logger == nil,
	} {
		if missing {
			return nil, fmt.Errorf("decrypt: a service needs %s", name)
		}
	}
	if c.Offline != nil {
		if err := c.Offline.Check(); err != nil {
			return nil, fmt.Errorf("decrypt: %w", err)
		}
	}
	limits, err := newLimits(c.Limits)
	if err != nil {
		return nil, err
	}
	return &Service{
		limits: limits,
		engine: c.Engine, store: c.Store, catalog: c.Catalog, registry: c.Registry, secrets: c.Secrets,
		clock: c.Clock, instance: c.Instance, log: c.Logger, offline: c.Offline,
	}, nil
}

// Check reports whether the service could answer now: it uses a key and the store.
func (s *Service) Check(ctx context.Context) error {
	return errors.Join(s.engine.Check(ctx), s.store.Check(ctx))
}

// storeFailed turns what went wrong in the store into a refusal. A refusal of the store's own passes.
func (s *Service) storeFailed(ctx context.Context, err error) error {
	if r, ok := refused(err); ok {
		if r.Unavailable() && err.Error() != r.Error() { // it has a cause, which is for the log
			s.log.LogAttrs(ctx, slog.LevelError, "store failed", slog.String("error", err.Error()))
		}
		return r
	}
	s.log.LogAttrs(ctx, slog.LevelError, "store failed", slog.String("error", err.Error()))
	return refuse(CodeStoreUnavailable, "nothing was answered and nothing was released")
}

// engineFailed turns what went wrong in the engine, apart from failures of content, into a refusal.
func (s *Service) engineFailed(ctx context.Context, err error) error {
	s.log.LogAttrs(ctx, slog.LevelError, "engine failed", slog.String("error", err.Error()))
	return refuse(CodeEngineUnavailable, "nothing was answered and nothing was released")
}
