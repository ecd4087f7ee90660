package feed

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	defaultStale = 5 * time.Minute
	// maxPause bounds the wait after failures, so that a terminal that is revoked meanwhile is cut soon after.
	maxPause   = time.Second
	firstPause = 50 * time.Millisecond
	// leastRound keeps an authority that does not wait before it says that there is nothing new from being asked all the
	// time.
	leastRound = 100 * time.Millisecond
)

// Options say whom to follow. URLs, Client, Services and Tenant are required.
type Options struct {
	URLs     []string         // of the authority, tried in turn
	Client   *http.Client     // as in Client.HTTP
	Services *x509.CertPool   // roots of the services authority
	Tenant   keyset.TenantID  // whose terminals
	Clock    func() time.Time // nil: time.Now
	Stale    time.Duration    // how long the last sign of life counts; 0: 5 minutes
	Changed  func()           // called after each change, from Run, and must return soon; nil: nobody is told
	Logger   *slog.Logger     // nil: slog.Default
	Cache    string           // file that what was learnt is kept in, of this process alone; empty: none
}

// Follower knows the latest word of the authority on each terminal. It is safe for concurrent use.
type Follower struct {
	options  Options
	client   Client
	verifier *Verifier
	running  atomic.Bool
	failures atomic.Uint64

	// Only Run, and New before it, change what is below; Run reads it without the lock.
	cache    cache
	resync   bool          // ask for a snapshot
	patience time.Duration // how long an answer is waited for
	mu       sync.RWMutex
	state    state
	heard    time.Time     // of the last sign of life, zero if there was none
	unkept   error         // why the cache file does not hold what is known
	advanced chan struct{} // closed with the next change
}

// New returns a follower that knows what its cache file holds, if that is whole and properly signed. It learns more
// while Run runs.
func New(o Options) (*Follower, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Stale == 0 {
		o.Stale = defaultStale
	}
	if o.Stale < 0 {
		return nil, errors.New("feed: stale after less than nothing")
	}
	verifier, err := NewVerifier(o.Services, o.Tenant, o.Clock)
	if err != nil {
		return nil, err
	}
	f := &Follower{
		options: o, client: Client{URLs: o.URLs, HTTP: o.Client}, verifier: verifier, cache: cache{path: o.Cache},
		advanced: make(chan struct{}), patience: silence,
	}
	if err := f.client.validate(); err != nil {
		return nil, err
	}
	if err := f.cache.load(f.remember); err != nil {
		o.Logger.Warn("cache of the registry feed is not used", "path", o.Cache, "error", err)
		f.heard, f.resync, f.unkept = time.Time{}, true, err // what was read of it still keeps the feed from going back
	}
	return f, nil
}

// Run follows the feed until ctx ends, and returns nil then. Only one Run runs at a time.
func (f *Follower) Run(ctx context.Context) error {
	if !f.running.CompareAndSwap(false, true) {
		return errors.New("feed: the follower is running already")
	}
	defer f.running.Store(false)
	pause, failing := firstPause, time.Time{}
	for i := 0; ; {
		begun := time.Now()
		news, err := f.poll(ctx, f.options.URLs[i%len(f.options.URLs)])
		if ctx.Err() != nil {
			return nil
		}
		rest := time.Duration(0)
		switch {
		case err != nil:
			i++
			rest, pause = rand.N(pause)+pause/4, min(2*pause, maxPause*4/5)
			f.failures.Add(1)
			if time.Since(failing) > time.Minute {
				f.options.Logger.Warn("registry feed", "error", err)
				failing = time.Now()
			}
		case !news:
			rest = leastRound - time.Since(begun)
			fallthrough
		default:
			pause, failing = firstPause, f.recovered(failing)
		}
		if !sleep(ctx, rest) {
			return nil
		}
	}
}

// recovered says that what failed works again, if it failed.
func (f *Follower) recovered(failing time.Time) time.Time {
	if !failing.IsZero() {
		f.options.Logger.Info("registry feed is heard again")
	}
	return time.Time{}
}

// sleep waits, and reports whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// poll asks one authority once, and reports whether it had news.
func (f *Follower) poll(ctx context.Context, root string) (news bool, err error) {
	at := f.state.position
	if now := f.options.Clock(); f.resync || f.cache.due(now) {
		at, f.cache.asked = position{}, now
	}
	body, err := f.client.page(ctx, root, at.epoch, at.sequence, f.patience)
	if errors.Is(err, errSilence) {
		f.patience = min(2*f.patience, maxSilence) // a large snapshot is not put together in no time
	}
	if err != nil {
		return false, err
	}
	f.patience = silence
	news, err = f.learn(body)
	switch {
	case err == nil:
		f.resync = false
	case errors.Is(err, ErrFormat) || errors.Is(err, ErrSignature) || errors.Is(err, ErrOrder):
		f.resync = true
	}
	return news, err
}

// learn takes a page from the network.
func (f *Follower) learn(body []byte) (news bool, err error) {
	p, h, err := f.open(body)
	if err != nil {
		return false, err
	}
	now := f.options.Clock()
	lag := now.Sub(h.Time)
	if lag > f.options.Stale || -lag > f.options.Stale {
		return false, misdated(h, now)
	}
	c, err := f.judge(p, h)
	if err != nil {
		return false, err
	}
	if c.epoch != f.state.epoch {
		f.options.Logger.Info("registry feed begins", "epoch", c.epoch, "sequence", c.sequence, "terminals", len(c.terminals),
			"before", f.state.epoch)
	}
	news = c.position != f.state.position
	f.commit(c, h, now, lag)
	if news {
		f.options.Changed()
	}
	// Only now: who is revoked is out at once, and a disk that hangs does not keep the door open.
	f.keep(body, p.Snapshot, news, now)
	return news, nil
}

// keep has the cache keep a page, and says so when it cannot and when it can again.
func (f *Follower) keep(body []byte, snapshot, news bool, now time.Time) {
	err := f.cache.keep(body, snapshot, news, now)
	switch {
	case err != nil:
		f.options.Logger.Warn("registry feed cannot be kept", "path", f.options.Cache, "error", err)
	case f.unkept != nil && f.cache.size > 0:
		f.options.Logger.Info("registry feed is kept again", "path", f.options.Cache)
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unkept = err
}

// remember takes a page from the cache. It may be old, which only Heard tells, but not from the future.
func (f *Follower) remember(body []byte) error {
	p, h, err := f.open(body)
	if err != nil {
		return err
	}
	c, err := f.judge(p, h)
	if err != nil {
		return err
	}
	now := f.options.Clock()
	lag := now.Sub(h.Time)
	if -lag > f.options.Stale {
		return misdated(h, now)
	}
	f.commit(c, h, now, lag)
	return nil
}

func misdated(h *Head, now time.Time) error {
	return fmt.Errorf("%w: head is of %v, and here it is %v", ErrStale, h.Time, now.UTC().Truncate(time.Second))
}

// open reads a page and believes its head.
func (f *Follower) open(body []byte) (*Page, *Head, error) {
	p, err := ParsePage(body)
	if err != nil {
		return nil, nil, err
	}
	h, err := f.verifier.Head(p.Head, p.Chain)
	if err != nil {
		return nil, nil, err
	}
	if p.Snapshot != (h.Snapshot != [sha256.Size]byte{}) {
		return nil, nil, disorder("page and head do not agree whether this is a snapshot")
	}
	if err := f.begun(h.Epoch); err != nil {
		return nil, nil, err
	}
	return p, h, f.state.forward(h) // before the work of verifying what comes with it
}

// begun refuses an epoch from the future. Each is the Unix second in which it began, and none is followed by a lower one:
// a single page from the end of time, signed with a stolen key, would shut out the authority for good.
func (f *Follower) begun(epoch uint64) error {
	latest := f.options.Clock().Add(f.options.Stale).Unix()
	if epoch > uint64(max(latest, 0)) {
		return fmt.Errorf("%w: epoch %d has not begun, %d would be the latest now", ErrStale, epoch, latest)
	}
	return nil
}

func (f *Follower) judge(p *Page, h *Head) (*change, error) {
	records, err := f.verifier.records(p)
	if err != nil {
		return nil, err
	}
	return f.state.judge(h, records)
}

// records opens all the records of a page, on all processors.
func (v *Verifier) records(p *Page) ([]opened, error) {
	out := make([]opened, len(p.Records))
	errs := make([]error, len(p.Records))
	var next atomic.Int64
	var failed atomic.Bool
	work := func() {
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(out) {
				return
			}
			out[i].Record, out[i].hash, errs[i] = v.Record(p.Records[i], p.Chain)
			if errs[i] != nil {
				failed.Store(true)
			}
		}
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(out)) - 1 {
		workers.Go(work)
	}
	work()
	workers.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%w (record %d of %d)", err, i+1, len(out))
		}
	}
	return out, nil
}

// commit makes what was judged known. A head that is ahead of the records that came is no sign of life: they are missing.
func (f *Follower) commit(c *change, h *Head, now time.Time, lag time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.apply(c)
	if c.sequence == h.Sequence {
		f.heard = now.Add(-max(lag, 0)) // keeps the monotonic reading
	}
	close(f.advanced)
	f.advanced = make(chan struct{})
}

// WaitFor returns nil as soon as the follower knows the record of this position, or one after it, or the error of ctx.
func (f *Follower) WaitFor(ctx context.Context, epoch, sequence uint64) error {
	for {
		f.mu.RLock()
		at, advanced := f.state.position, f.advanced
		f.mu.RUnlock()
		if at.epoch > epoch || at.epoch == epoch && at.sequence >= sequence {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-advanced:
		}
	}
}

// Position returns the position of the latest record that is known; zeros before the first page.
func (f *Follower) Position() (epoch, sequence uint64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.state.epoch, f.state.sequence
}

// Heard returns when the authority last gave a sign of life, by the clock of the follower; zero if never.
func (f *Follower) Heard() time.Time {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.heard
}

// Failures returns how many answers of the authority could not be had or were not believed.
func (f *Follower) Failures() uint64 { return f.failures.Load() }

// CacheErr returns why the cache file does not hold what is known, so that a restart now might not notice a feed that has
// gone back. It is nil while all is well, and without a cache file. Terminals are admitted all the same.
func (f *Follower) CacheErr() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.unkept
}

// Check returns nil while what is known is up to date, for a readiness check. The error wraps ErrStale.
func (f *Follower) Check(context.Context) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.fresh()
}

// fresh needs the lock. The age is the larger one of two: the monotonic clock stands still while a machine sleeps, and
// the other one can be set.
func (f *Follower) fresh() error {
	if f.heard.IsZero() {
		return fmt.Errorf("%w: nothing heard of the registration authority yet", ErrStale)
	}
	now := f.options.Clock()
	age := max(now.Sub(f.heard), now.Round(0).Sub(f.heard.Round(0)))
	if age > f.options.Stale {
		return fmt.Errorf("%w: nothing heard of the registration authority for %v", ErrStale, age.Truncate(time.Second))
	}
	return nil
}
