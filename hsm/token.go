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

	watch   *watch // the device, with a deadline for its calls
	loading turn   // of one key at a time
	gaveUp  sync.Once
	stuck   chan struct{} // closed when a call does not return
	stuckBy error         // then: which one

	gate  gate           // operations inside use the connection of its count
	again sync.WaitGroup // the attempt under way, the first one in Open among them

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
	signers    sync.Map // of half, by URI
	paths      *paths
	ended      sync.Once
}

// close ends the sessions, where the module is still the one that they are of. Nobody is inside the gate of the token. It may be
// called again: an attempt that ends in a call that does not return leaves the old connection to Close, however far it came.
func (c *connection) close() {
	if c != nil {
		c.ended.Do(c.end)
	}
}

func (c *connection) end() {
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
	turn    turn // a session is for one call at a time
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
	waits, waited, busy                                        atomic.Uint64 // for sessions; waited in nanoseconds
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

	SessionsInUse int           // sessions that operations have now, of Options.Sessions
	Waits         uint64        // operations that waited for a session
	Waited        time.Duration // how long they waited, all together
	Busy          uint64        // of them, those that went away without one
	OldestCall    time.Duration // how long the oldest call into the module has been under way; 0 for none
}

// URI returns what the token was opened by.
func (t *Token) URI() URI { return t.uri }

// Close ends all sessions, forgets the PIN and lets go of the module. It waits for operations under way. It may be called
// again; everything else fails afterwards. It fails with ErrStuck when a call does not return, and leaves the module as it is then.
func (t *Token) Close() error {
	t.mu.Lock()
	before := t.final
	t.final = errClosed
	t.mu.Unlock()
	switch {
	case errors.Is(before, errClosed):
		return nil
	case errors.Is(before, ErrStuck):
		return before
	}
	ended := make(chan error, 1)
	go func() { ended <- t.end() }()
	select {
	case err := <-ended:
		return err
	case <-t.stuck:
		return t.stuckBy
	}
}

// end makes the calls of Close.
func (t *Token) end() error {
	t.forget() // after an attempt under way, which leaves no connection behind
	err := t.gate.replace(t.options.Patience, func() error {
		t.mu.Lock()
		c, old := t.connection, t.old
		t.connection, t.old = nil, nil
		t.mu.Unlock()
		c.close()
		old.close()
		return nil
	})
	if err != nil {
		t.device.abandon(err)
		return err
	}
	t.device.close(func(string) {})
	return nil
}

// forget wipes the PIN when nobody can log in by it any more: a login that hangs has it until it comes back. No attempt begins after it.
func (t *Token) forget() {
	t.again.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pin.Wipe()
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
	case e.info.Labels.KeyMode == engine.Token && e.info.Attributes.Algorithm.IsTDES():
		return t.whyOneCall() + exposed
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
	s.Waits, s.Waited, s.Busy = t.counts.waits.Load(), time.Duration(t.counts.waited.Load()), t.counts.busy.Load()
	s.OldestCall = t.watch.oldest()
	if c != nil {
		s.CachedKeys, s.SessionsInUse = c.paths.size(), c.pool.inUse()
	}
	return s
}

// giveUp says that a call into the module does not return. Nothing is asked of the token any more.
func (t *Token) giveUp(call string) {
	why := stuckIn(call)
	t.mu.Lock()
	closed := errors.Is(t.final, errClosed)
	if t.final == nil {
		t.final = why
	}
	t.mu.Unlock()
	t.abandon(why, !closed) // Close says it, if it has been called
}

// abandon has nobody get into the module any more, and tells the program.
func (t *Token) abandon(why error, tell bool) {
	t.device.abandon(why)
	t.gaveUp.Do(func() {
		t.stuckBy = why
		close(t.stuck)
		go t.forget() // it ends with the call, if that does
		if tell {
			t.options.Log.Error("a call into the module does not return", "token", t, "cause", why)
			t.options.Stuck()
		}
	})
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
		case doubtful(err) && repeated: // another PKCS#11 session has not helped
			return t.settle(ctx, c, err)
		case classify(err) != classSession && !doubtful(err):
			return err
		}
		if repeated {
			return unavailable(err)
		}
		t.counts.retries.Add(1)
	}
}

// settle says what a doubtful error means, by what the token has answered before: where it answers again the error is of the request,
// whoever makes it how often; else the token is lost.
func (t *Token) settle(ctx context.Context, c *connection, doubt error) error {
	err := t.once(ctx, c, t.answers)
	if err == nil || classify(err) == classRequest && !doubtful(err) && !errors.Is(err, engine.ErrUnavailable) {
		return doubt
	}
	if k := classify(err); doubtful(err) || k == classSession || k == classLogin || k == classLost {
		t.lost(c, fmt.Errorf("%w: %w", errSilent, doubt))
	}
	return unavailable(doubt)
}

// answers asks for what the token has answered before: it uses one key after another, call by call, and without keys a published one,
// or looks for keys where it takes none from outside.
func (t *Token) answers(c *connection, l *lease) error {
	list := c.keys.Load().list()
	if len(list) == 0 && !t.report.OK(CheckAESECB) {
		_, err := t.objectsOf(c, l.session)
		return err
	}
	if len(list) == 0 {
		p := &prober{device: c.device, session: l.session, shape: t.shape}
		defer p.tidy()
		return p.aesECB()
	}
	e := list[t.probe.Add(1)%uint64(len(list))]
	r := reader{device: c.device, session: l.session, shape: t.shape}
	return r.is(e.object, e.info.Attributes.Algorithm, e.base != 0, e.info.Fingerprint)
}

// unrepeated says what an error means of what is not repeated, because it may have happened already.
func (t *Token) unrepeated(ctx context.Context, c *connection, err error) error {
	switch k := classify(err); {
	case k == classLogin, k == classLost:
		t.lost(c, err)
		return unavailable(err)
	case k == classBusy, k == classSession:
		return unavailable(err)
	case doubtful(err):
		err = t.settle(ctx, c, err)
	}
	return unsupported(err)
}

// once calls f with a connection and a session.
func (t *Token) once(ctx context.Context, c *connection, f func(*connection, *lease) error) error {
	l, err := c.pool.take(ctx)
	if err != nil {
		return err
	}
	defer c.pool.put(l)
	l.ctx = ctx
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
	if err != nil && (classify(err) == classSession || doubtful(err)) {
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
