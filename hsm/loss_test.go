package hsm

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// fast is a clock on which pauses between attempts pass quickly.
func fast() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(100 * time.Since(start)) }
}

// lasting is a clock by which every connection has lasted, and every pause is over, when it is looked at.
func lasting() func() time.Time {
	var hours atomic.Int64
	return func() time.Time { return time.Unix(3600*hours.Add(1), 0) }
}

// until polls for something that has to become true soon.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 5 s", what)
		}
	}
}

// TestLosses kills the token again and again under load. Every request is answered rightly or refused as unavailable, the
// service is back within 5 s of the token, and nothing is left behind. It is not parallel: it counts goroutines.
func TestLosses(t *testing.T) {
	const callers = 8
	losses := 20
	if soaking() {
		losses = 1000
	}
	o, faults := withFaults(Options{Clock: fast(), Wait: 2 * time.Second}, nil)
	token := open(t, o)
	f, e := *faults, token.Engine()
	aes, tdes := put(t, token, keys.AES128), put(t, token, keys.TDES2)
	tills := map[keys.Algorithm]*till{
		keys.AES128: newTill(t, keys.AES128, "1234567890123456"), keys.TDES2: newTill(t, keys.TDES2, "FFFF9876543210E00000"),
	}
	var inAES, inTDES []sent
	for range 20 {
		inAES, inTDES = append(inAES, tills[keys.AES128].send(t)), append(inTDES, tills[keys.TDES2].send(t))
	}
	logins := f.count("login")
	quiet := runtime.NumGoroutine()
	var longest time.Duration
	var stop atomic.Bool
	var right, refused, wrong atomic.Int64
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			for i := n; !stop.Load(); i++ {
				s, base := inAES[i%20], aes
				if i%2 == 0 {
					s, base = inTDES[i%20], tdes
				}
				switch err := s.verify(t, e, base); {
				case err == nil:
					right.Add(1)
				case errors.Is(err, engine.ErrUnavailable):
					refused.Add(1)
				default:
					wrong.Add(1)
					t.Errorf("%v: %v", s.ksn, err)
				}
			}
		})
	}
	for loss := range losses {
		before := right.Load()
		until(t, "work before a loss", func() bool { return right.Load() > before+5 })
		made := token.Stats().Reconnects
		f.die(loss%2 == 0)
		before = refused.Load()
		if loss%2 == 0 { // away for a while: requests are refused meanwhile
			until(t, "a refusal", func() bool { return refused.Load() > before })
		}
		f.revive()
		start := time.Now()
		until(t, "another connection", func() bool { return token.Stats().Reconnects > made })
		before = right.Load() // an answer that was under way when the token died does not count
		until(t, "service after the token is back", func() bool { return right.Load() > before })
		longest = max(longest, time.Since(start))
	}
	stop.Store(true)
	wg.Wait()
	until(t, "goroutines as before", func() bool { return runtime.NumGoroutine() <= quiet })
	stats := token.Stats()
	if wrong.Load() > 0 || right.Load() == 0 || stats.Reconnects < uint64(losses) {
		t.Errorf("%d right, %d refused, %d wrong; %+v", right.Load(), refused.Load(), wrong.Load(), stats)
	}
	if tried := f.count("login") - logins; tried > f.count("restart") {
		t.Errorf("%d logins in %d restarts", tried, f.count("restart"))
	}
	sessions, objects, most := f.live()
	if sessions > 6 || most > 6 || objects != stats.CachedKeys { // SoftHSM lets no base key be copied
		t.Errorf("%d sessions, %d at most, %d objects of which %d are cached keys", sessions, most, objects, stats.CachedKeys)
	}
	t.Logf("%d right, %d refused in %d losses; service back after %v at most", right.Load(), refused.Load(), losses, longest.Round(time.Millisecond))
}

// TestRepeated plants one error of each class into an operation, and looks at what becomes of it.
func TestRepeated(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{Clock: fast()}, nil)
	token := open(t, o)
	f, e := *faults, token.Engine()
	base, till := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456")
	for name, tt := range map[string]struct {
		call     string
		errs     []error
		want     error
		restarts int
		again    int // connections
	}{
		"spoilt session":           {"sign", []error{rvOperationActive}, nil, 0, 0},
		"closed session":           {"sign", []error{rvSessionHandle}, nil, 0, 0},
		"spoilt sessions":          {"sign", []error{rvSessionHandle, rvSessionHandle}, engine.ErrUnavailable, 0, 0},
		"keys are gone":            {"sign", []error{rvKeyHandle}, nil, 0, 1},
		"logged out":               {"deriveKey", []error{rvUserNotIn}, nil, 0, 1},
		"session of kept keys":     {"deriveKey", []error{rvSessionClosed}, nil, 0, 1},
		"device error":             {"sign", []error{rvDeviceError}, nil, 1, 1},
		"token removed":            {"deriveKey", []error{rvDeviceRemoved}, nil, 1, 1},
		"device errors":            {"sign", []error{rvDeviceError, rvDeviceError}, engine.ErrUnavailable, -1, -1},
		"no memory":                {"deriveKey", []error{rvDeviceMemory}, engine.ErrUnavailable, 0, 0},
		"failed":                   {"sign", []error{rvFailed}, nil, 0, 0},
		"a maker's error":          {"deriveKey", []error{rv(0x80000001)}, nil, 0, 0},
		"failed again":             {"sign", []error{rvFailed, rv(0xFFFFFFFF)}, dukpt.ErrUnsupported, 0, 0},
		"refused":                  {"sign", []error{rvKeySize}, dukpt.ErrUnsupported, 0, 0},
		"not of the module":        {"sign", []error{errPlanted}, errPlanted, 0, 0},
		"kept key cannot be freed": {"destroyObject", []error{rvFailed}, nil, 0, -1},
	} {
		s := till.send(t)
		until(t, "a connection", func() bool { return s.verify(t, e, base) == nil })
		s = till.send(t)
		restarts, again := f.count("restart"), token.Stats().Reconnects
		f.fail(tt.call, tt.errs...)
		var err error
		until(t, name, func() bool { // a connection lost a moment ago is not made anew at once
			err = s.verify(t, e, base)
			return tt.want != nil || err == nil || !errors.Is(err, engine.ErrUnavailable)
		})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
		if n := f.count("restart") - restarts; tt.restarts >= 0 && n != tt.restarts {
			t.Errorf("%s: %d restarts, want %d", name, n, tt.restarts)
		}
		if n := int(token.Stats().Reconnects - again); tt.again >= 0 && n != tt.again {
			t.Errorf("%s: %d connections, want %d", name, n, tt.again)
		}
		f.mu.Lock()
		clear(f.faults)
		f.mu.Unlock()
	}
	last := till.send(t) // the case that came last may have left the token lost
	until(t, "a connection", func() bool { return last.verify(t, e, base) == nil })
	if sessions, objects, _ := f.live(); sessions > 6 || objects != token.Stats().CachedKeys {
		t.Errorf("%d sessions, %d objects; %+v", sessions, objects, token.Stats())
	}
}

// TestForgotten has the module forget the keys when handles are gone: it is started anew once, and then taken at its word.
func TestForgotten(t *testing.T) {
	t.Parallel()
	for restarts, want := range map[int]error{1: nil, 2: engine.ErrKeyNotFound} {
		o, faults := withFaults(Options{Clock: fast()}, nil)
		token := open(t, o)
		f, e := *faults, token.Engine()
		base, till := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456")
		s := till.send(t)
		before := f.count("restart")
		f.mu.Lock()
		f.forgets = restarts
		f.mu.Unlock()
		f.fail("deriveKey", rvKeyHandle)
		var err error
		until(t, "a connection", func() bool {
			err = s.verify(t, e, base)
			return !errors.Is(err, engine.ErrUnavailable)
		})
		if !errors.Is(err, want) || f.count("restart") != before+1 {
			t.Errorf("forgotten for %d restarts: %v, %d restarts", restarts, err, f.count("restart")-before)
		}
		if sessions, _, _ := f.live(); sessions > 6 {
			t.Errorf("forgotten for %d restarts: %d sessions are left", restarts, sessions)
		}
	}
}

// TestPINOnReconnect has the PIN refused when the token comes back: it is tried once, and then never again.
func TestPINOnReconnect(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{Clock: lasting()}, nil)
	token := open(t, o)
	f := *faults
	base, s := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456").send(t)
	before := f.count("login")
	f.fail("login", fmt.Errorf("%w: %w", ErrPIN, rvPINIncorrect))
	f.fail("sign", rvDeviceError)
	until(t, "a reconnect", func() bool { return s.verify(t, token.Engine(), base) != nil && f.count("login") > before })
	for range 20 {
		if err := s.verify(t, token.Engine(), base); !errors.Is(err, engine.ErrUnavailable) {
			t.Fatalf("with the PIN refused: %v", err)
		}
	}
	if _, err := token.Keys(t.Context()); !errors.Is(err, ErrPIN) {
		t.Errorf("the reason is not told: %v", err)
	}
	if n := f.count("login") - before; n != 1 {
		t.Errorf("the PIN was tried %d times", n)
	}
}

// TestFlapping has a request that loses the token whenever it is made: it does not have the module started anew each time.
func TestFlapping(t *testing.T) {
	t.Parallel()
	var seconds atomic.Int64
	o, faults := withFaults(Options{Clock: func() time.Time { return time.Unix(seconds.Load(), 0) }}, nil)
	token := open(t, o)
	f := *faults
	base, s := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456").send(t)
	for range 10 {
		f.fail("sign", rvGeneral)
		if err := s.verify(t, token.Engine(), base); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if n := f.count("restart"); n != 0 {
		t.Errorf("%d restarts at one moment", n)
	}
	f.mu.Lock()
	clear(f.faults)
	f.mu.Unlock()
	seconds.Add(int64(maxPause/time.Second) + 1)
	if err := s.verify(t, token.Engine(), base); err != nil || f.count("restart") != 1 {
		t.Errorf("later: %v, %d restarts", err, f.count("restart"))
	}
	seconds.Add(int64(maxPause/time.Second) + 1)
	f.fail("sign", rvGeneral)
	if err := s.verify(t, token.Engine(), base); err != nil || f.count("restart") != 2 {
		t.Errorf("lost after a while: %v, %d restarts", err, f.count("restart"))
	}
}

// TestPeculiar has a request that fails whenever it is made, with words that others have for a lost line: the token answers everything
// else, so it is the request, and nothing is made anew for it.
func TestPeculiar(t *testing.T) {
	t.Parallel()
	for _, code := range []rv{rvFailed, rvVendor, 0xCE534351} {
		o, faults := withFaults(Options{Clock: lasting()}, nil)
		token := open(t, o)
		f := *faults
		base, s := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456").send(t)
		opened := f.count("openSession")
		for range 10 {
			f.fail("sign", code, code)
			if err := s.verify(t, token.Engine(), base); !errors.Is(err, code) || errors.Is(err, engine.ErrUnavailable) {
				t.Errorf("%v: got %v", code, err)
			}
		}
		if n := token.Stats().Reconnects; n != 0 || f.count("restart") != 0 {
			t.Errorf("%v: %d connections, %d restarts", code, n, f.count("restart"))
		}
		if n := f.count("openSession") - opened; n < 10 {
			t.Errorf("%v: tried again in the same session: %d were opened", code, n)
		}
	}
}

// TestVagueLine has the line of a token go, of which the module says nothing but that something failed: the token is lost, and found.
func TestVagueLine(t *testing.T) {
	t.Parallel()
	for _, code := range []rv{rvFailed, 0x80000130} {
		o, faults := withFaults(Options{Clock: fast()}, nil)
		token := open(t, o)
		f, e := *faults, token.Engine()
		vague := func() {
			f.mu.Lock()
			f.dead, f.says = true, code
			f.mu.Unlock()
		}
		vague() // before there is a key
		if _, err := token.Generate(t.Context(), alias(t, "no"), bdkAttributes(keys.AES128), keyset.Test); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("%v: generated: %v", code, err)
		}
		until(t, "a connection", func() bool { return e.Check(t.Context()) == nil })
		base, s := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456").send(t)
		for _, ask := range map[string]func() error{
			"a message": func() error { return s.verify(t, e, base) }, "a check": func() error { return e.Check(t.Context()) },
		} {
			vague()
			restarts := f.count("restart")
			if err := ask(); !errors.Is(err, engine.ErrUnavailable) {
				t.Errorf("%v: got %v", code, err)
			}
			until(t, "a connection", func() bool { return s.verify(t, e, base) == nil })
			if n := f.count("restart") - restarts; n != 1 {
				t.Errorf("%v: %d restarts", code, n)
			}
		}
	}
}

// TestVagueStart has a module say no more when a connection is made than that something failed: it is started anew, as for a lost line.
func TestVagueStart(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"openSession", "findObjects"} {
		o, faults := withFaults(Options{Clock: fast()}, nil)
		token := open(t, o)
		f, e := *faults, token.Engine()
		base, s := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456").send(t)
		c, err := token.current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		token.lost(c, rvUserNotIn)
		f.fail(call, rvFailed)
		until(t, "a connection", func() bool { return s.verify(t, e, base) == nil })
		if n := f.count("restart"); n != 1 {
			t.Errorf("%s: %d restarts", call, n)
		}
	}
}

// TestStuck has a call that does not return while the token is lost: nobody waits for it longer than it takes to notice.
func TestStuck(t *testing.T) {
	t.Parallel()
	var stuck atomic.Int64
	o, faults := withFaults(Options{Clock: fast(), Patience: 20 * time.Millisecond, call: time.Hour, Stuck: func() { stuck.Add(1) }}, nil)
	u := hsmURI(t)
	token := openAgain(t, u, o)
	f, e := *faults, token.Engine()
	base, till := put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456")
	release := make(chan struct{})
	f.mu.Lock()
	f.hang["sign"] = release
	f.mu.Unlock()
	first, second := till.send(t), till.send(t)
	done := make(chan error, 1)
	go func() { done <- first.verify(t, e, base) }()
	<-f.hanging
	f.fail("deriveKey", rvDeviceError)
	until(t, "a reconnect that waits", func() bool { return second.verify(t, e, base) != nil && stuck.Load() > 0 })
	start := time.Now()
	for range 3 {
		if err := second.verify(t, e, base); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("beside a stuck call: %v", err)
		}
	}
	if waited := time.Since(start); waited > time.Second {
		t.Errorf("waited %v for a stuck call", waited)
	}
	if n := stuck.Load(); n != 1 {
		t.Errorf("Stuck was called %d times", n)
	}
	f.mu.Lock()
	delete(f.hang, "sign")
	f.mu.Unlock()
	close(release)
	<-done
	if err := token.Close(); !errors.Is(err, ErrStuck) {
		t.Errorf("Close of what was given up: %v", err)
	}
	f.cryptoki.close(func(string) {}) // for the other tests: nothing hangs in truth
}

// TestManyCallers lets a thousand work on four sessions.
func TestManyCallers(t *testing.T) {
	t.Parallel()
	for _, cached := range []int{-1, 5, 4096} {
		t.Run(fmt.Sprint(cached), func(t *testing.T) {
			t.Parallel()
			manyCallers(t, Options{Sessions: 4, Owners: 2, Wait: time.Minute, CacheObjects: cached})
		})
	}
}

func manyCallers(t *testing.T, o Options) {
	t.Helper()
	o, faults := withFaults(o, nil)
	token := open(t, o)
	e := token.Engine()
	base, tdes := put(t, token, keys.AES128), put(t, token, keys.TDES2)
	var work []sent
	for n := range 10 {
		x := newTill(t, keys.AES128, fmt.Sprintf("12345678901234%02d", n))
		work = append(work, x.send(t), x.send(t))
	}
	x := newTill(t, keys.TDES2, "FFFF9876543210E00000")
	work = append(work, x.send(t), x.send(t))
	var wg sync.WaitGroup
	for n := range 1000 {
		wg.Go(func() {
			s, ref := work[n%len(work)], base
			if s.spec == x.mac {
				ref = tdes
			}
			if err := s.verify(t, e, ref); err != nil {
				t.Errorf("%v: %v", s.ksn, err)
			}
		})
	}
	wg.Wait()
	sessions, objects, most := (*faults).live()
	if most > 6 || sessions > 6 || objects != token.Stats().CachedKeys {
		t.Errorf("%d sessions now, %d at most; %d objects; %+v", sessions, most, objects, token.Stats())
	}
}
