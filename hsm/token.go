package hsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// Token is a token that is logged in to. It is safe for concurrent use. When the token vanishes, the next operation tries to
// get it back; so does [Token.Check]. It prints its URI and nothing else.
type Token struct {
	uri     URI
	device  cryptoki
	pin     secret.Bytes
	options Options
	report  Report // of the start
	shape   shape
	probe   atomic.Uint64 // which key Check uses next
	counts  counts

	loading sync.Mutex // one key is loaded at a time

	gate  gate           // operations inside use the connection of its count
	again sync.WaitGroup // the attempt under way

	mu         sync.Mutex
	connection *connection // nil while there is none
	since      time.Time   // of the connection
	old        *connection // the one before, to be closed by the next attempt
	cause      error       // why it was lost
	attempt    *attempt    // to connect; nil when none is under way
	failures   int         // losses in a row, with attempts that failed
	notBefore  time.Time   // of the next attempt
	last       error       // of the last attempt, when it failed
	final      error       // why no attempt will be made any more
}

// connection is what is known about a token between two losses: sessions, and handles of keys. With another connection all of
// it is made anew, so that a handle is never used for what it is no more.
type connection struct {
	device     cryptoki
	generation uint64 // of the module
	count      uint64 // of the gate of the token
	pool       *pool
	owners     []*owner
	keys       atomic.Pointer[inventory]
	signers    sync.Map // of crypto.Signer, by URI
	paths      *paths
}

// close ends the sessions, where the module is still the one that they are of. Nobody is inside the gate of the token.
func (c *connection) close() {
	if c == nil {
		return
	}
	there := c.device.enter(c.generation) == nil
	if there {
		defer c.device.leave()
	}
	c.pool.close(there)
	for _, o := range c.owners {
		if there {
			_ = c.device.closeSession(o.session) // its keys go with it, or are gone
		}
	}
}

// owner is a session that lives as long as its connection, and with it the keys that were made in it.
type owner struct {
	mu      sync.Mutex // a session is for one call at a time
	session session
}

// attempt is one try to connect.
type attempt struct {
	done chan struct{}
	err  error // once done
}

// counts are what Stats tells.
type counts struct {
	derivations, finds, logins, reconnects, retries, evictions atomic.Uint64
}

// Stats is what a token did since it was opened, for metrics and tests.
type Stats struct {
	Derivations uint64 // keys derived in the token
	Finds       uint64 // searches for objects: only when a connection is made
	Reconnects  uint64 // connections after the first
	Retries     uint64 // operations that were repeated
	Evictions   uint64 // terminals that were dropped from the cache
	CachedKeys  int    // derived keys in the token now
	Generation  uint64 // restarts of the module
	Connected   bool
}

// Open logs in to the one token that a URI names, finds out what it can do, and reads which keys it holds. It keeps a copy of
// the PIN, to log in again with; the caller wipes its own. Errors are those of this package; none is repaired.
func Open(ctx context.Context, u URI, pin secret.Bytes, o Options) (*Token, error) {
	o, err := o.filled()
	if err != nil {
		return nil, err
	}
	if u.Module() == "" {
		return nil, fmt.Errorf("%w: a module-path is missing", ErrURI)
	}
	if pin.IsZero() {
		return nil, fmt.Errorf("%w: there is none", ErrPIN)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	own := pin.Clone()
	device, err := openModule(u, own, o)
	if err != nil {
		own.Wipe()
		return nil, err
	}
	t := &Token{uri: u, device: o.device(device), pin: own, options: o}
	if err := t.start(); err != nil {
		_ = t.Close() // the error that counts is the other one
		return nil, err
	}
	return t, nil
}

// start makes the first connection and probes the token.
func (t *Token) start() error {
	return t.gate.replace(0, func() error {
		c, err := t.connect(nil, nil)
		t.connection, t.since = c, t.options.Clock()
		return err
	})
}

// TokenInfo is what a token says of itself before anybody logs in.
type TokenInfo struct {
	Label, Manufacturer, Model, Serial string
	module                             string
}

// Tokens lists the tokens of a module that are initialised. Nobody is logged in.
func Tokens(module string) ([]TokenInfo, error) {
	all, err := listModule(module)
	if err != nil {
		return nil, err
	}
	var out []TokenInfo
	for _, t := range all {
		if t.flags&flagInitialized != 0 {
			out = append(out, TokenInfo{t.label, t.manufacturer, t.model, t.serial, module})
		}
	}
	return out, nil
}

// Find returns the one token that a URI names, with its module. Nobody is logged in. Errors wrap ErrNoToken, ErrAmbiguous,
// ErrURI, ErrModule or ErrNoBridge.
func Find(u URI) (TokenInfo, error) {
	if u.Module() == "" {
		return TokenInfo{}, fmt.Errorf("%w: a module-path is missing", ErrURI)
	}
	all, err := listModule(u.Module())
	if err != nil {
		return TokenInfo{}, err
	}
	t, err := u.choose(all)
	if err != nil {
		return TokenInfo{}, err
	}
	return TokenInfo{t.label, t.manufacturer, t.model, t.serial, u.Module()}, nil
}

// URI returns a URI that means this token and no other, as long as serials are what they should be.
func (i TokenInfo) URI() URI {
	var u URI
	u.path[atToken], u.path[atSerial], u.module = value{true, i.Label}, value{true, i.Serial}, value{true, i.module}
	return u
}

// URI returns what the token was opened by.
func (t *Token) URI() URI { return t.uri }

// Close ends all sessions, forgets the PIN and lets go of the module. It waits for operations under way. It may be called
// again; everything else fails afterwards. It fails when a call does not return, and leaves the module as it is then.
func (t *Token) Close() error {
	t.mu.Lock()
	if errors.Is(t.final, errClosed) {
		t.mu.Unlock()
		return nil
	}
	stuck := errors.Is(t.final, errStuck)
	t.final = errClosed
	t.mu.Unlock()
	if stuck {
		return errStuck
	}
	t.again.Wait() // an attempt under way leaves no connection behind
	err := t.gate.replace(t.options.Patience, func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.connection.close()
		t.old.close()
		t.connection, t.old = nil, nil
		return nil
	})
	if err != nil {
		return err
	}
	t.device.close()
	t.pin.Wipe()
	return nil
}

// open refuses work after Close, and when the token is given up.
func (t *Token) open() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.final != nil {
		return unavailable(t.final)
	}
	return nil
}

// Probe returns what the token can do, as it was found out when the token was opened, and how each base key works therefore.
func (t *Token) Probe(ctx context.Context) (Report, error) {
	c, err := t.current(ctx)
	if err != nil {
		return Report{}, err
	}
	r := t.report
	r.Checks = slices.Clone(r.Checks)
	for _, e := range c.keys.Load().list() {
		if e.info.Attributes.Usage == keys.UsageBDK {
			r.Keys = append(r.Keys, KeyReport{
				Ref: e.info.Ref, KeyMode: e.info.Labels.KeyMode, PINExposure: e.info.Labels.PINExposure, Why: t.why(e),
			})
		}
	}
	return r, nil
}

// why says what the labels of a base key come from.
func (t *Token) why(e *entry) string {
	const exposed = "; a PIN passes through host memory, because its block is opened under one key and closed under another"
	switch {
	case e.distributes:
		return "it is for a key-distribution host: initial keys come out for terminals, and no transaction is worked on"
	case e.info.Labels.PINExposure == engine.None:
		return "AES keys are derived inside, and PIN blocks carried from key to key as wrapped keys, shown by known answers; " +
			"nobody looks at a block"
	case e.info.Labels.KeyMode == engine.Token:
		return "AES keys are derived inside, shown by known answers" + exposed
	case e.info.Attributes.Algorithm.IsTDES():
		return "TDES DUKPT needs parts of keys joined, which tokens do not do: the initial key comes out for one request" + exposed
	case t.report.OK(CheckDerive):
		return "the key may encrypt and not derive: the initial key comes out for one request" + exposed
	}
	return "the token does not derive AES keys: the initial key comes out for one request" + exposed
}

// Keys returns what is public about every key of ours in the token, by name.
func (t *Token) Keys(ctx context.Context) ([]engine.KeyInfo, error) {
	c, err := t.current(ctx)
	if err != nil {
		return nil, err
	}
	var out []engine.KeyInfo
	for _, e := range c.keys.Load().list() {
		out = append(out, e.info)
	}
	return out, nil
}

// Stats returns what the token did so far.
func (t *Token) Stats() Stats {
	t.mu.Lock()
	c := t.connection
	t.mu.Unlock()
	s := Stats{
		Derivations: t.counts.derivations.Load(), Finds: t.counts.finds.Load(), Reconnects: t.counts.reconnects.Load(),
		Retries: t.counts.retries.Load(), Evictions: t.counts.evictions.Load(), Generation: t.device.generation(), Connected: c != nil,
	}
	if c != nil {
		s.CachedKeys = c.paths.size()
	}
	return s
}

// use calls f with a connection and a session, and once more when the token or the session was lost on the way and could be
// got back. So f may be repeated: it changes nothing outside before it succeeds. What says that the token cannot work now
// wraps engine.ErrUnavailable.
func (t *Token) use(ctx context.Context, f func(*connection, *lease) error) error {
	ctx, cancel := context.WithTimeout(ctx, t.options.Wait)
	defer cancel()
	for repeated := false; ; repeated = true {
		c, err := t.current(ctx)
		if err != nil {
			return err
		}
		err = t.once(ctx, c, f)
		if err == nil {
			return nil
		}
		switch {
		case errors.Is(err, errShut): // somebody else is reconnecting, and current waits for it
			if ctx.Err() != nil {
				return err
			}
			continue
		case classify(err) == classLogin, classify(err) == classLost:
			t.lost(c, err)
		case classify(err) == classBusy:
			return unavailable(err)
		case classify(err) != classSession:
			return err
		}
		if repeated {
			return unavailable(err)
		}
		t.counts.retries.Add(1)
	}
}

// once calls f with a connection and a session.
func (t *Token) once(ctx context.Context, c *connection, f func(*connection, *lease) error) error {
	l, err := c.pool.take(ctx)
	if err != nil {
		return err
	}
	defer c.pool.put(l)
	if err := t.gate.enter(c.count); err != nil {
		return err
	}
	defer t.gate.leave()
	if c.device.enter(c.generation) != nil { // the module is being started anew for another token, or was
		return rvNotInitialized
	}
	defer c.device.leave()
	if err := c.pool.ready(l); err != nil {
		return err
	}
	err = f(c, l)
	if err != nil && classify(err) == classSession {
		l.spoilt = true
	}
	if l.spoilt { // while the call is still under way: afterwards the handle may be another session
		c.pool.drop(l)
	}
	return err
}

// Format prints the URI, whatever the verb.
func (t *Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, t.String()) }

// String returns the URI.
func (t *Token) String() string {
	if t == nil {
		return "hsm.Token(none)"
	}
	return "hsm.Token(" + t.uri.String() + ")"
}

// LogValue logs the URI.
func (t *Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText gives encoders the URI.
func (t *Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
