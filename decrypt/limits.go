package decrypt

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/limit"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// Limits say how often what may be asked of one process. Those of calls without a KSN have a default, because nothing else stands
// between such calls and a search for PINs; the others hold back floods.
type Limits struct {
	Caller   limit.Rate // all messages and calls of one caller; zero: none
	Terminal limit.Rate // messages of one terminal whose MAC has verified, and calls with one of its KSNs; zero: none

	FixedCaller limit.Rate // calls of one caller under keys of fixed value; zero: DefaultFixedCaller
	FixedKey    limit.Rate // the same under one key, of all callers; zero: DefaultFixedKey
	PAN         limit.Rate // translations for one card under keys of fixed value; zero: DefaultPAN
	PINBlock    limit.Rate // translations of one PIN block under keys of fixed value; zero: DefaultPINBlock
	Cards       int        // cards, and PIN blocks, that are counted at once; zero: DefaultCards. What finds no room is refused
	Callers     int        // how many callers share that room; zero: 1

	Working  int           // requests worked on at once; zero: as many as come
	Waiting  int           // and that wait for it
	Patience time.Duration // how long each waits at most
}

// The limits of calls under keys of fixed value. One card is seldom asked for more than a few times an hour: three tries of a PIN, and
// each sent again; a PIN that is entered rightly gives the same block each time. Whoever makes a table of all PINs of four digits of one
// card takes six weeks.
var (
	DefaultFixedCaller = limit.Rate{Burst: 400, Count: 200, Per: time.Second}
	DefaultFixedKey    = limit.Rate{Burst: 400, Count: 200, Per: time.Second}
	DefaultPAN         = limit.Rate{Burst: 10, Count: 10, Per: time.Hour}
	DefaultPINBlock    = limit.Rate{Burst: 10, Count: 10, Per: time.Hour}
)

// DefaultCards is room for a hundred cards a second at the default rates: a block that came once is remembered for twelve minutes.
const DefaultCards = 1 << 17

// The room of the other tables. Callers and keys are those of a configuration and an inventory; of terminals only those are
// remembered that have come within the time that fills their bucket.
const (
	maxCallers   = 1 << 12
	maxTerminals = 1 << 16
)

// limits hold how often what was asked.
type limits struct {
	callers, terminals, fixedCallers, fixedKeys, pans, blocks *limit.Table // nil: no limit
	gate                                                      *limit.Gate  // nil: no limit
}

func newLimits(c Limits) (*limits, error) {
	cards := cmp.Or(c.Cards, DefaultCards)
	share := max(cards/max(c.Callers, 1), 1)
	out := new(limits)
	for _, t := range []struct {
		table       **limit.Table
		rate        limit.Rate
		size, share int
	}{
		{&out.callers, c.Caller, maxCallers, maxCallers},
		{&out.terminals, c.Terminal, maxTerminals, maxTerminals},
		{&out.fixedCallers, cmp.Or(c.FixedCaller, DefaultFixedCaller), maxCallers, maxCallers},
		{&out.fixedKeys, cmp.Or(c.FixedKey, DefaultFixedKey), maxCallers, maxCallers},
		{&out.pans, cmp.Or(c.PAN, DefaultPAN), cards, share},
		{&out.blocks, cmp.Or(c.PINBlock, DefaultPINBlock), cards, share},
	} {
		if t.rate == (limit.Rate{}) {
			continue
		}
		var err error
		if *t.table, err = limit.NewTable(t.rate, t.size, t.share); err != nil {
			return nil, fmt.Errorf("decrypt: %w", err)
		}
	}
	if c.Working > 0 {
		out.gate = limit.NewGate(c.Working, c.Waiting, c.Patience)
	}
	return out, nil
}

// take takes tokens, or refuses with the name of the limit.
func take(t *limit.Table, what, owner string, key limit.Digest, now time.Time, n int) error {
	if t == nil {
		return nil
	}
	v := t.TakeN(owner, key, now, n)
	if v.Allowed {
		return nil
	}
	r := refuse(CodeRateLimited, "the limit of %s", what)
	r.RetryAfter, r.again = v.After, !v.First
	return r
}

func named(name string) limit.Digest { return sha256.Sum256([]byte(name)) }

// terminal counts a message or a call of a terminal.
func (l *limits) terminal(t *keyset.Terminal, now time.Time) error {
	return take(l.terminals, "one terminal", "", named(string(t.Tenant)+"/"+string(t.ID)), now, 1)
}

// Admit counts n messages or one call of a caller before anything else is done for it. The refusal is recorded when the one before
// was admitted, and told each time. Action is what was asked, as for Refuse.
func (s *Service) Admit(ctx context.Context, caller Caller, action string, n int) error {
	if err := take(s.limits.callers, "one caller", "", named(string(caller.Tenant)+"/"+caller.Name), s.clock(), n); err != nil {
		return s.Refuse(ctx, caller, action, err)
	}
	return nil
}

// Enter waits for a place to work, which Leave gives back. Nothing is begun and nothing claimed without one: the refusal is
// CodeOverloaded.
func (s *Service) Enter(ctx context.Context) error {
	if s.limits.gate == nil {
		return nil
	}
	if err := s.limits.gate.Enter(ctx); err != nil {
		return refuse(CodeOverloaded, "nothing was begun")
	}
	return nil
}

// Leave gives the place of Enter back.
func (s *Service) Leave() {
	if s.limits.gate != nil {
		s.limits.gate.Leave()
	}
}

// Load returns how many requests are worked on and how many wait.
func (s *Service) Load() (working, waiting int) {
	if s.limits.gate == nil {
		return 0, 0
	}
	return s.limits.gate.Depth()
}

// fixedCall counts a call under keys of fixed value for its caller, before anything is done with a key or a key block.
func (c *call) fixedCall() error {
	return take(c.limits.fixedCallers, "calls without a KSN of one caller", "", named(string(c.caller.Tenant)+"/"+c.caller.Name), c.now, 1)
}

// fixedUse counts it for each key by its identifier, before one is used.
func (c *call) fixedUse(ids ...keyset.KeyRef) error {
	for _, id := range ids {
		if err := take(c.limits.fixedKeys, "calls without a KSN under one key", "", named(id.String()), c.now, 1); err != nil {
			return err
		}
	}
	return nil
}

// card counts a translation for a card and of a PIN block. A block may be tried with few cards, or whoever may name the card learns
// digits of the PIN from which ones open it; and a card may have few blocks, or whoever may make blocks learns which one is whose. Of the
// card count the digits that blocks of formats 0 and 3 hold and that no digit of a PIN of up to six is added to: with the others, one card
// would count as many, for a PIN and a card that both differ there give the same block. The digests are keyed: there are few enough cards to
// try them all.
func (c *call) card(ctx context.Context, pan pin.PAN, block []byte) error {
	if planted.On(planted.PINsUnlimited) {
		return nil
	}
	_, key, err := c.secrets.Secret(SecretPAN)
	if err != nil {
		return c.engineFailed(ctx, err)
	}
	defer key.Wipe()
	digits := pan.Canonical12()
	defer digits.Wipe()
	c.digest = keyedDigest(key, "pan", digits.Expose())
	if err := take(c.limits.blocks, "translations of one PIN block", c.caller.Name, keyedDigest(key, "block", block), c.now, 1); err != nil {
		return err
	}
	whose := keyedDigest(key, "card", digits.Expose()[pinOverlap:])
	return take(c.limits.pans, "translations for one card", c.caller.Name, whose, c.now, 1)
}

// pinOverlap is how many of the twelve digits of a card the digits of a PIN are added to in formats 0 and 3 (ISO 9564-1:2017, 9.3.2): the
// third to the sixth.
const pinOverlap = 4

// keyedDigest is an HMAC over what kind of thing something is, and the thing.
func keyedDigest(key secret.Bytes, kind string, value []byte) [32]byte {
	h := hmac.New(sha256.New, key.Expose())
	h.Write(appendPart(nil, []byte(kind)))
	h.Write(value)
	return [32]byte(h.Sum(nil))
}
