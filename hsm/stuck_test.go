package hsm

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/keys"
)

// hangs has the calls of a name wait until the function that it returns is called.
func (f *faulty) hangs(name string) (release func()) {
	wait := make(chan struct{})
	f.mu.Lock()
	f.hang[name] = wait
	f.mu.Unlock()
	return sync.OnceFunc(func() {
		f.mu.Lock()
		delete(f.hang, name)
		f.mu.Unlock()
		close(wait)
	})
}

// TestBusy has more callers than sessions, one of which does not come back: the others are told that the token is busy.
func TestBusy(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{Sessions: 1, Wait: 20 * time.Millisecond, Patience: time.Hour}, nil)
	token := open(t, o)
	e, base, till := token.Engine(), put(t, token, keys.AES128), newTill(t, keys.AES128, "1234567890123456")
	first, second := till.send(t), till.send(t)
	release := (*faults).hangs("sign")
	done := make(chan error, 1)
	go func() { done <- first.verify(t, e, base) }()
	receive(t, "the call that hangs", (*faults).hanging)
	for range 50 {
		if err := second.verify(t, e, base); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("without a free session: %v", err)
		}
	}
	release()
	if err := <-done; err != nil {
		t.Errorf("a call that was slow: %v", err)
	}
	if s := token.Stats(); s.Waits < 50 || s.Busy != 50 || s.Waited < 50*20*time.Millisecond*9/10 || s.SessionsInUse != 0 {
		t.Errorf("%+v", s)
	}
}

// TestHangs has one call of a kind not return, and a thousand callers beside it, while the token is there: every one of them ends,
// with the right answer or with word that the token cannot work now, and the program is told once that it should end.
func TestHangs(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"deriveKey", "destroyObject", "sign", "openSession", "encrypt"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			hangs(t, call)
		})
	}
}

func hangs(t *testing.T, call string) {
	t.Helper()
	stuck := make(chan struct{}, 10)
	o, faults := withFaults(Options{
		Sessions: 4, CacheObjects: 20, Wait: 50 * time.Millisecond, call: time.Hour, Stuck: func() { stuck <- struct{}{} },
	}, nil)
	token := open(t, o)
	f, e := *faults, token.Engine()
	base, tdes := put(t, token, keys.AES128), put(t, token, keys.TDES2)
	var work []sent
	for n := range 20 {
		x := newTill(t, keys.AES128, fmt.Sprintf("12345678901234%02d", n))
		work = append(work, x.send(t), x.send(t))
	}
	x := newTill(t, keys.TDES2, "FFFF9876543210E00000")
	work = append(work, x.send(t))
	verify := func(n int) error {
		if s := work[n%len(work)]; s.spec == x.mac {
			return s.verify(t, e, tdes)
		} else {
			return s.verify(t, e, base)
		}
	}
	release := f.hangsOnce(call)
	defer release()
	var right, refused atomic.Int64
	var ended sync.WaitGroup
	for n := range 1000 {
		ended.Add(1)
		go func() {
			defer ended.Done()
			switch err := verify(n); {
			case err == nil:
				right.Add(1)
			case errors.Is(err, engine.ErrUnavailable):
				refused.Add(1)
			default:
				t.Errorf("%d: %v", n, err)
			}
		}()
	}
	var met atomic.Bool
	ended.Add(1)
	go func() { // few of the thousand lead to the call, and on a busy machine they may all be turned away
		defer ended.Done()
		for n := 0; !met.Load(); n++ {
			_ = verify(n)
		}
	}()
	receive(t, "the call that hangs", f.hanging)
	met.Store(true)
	token.watch.hurry(100 * time.Millisecond)
	receive(t, "the end", stuck) // and nobody has lost the token meanwhile
	until(t, "the end of all callers but one", func() bool { return right.Load()+refused.Load() >= 999 })
	if stats := token.Stats(); stats.OldestCall < 100*time.Millisecond || !stats.Connected {
		t.Errorf("%+v", stats)
	}
	for range 10 {
		if err := verify(0); !errors.Is(err, engine.ErrUnavailable) || !errors.Is(err, ErrStuck) {
			t.Errorf("afterwards: %v", err)
		}
	}
	if err := e.Check(t.Context()); !errors.Is(err, ErrStuck) {
		t.Errorf("ready, with a call that does not return: %v", err)
	}
	if err := token.Close(); !errors.Is(err, ErrStuck) {
		t.Errorf("Close of what was given up: %v", err)
	}
	release()
	ended.Wait()
	if len(stuck) != 0 {
		t.Errorf("Stuck was called %d times more", len(stuck))
	}
	f.cryptoki.close(func(string) {}) // for the other tests: nothing hangs in truth
}

// hurry has calls take less time from here on.
func (w *watch) hurry(patience time.Duration) {
	w.mu.Lock()
	w.patience = patience
	w.mu.Unlock()
	w.look()
}

// receive waits for something that has to come.
func receive[T any](t *testing.T, what string, from <-chan T) {
	t.Helper()
	select {
	case <-from:
	case <-time.After(time.Minute):
		t.Fatalf("waited too long for %s", what)
	}
}

// hangsOnce has the next call of a name wait, and no other.
func (f *faulty) hangsOnce(name string) (release func()) {
	wait := make(chan struct{})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.once[name] = wait
	return sync.OnceFunc(func() { close(wait) })
}

// TestWatchesShort has a call hang after one that might have taken an hour: it is noticed in its own time, not in that of the other.
func TestWatchesShort(t *testing.T) {
	t.Parallel()
	for name, hangs := range map[string]string{"after it": "C_Sign", "beside it": "C_Login"} {
		late := make(chan string, 1)
		w := newWatch(nil, 50*time.Millisecond, func(call string) { late <- call })
		w.slow = time.Hour - w.patience
		step, end := w.stepping(func(string) {})
		step("C_Initialize")
		if name == "after it" {
			end()
		}
		w.begin(hangs, 0)
		select {
		case call := <-late:
			if call != hangs {
				t.Errorf("%s: %s is late", name, call)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: %s hangs, and nobody notices", name, hangs)
		}
		end()
	}
}

// TestWatch has calls that take their time, one after the other and side by side, for longer than a single one may.
func TestWatch(t *testing.T) {
	t.Parallel()
	var now time.Time
	late := 0
	w := newWatch(nil, 10*time.Second, func(string) { late++ })
	w.now = func() time.Time { return now }
	at := func(after time.Duration, want int, age time.Duration) {
		t.Helper()
		now = now.Add(after)
		w.look()
		if late != want || w.oldest() != age {
			t.Errorf("%d times late, want %d; the oldest call is %v old, want %v", late, want, w.oldest(), age)
		}
	}
	at(time.Hour, 0, 0)
	first := w.begin("C_Sign", 0)
	at(9*time.Second, 0, 9*time.Second)
	second := w.begin("C_Sign", 0)
	w.end(first)
	at(9*time.Second, 0, 9*time.Second)
	restart := w.begin("C_Sign", 10*time.Second) // may wait for the calls under way
	w.end(second)
	at(19*time.Second, 0, 9*time.Second)
	at(time.Second, 1, 10*time.Second)
	at(time.Hour, 1, time.Hour+10*time.Second) // once
	w.end(restart)
	w.begin("C_Sign", 0)
	at(time.Hour, 1, time.Hour)
}
