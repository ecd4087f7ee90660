package feed

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// clock is one that a test sets.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) set(offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset = offset
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func terminal(name string) identity.Identity {
	return identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: name}
}

func TestFollowerOverTheNetwork(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.put(t, "T-1", nil)
	changes := make(chan struct{}, 100)
	o := r.options(t, r.listen(t))
	o.Changed = func() { changes <- struct{}{} }
	f := newFollower(t, o)
	if err := f.Check(t.Context()); !errors.Is(err, ErrStale) {
		t.Errorf("before the first page: %v, want ErrStale", err)
	}
	if err := f.Admit(terminal("T-1"), "0a0b"); err == nil {
		t.Error("a terminal is admitted before the first page")
	}
	if err := f.Admit(identity.Identity{Tenant: tenant, Role: identity.Decrypt, Name: "D"}, "01"); err != nil {
		t.Errorf("a service is turned away: %v", err)
	}
	stop := run(t, f)
	check(t, f.WaitFor(soon(t), 1, 1))
	check(t, f.Check(t.Context()))
	check(t, f.Admit(terminal("T-1"), "0a0b"))
	<-changes

	begun := time.Now()
	sequence := r.status(t, "T-1", keyset.StatusRevoked)
	check(t, f.WaitFor(soon(t), 1, sequence))
	t.Logf("a change is known after %v", time.Since(begun))
	<-changes
	if err := f.Admit(terminal("T-1"), "0a0b"); err == nil {
		t.Error("a revoked terminal is admitted")
	}
	r.restart(t)
	check(t, f.WaitFor(soon(t), 2, 1))
	if err := f.Run(t.Context()); err == nil {
		t.Error("two at once run")
	}
	stop()
	if f.Failures() != 0 {
		t.Errorf("%d failures", f.Failures())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.WaitFor(ctx, 9, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for ever: %v", err)
	}
}

// TestAdmit tries every status and serial number.
func TestAdmit(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	c := new(clock)
	o := r.options(t, "https://127.0.0.1:1")
	o.Clock = c.now
	f := newFollower(t, o)
	until := time.Now().Add(time.Minute).Truncate(time.Second)
	for s := keyset.StatusPending; s <= keyset.StatusRetired; s++ {
		r.put(t, keyset.TerminalID(fmt.Sprintf("T-%d", s)), func(x *keyset.Terminal) {
			x.Status, x.PreviousSerial, x.PreviousUntil = s, "0c", until
		})
	}
	r.put(t, "NEW", func(x *keyset.Terminal) { x.Status, x.Serial = keyset.StatusPending, "" })
	check(t, f.learnPage(t, r.mustPage(t, 0, 0)))
	admitted := map[keyset.Status]bool{
		keyset.StatusPending: true, keyset.StatusActive: true, keyset.StatusBlocked: true, keyset.StatusQuarantined: true,
	}
	for s := keyset.StatusPending; s <= keyset.StatusRetired; s++ {
		id := terminal(fmt.Sprintf("T-%d", s))
		for serial, good := range map[string]bool{"0a0b": true, "0c": true, "": false, "0A0B": false, "0d": false} {
			if err := f.Admit(id, serial); (err == nil) != (good && admitted[s]) {
				t.Errorf("%v with serial %q: %v", s, serial, err)
			}
		}
	}
	for name, id := range map[string]identity.Identity{
		"unknown": terminal("T-9"), "another tenant": {Tenant: "OTHER", Role: identity.Terminal, Name: "T-2"}, "nobody": terminal(""),
	} {
		if err := f.Admit(id, "0a0b"); err == nil {
			t.Errorf("%s is admitted", name)
		}
	}
	for _, serial := range []string{"", "0a0b", "0c"} {
		if err := f.Admit(terminal("NEW"), serial); err == nil {
			t.Errorf("a terminal without certificate is admitted with serial %q", serial)
		}
	}
	c.set(2 * time.Minute)
	if err := f.Admit(terminal("T-2"), "0c"); err == nil {
		t.Error("the previous certificate is admitted after its end")
	}
	check(t, f.Admit(terminal("T-2"), "0a0b"))
	c.set(6 * time.Minute)
	if err := f.Admit(terminal("T-2"), "0a0b"); !errors.Is(err, ErrStale) {
		t.Errorf("stale: %v, want ErrStale", err)
	}
	if _, ok := f.Terminal(tenant, "T-2"); !ok {
		t.Error("a stale follower forgets what it knew")
	}
}

// TestLostAndFound: a follower that has lost the authority refuses terminals after a while, and admits them when it
// hears again.
func TestLostAndFound(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.put(t, "T-1", nil)
	o := r.options(t, r.listen(t))
	o.Stale = 2500 * time.Millisecond
	f := newFollower(t, o)
	run(t, f)
	check(t, f.WaitFor(soon(t), 1, 1))
	check(t, f.Admit(terminal("T-1"), "0a0b"))
	r.set(func() { r.down = true })
	until(t, "stale", func() bool { return f.Admit(terminal("T-1"), "0a0b") != nil })
	if d := time.Since(f.Heard()); d < o.Stale || d > o.Stale+2*time.Second {
		t.Errorf("stale %v after the last sign of life, want %v", d, o.Stale)
	}
	if err := f.Check(t.Context()); !errors.Is(err, ErrStale) {
		t.Errorf("Check: %v, want ErrStale", err)
	}
	if f.Failures() == 0 {
		t.Error("no failure is counted")
	}
	r.set(func() { r.down = false })
	until(t, "fresh", func() bool { return f.Admit(terminal("T-1"), "0a0b") == nil })
	check(t, f.Check(t.Context()))
}

// TestSnapshotAfterForgery: a follower that is told something wrong believes nothing of it and starts over.
func TestSnapshotAfterForgery(t *testing.T) {
	t.Parallel()
	stranger := newRegistry(t)
	stranger.put(t, "T-1", nil)
	for name, tamper := range map[string]func(*Page) *Page{
		"forged record": func(p *Page) *Page { p.Records = stranger.log; return p },
		"left out":      func(p *Page) *Page { p.Records = p.Records[1:]; return p },
		"forged head":   func(p *Page) *Page { p.Head = stranger.mustPage(t, 1, 1).Head; return p },
		"no page":       func(*Page) *Page { return &Page{Head: []byte{0}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			r.put(t, "T-1", nil)
			o := r.options(t, r.listen(t))
			f := newFollower(t, o)
			run(t, f)
			check(t, f.WaitFor(soon(t), 1, 1))
			tampered := false
			r.set(func() {
				r.tamper = func(p *Page) *Page {
					if p.Snapshot || len(p.Records) == 0 {
						return p
					}
					tampered = true
					return tamper(p)
				}
			})
			sequence := r.status(t, "T-1", keyset.StatusBlocked)
			check(t, f.WaitFor(soon(t), 1, sequence))
			f.at(t, 1, sequence, keyset.StatusBlocked)
			if f.Failures() == 0 {
				t.Error("no failure is counted")
			}
			r.set(func() {
				if !tampered || r.asked[0] != "epoch=0&after=0" {
					t.Errorf("tampered %t, asked %v", tampered, r.asked)
				}
				snapshots := 0
				for _, q := range r.asked[1:] {
					if q == "epoch=0&after=0" {
						snapshots++
					}
				}
				if snapshots != 1 {
					t.Errorf("%d snapshots asked for, want 1: %v", snapshots, r.asked)
				}
			})
		})
	}
}

// TestRollbackOverTheNetwork: an authority that has lost its last records is not followed, until it begins a new epoch.
func TestRollbackOverTheNetwork(t *testing.T) {
	t.Parallel()
	r, _ := newStory(t)
	o := r.options(t, r.listen(t))
	o.Stale = time.Second
	f := newFollower(t, o)
	run(t, f)
	check(t, f.WaitFor(soon(t), 1, 5))
	old := r.past(t, 4)
	r.set(func() {
		r.log, r.hashes, r.about, r.latest, r.known = old.log, old.hashes, old.about, old.latest, old.known
	})
	until(t, "stale", func() bool { return f.Check(t.Context()) != nil })
	f.at(t, 1, 5, keyset.StatusRevoked)
	r.restart(t)
	check(t, f.WaitFor(soon(t), 2, 2))
	until(t, "fresh", func() bool { return f.Check(t.Context()) == nil })
}

// TestPrunedFeed: who asks for records that are gone gets a snapshot.
func TestPrunedFeed(t *testing.T) {
	t.Parallel()
	r, _ := newStory(t)
	f := newFollower(t, r.options(t, r.listen(t)))
	check(t, f.learnPage(t, r.past(t, 2).mustPage(t, 0, 0)))
	r.pruned = 4
	run(t, f)
	check(t, f.WaitFor(soon(t), 1, 5))
	f.at(t, 1, 5, keyset.StatusRevoked)
}

// TestSeveralAuthorities: when one does not answer, the next is asked.
func TestSeveralAuthorities(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.put(t, "T-1", nil)
	o := r.options(t, r.listen(t))
	o.URLs = []string{"https://127.0.0.1:1", o.URLs[0]}
	f := newFollower(t, o)
	run(t, f)
	check(t, f.WaitFor(soon(t), 1, 1))
	check(t, f.Check(t.Context()))
}

// TestBadAnswers: whatever an authority answers that is no page changes nothing, and is tried again.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.put(t, "T-1", nil)
	good := r.listen(t)
	f := newFollower(t, r.options(t, good))
	for name, answer := range map[string]func(http.ResponseWriter){
		"another status": func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"a redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", good+PathFeed)
			w.WriteHeader(http.StatusFound)
		},
		"another type": func(w http.ResponseWriter) { w.Header().Set("Content-Type", "text/plain"); _, _ = w.Write([]byte("x")) },
		"too much": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ContentType)
			w.Header().Set("Content-Length", fmt.Sprint(maxPageBytes+1))
			_, _ = w.Write([]byte("x"))
		},
		"cut short": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", ContentType)
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("x"))
		},
		"nothing": func(w http.ResponseWriter) { w.Header().Set("Content-Type", ContentType) },
	} {
		config := r.serverConfig(t)
		url := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }), config, nil)
		if _, err := f.poll(t.Context(), url); err == nil {
			t.Errorf("%s is a page", name)
		}
		f.at(t, 0, 0, 0)
	}
	silent := listen(t, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }), r.serverConfig(t), nil)
	begun := time.Now()
	_, err := f.client.page(t.Context(), silent, 1, 1, 100*time.Millisecond)
	if !errors.Is(err, errSilence) || time.Since(begun) > 10*time.Second {
		t.Errorf("an authority that says nothing: %v after %v", err, time.Since(begun))
	}
	if _, err := f.poll(t.Context(), good); err != nil {
		t.Errorf("the authority itself: %v", err)
	}
	f.at(t, 1, 1, keyset.StatusActive)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for name, change := range map[string]func(*Options){
		"no URL":            func(o *Options) { o.URLs = nil },
		"http":              func(o *Options) { o.URLs = []string{"http://127.0.0.1"} },
		"no host":           func(o *Options) { o.URLs = []string{"https://"} },
		"a slash":           func(o *Options) { o.URLs = []string{"https://127.0.0.1/"} },
		"a query":           func(o *Options) { o.URLs = []string{"https://127.0.0.1?x=1"} },
		"a password":        func(o *Options) { o.URLs = []string{"https://a:b@127.0.0.1"} },
		"one bad of two":    func(o *Options) { o.URLs = append(o.URLs, "") },
		"no client":         func(o *Options) { o.Client = nil },
		"default client":    func(o *Options) { o.Client = http.DefaultClient },
		"no roots":          func(o *Options) { o.Services = nil },
		"empty roots":       func(o *Options) { o.Services = x509.NewCertPool() },
		"no tenant":         func(o *Options) { o.Tenant = "" },
		"stale in the past": func(o *Options) { o.Stale = -1 },
	} {
		o := r.options(t, "https://127.0.0.1:1")
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestManyTerminals reads a snapshot of 5,000 terminals and says what one of 100,000 would take. It measures, and so
// runs alone.
func TestManyTerminals(t *testing.T) {
	n := 5000
	if testing.Short() {
		n = 500
	}
	r := newRegistry(t)
	for i := range n {
		r.known[terminalID(i)] = newTerminal(terminalID(i))
	}
	r.restart(t)
	body, err := r.mustPage(t, 0, 0).Marshal()
	check(t, err)
	f := newFollower(t, r.options(t, "https://127.0.0.1:1"))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // pools of others are empty only after the second
	runtime.ReadMemStats(&before)
	begun := time.Now()
	_, err = f.learn(body)
	check(t, err)
	took := time.Since(begun)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := len(f.Terminals()); got != n {
		t.Fatalf("%d terminals, want %d", got, n)
	}
	runtime.KeepAlive(r)
	runtime.KeepAlive(body)
	kept := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	times := 100_000 / n
	t.Logf("%d terminals: page of %d bytes read in %v, %d bytes kept; 100,000 would take %v, a page of %d MiB and keep %d MiB",
		n, len(body), took, kept, took*time.Duration(times), len(body)*times>>20, kept*int64(times)>>20)
	if took > time.Minute {
		t.Errorf("%v for %d terminals", took, n)
	}
}
