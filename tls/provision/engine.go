package provision

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Distributor is the key-distribution host, as far as the registration authority calls it. It is safe for concurrent use.
// An error that has a method Unavailable() bool which says true may go away by itself; every other one that has such a
// method is a refusal, whose text is public. An error that has a method RetryAfter() time.Duration which says when to come
// again has a public text as well.
type Distributor interface {
	Certify(ctx context.Context, order remote.CertifyOrder) ([]*x509.Certificate, error)
	Deliver(ctx context.Context, order remote.Order) (*remote.Delivery, error)
	Settle(ctx context.Context, settlement remote.Settlement) error
	Withdraw(ctx context.Context, withdrawal remote.Withdrawal) error
	Adopt(ctx context.Context, adoption remote.Adoption) error
}

// Rate is how often something may happen: Burst times at once, and then once in every Every.
type Rate struct {
	Every time.Duration
	Burst int
}

// Config is what an Engine is made of. Fields without a remark are required.
type Config struct {
	Store Store
	// Issuer is that of the terminals authority. An error of it that has a method RetryAfter() time.Duration which says when
	// to come again is believed.
	Issuer ca.Issuer
	// Status signs what is known of single certificates, for whoever asks (OCSP); nil: nobody is answered.
	Status      StatusSigner
	Distributor Distributor
	Tenant      keyset.TenantID
	Environment keyset.Environment
	Instance    string              // name of this instance in the audit log
	Signer      crypto.Signer       // signs the feed: ECDSA over P-256
	Chain       []*x509.Certificate // of the signer, role ra: the leaf first, then the issuing certificates, no root
	// KeySets returns the newest revision of a key set of the tenant. It is called often.
	KeySets func(keyset.ID) (*keyset.KeySet, bool)
	Pepper  secret.Bytes // 32 bytes or more that one-time codes are stored under; kept, not wiped
	// TrustList returns the signed trust list and the pin of its signer, as 26 characters, for tickets.
	TrustList func() (doc []byte, pin string, err error)
	// KeyDist is what agreement/cacerts answers: the chain of the key-distribution issuer, the root last.
	KeyDist []*x509.Certificate

	// Count, if not nil, is told what became of each thing that a terminal asked for: one of the Counted words, and ok or the code
	// of a refusal. It must not block.
	Count func(action, result string)
	// Shared says that other instances write to the store, too. What they do is known here in a fifth of a second; while it
	// cannot be known, nobody is admitted.
	Shared bool

	Clock        func() time.Time // time.Now when nil
	Logger       *slog.Logger     // silent when nil
	OnChange     func()           // called after a terminal may have lost admission; may be nil, and must not block
	Overlap      time.Duration    // how long the certificate before a renewal stays valid; 24 hours when zero, and at most
	Drain        time.Duration    // how long a replaced key drains; 7 days when zero
	DailyCap     uint32           // certificates that a terminal is given in a day; 20 when zero
	Renewal      Window           // when terminals renew; from 50 to 75 % of the life of the certificate when zero
	Renewals     map[Group]Window // for terminals of a group, instead of Renewal
	TerminalRate Rate             // attempts to enrol by terminal, and what is asked of issuers for one; 12 at once, then one in 5 s when zero
	SourceRate   Rate             // attempts to enrol by source address; 60 at once, then one in 200 ms when zero
	Concurrent   int              // terminals served at once before others are sent away; 64 when zero
}

// Engine is the registration authority. It is safe for concurrent use.
type Engine struct {
	config   Config
	issuer   string // name in the certificate of the signer
	memory   *memory
	lanes    *lanes
	seats    chan struct{} // one for each terminal that is served
	sources  *limiter
	names    *limiter        // of those who show a code
	members  *limiter        // of those who show a certificate, for what is asked of an issuer: strangers keep them from nothing
	kick     chan struct{}   // wakes the outbox
	tasks    int             // that the outbox looks at in one go
	strange  map[string]bool // ids of tasks that it could not read; its alone
	pruned   position        // up to where the sweeper has pruned the feed; its alone
	crl      crlCache
	statuses *limiter      // of whoever asks for the status of a certificate, all together
	signers  chan struct{} // one for each status that is being signed
	seen     sight         // of what others have written
	long     *longPages
}

// commitTimeout bounds what is done for a terminal once it has begun, also when the terminal hangs up.
const commitTimeout = 15 * time.Second

// New opens the registry in the store, and makes it when the store is empty. The caller calls Run, and closes the store
// after that has ended.
func New(ctx context.Context, c Config) (*Engine, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	signer, err := c.signer()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		config: c, issuer: signer.Name, memory: newMemory(), lanes: newLanes(), seats: make(chan struct{}, c.Concurrent),
		sources: newLimiter(c.SourceRate), names: newLimiter(c.TerminalRate), members: newLimiter(c.TerminalRate),
		kick: make(chan struct{}, 1), tasks: maxTasks, strange: make(map[string]bool), long: newLongPages(), statuses: newLimiter(statusRate), signers: make(chan struct{}, statusSigners),
	}
	if err := e.open(ctx); err != nil {
		return nil, fmt.Errorf("provision: open the registry: %w", err)
	}
	return e, nil
}

// Format prints whose registry this is, whatever the verb.
func (e *Engine) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "provision.Engine(%s of %s)", e.config.Instance, e.config.Tenant)
}

// MarshalText gives what Format prints, for encoders that would otherwise look inside.
func (e *Engine) MarshalText() ([]byte, error) { return fmt.Append(nil, e), nil }

// Format prints whose registry is configured, whatever the verb.
func (c Config) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "provision.Config(%s of %s)", c.Instance, c.Tenant)
}

// MarshalText gives what Format prints, for encoders that would otherwise look inside.
func (c Config) MarshalText() ([]byte, error) { return fmt.Append(nil, c), nil }

// complete checks what is required and fills in the rest.
func (c *Config) complete() error {
	switch {
	case c.Store == nil || c.Issuer == nil || c.Distributor == nil || c.KeySets == nil || c.TrustList == nil:
		return errors.New("provision: store, issuer, distributor, key sets and trust list are required")
	case c.Signer == nil || len(c.Chain) == 0:
		return errors.New("provision: the feed needs a signer with its certificates")
	case c.Instance == "":
		return errors.New("provision: no instance")
	case c.Pepper.Len() < 32:
		return fmt.Errorf("provision: pepper of %d bytes, want 32 or more", c.Pepper.Len())
	case c.Overlap < 0 || c.Overlap > maxOverlap || c.Drain < 0:
		return fmt.Errorf("provision: overlap %v and drain %v, want 0 to %v and no less than 0", c.Overlap, c.Drain, maxOverlap)
	}
	if err := c.checkRenewal(); err != nil {
		return err
	}
	if _, err := keyset.ParseTenant(string(c.Tenant)); err != nil {
		return err
	}
	if _, err := c.Environment.MarshalText(); err != nil {
		return err
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Overlap = cmp.Or(c.Overlap, maxOverlap)
	c.Drain = cmp.Or(c.Drain, 7*24*time.Hour)
	c.DailyCap = cmp.Or(c.DailyCap, 20)
	c.Renewal = cmp.Or(c.Renewal, Window{50, 75})
	c.Renewals = maps.Clone(c.Renewals)
	c.TerminalRate = cmp.Or(c.TerminalRate, Rate{5 * time.Second, 12})
	c.SourceRate = cmp.Or(c.SourceRate, Rate{200 * time.Millisecond, 60})
	c.Concurrent = cmp.Or(c.Concurrent, 64)
	return nil
}

// signer returns who signs the feed.
func (c *Config) signer() (identity.Identity, error) {
	id, err := identity.FromCertificate(c.Chain[0])
	if err != nil {
		return identity.Identity{}, err
	}
	if id.Role != identity.RA || id.Tenant != string(c.Tenant) {
		return identity.Identity{}, fmt.Errorf("provision: %v signs nothing in the feed of tenant %s", id, c.Tenant)
	}
	pub, ok := c.Signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(c.Chain[0].PublicKey) {
		return identity.Identity{}, errors.New("provision: the signing key is not that of its certificate")
	}
	return id, nil
}

// open makes an empty registry, or makes sure that the store holds the registry of this tenant, and loads what is kept in
// memory. Records that another certificate has signed are signed again in a new epoch: with the certificate they would
// expire. Codes that were stored under another pepper are void.
func (e *Engine) open(ctx context.Context) error {
	signer, pepper := sha256.Sum256(e.config.Chain[0].Raw), e.pepperCheck()
	err := e.write(ctx, func(t *transaction) error {
		meta, err := t.Meta()
		if err != nil {
			return err
		}
		if meta == (Meta{}) {
			epoch, err := epochAt(t.now, 0)
			if err != nil {
				return err
			}
			return t.PutMeta(Meta{Tenant: e.config.Tenant, Epoch: epoch, Signer: signer, Pepper: pepper})
		}
		if meta.Tenant != e.config.Tenant {
			return fmt.Errorf("the store is of tenant %s, not %s", meta.Tenant, e.config.Tenant)
		}
		if meta.Pepper != pepper {
			if err := t.voidAll(pepper); err != nil {
				return err
			}
		}
		if meta.Signer == signer && meta.Epoch > uint64(max(t.now.Add(epochAhead).Unix(), 0)) {
			e.log(ctx, "the epoch of the feed is ahead of the clock: followers refuse it until then",
				fmt.Errorf("the clock says %s, epoch %d", stamp(t.now), meta.Epoch))
		}
		if meta.Signer != signer {
			if err := t.newEpoch("the signing certificate has changed"); err != nil {
				return err
			}
		}
		return t.abandoned()
	})
	if err != nil {
		return err
	}
	return e.load(ctx)
}

// load reads what is kept in memory.
func (e *Engine) load(ctx context.Context) error {
	var end head
	standings := make(map[keyset.TerminalID]standing)
	err := e.view(ctx, func(tx Tx) error {
		clear(standings)
		var err error
		if _, end, err = readHead(tx); err != nil {
			return err
		}
		return tx.Terminals("", 0, func(row *Terminal) error {
			standings[row.ID] = standingOf(row, end.position)
			return nil
		})
	})
	if err != nil {
		return err
	}
	e.memory.put(end, standings)
	e.memory.follow(end.position)
	e.seen.now()
	return nil
}

func (e *Engine) now() time.Time { return e.config.Clock().UTC().Truncate(time.Second) }

// log writes about something that somebody who runs the service has to see. The error is for the log only.
func (e *Engine) log(ctx context.Context, what string, err error, attrs ...slog.Attr) {
	if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Cause != nil {
		attrs = append(attrs, slog.String("cause", refusal.Cause.Error()))
	}
	attrs = append(attrs, slog.String("error", err.Error()))
	e.config.Logger.LogAttrs(context.WithoutCancel(ctx), slog.LevelWarn, what, attrs...)
}

// Check reports whether the registry can be written to.
func (e *Engine) Check(ctx context.Context) error { return e.config.Store.Check(ctx) }

// MayRead reports whether the actor may read the registry: operators and auditors of the tenant. The functions that read
// do not ask; whoever serves them does, and calls Deny when not. The error is a *Refusal.
func (e *Engine) MayRead(actor Actor) error {
	return e.permitted(actor, identity.Operator, identity.Auditor)
}

// MayFollow reports whether the actor may follow the feed: decryption services and acquirer hosts of the tenant. Whoever
// serves it calls Deny when not. The error is a *Refusal.
func (e *Engine) MayFollow(actor Actor) error {
	return e.permitted(actor, identity.Decrypt, identity.AcquirerHost)
}

func (e *Engine) permitted(actor Actor, roles ...identity.Role) error {
	if actor.Identity.Tenant != string(e.config.Tenant) {
		return refuse(CodeTenantMismatch, "%v", actor.Identity)
	}
	if !slices.Contains(roles, actor.Identity.Role) {
		return refuse(CodeRoleNotPermitted, "%v", actor.Identity)
	}
	return nil
}

// Deny refuses an actor who may not do something by role or tenant, and audits that. What is refused is named by whoever
// serves it. The error is a *Refusal, or says that it could not be audited.
func (e *Engine) Deny(ctx context.Context, actor Actor, action string) error {
	return e.refused(ctx, actor.record(action, ""), e.permitted(actor)) // permits nobody: it names no role
}

// OpenCode returns until when the one-time code of a terminal may be redeemed for the first time, zero when it has none
// that may. The error is a *Refusal.
func (e *Engine) OpenCode(ctx context.Context, id keyset.TerminalID) (expires time.Time, err error) {
	err = e.view(ctx, func(tx Tx) error {
		expires = time.Time{}
		c, ok, err := tx.OneTimeCode(id)
		if err == nil && ok && c.live() && e.now().Before(c.Expires) {
			expires = c.Expires
		}
		return err
	})
	return expires, err
}

// Terminal returns one terminal. The error is a *Refusal, CodeTerminalUnknown when there is none.
func (e *Engine) Terminal(ctx context.Context, id keyset.TerminalID) (*Terminal, error) {
	var out *Terminal
	err := e.view(ctx, func(tx Tx) error {
		row, ok, err := tx.Terminal(id)
		if err == nil && !ok {
			err = refuse(CodeTerminalUnknown, "")
		}
		out = row
		return err
	})
	return out, err
}
