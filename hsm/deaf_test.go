package hsm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// deafToken is the token of all tests with such modules, which do not run beside each other. Each module has its own SoftHSM.
var deafToken hsmtest.Token

// deafModule returns a module that can be told not to answer, and the URI of its token.
func deafModule(t *testing.T) (*hsmtest.Deaf, URI) {
	t.Helper()
	if !Built {
		hsmtest.Absent(t, ErrNoBridge)
	}
	if deafToken == (hsmtest.Token{}) {
		deafToken = hsmtest.New(t)
	}
	d := hsmtest.NewDeaf(t, deafToken)
	return d, mustURI(t, d.URI())
}

// opens opens a token and closes it again.
func opens(ctx context.Context, u URI, o Options) error {
	token, err := Open(ctx, u, secret.From([]byte(hsmtest.PIN)), o)
	if err != nil {
		return err
	}
	return token.Close()
}

// deafCalls are the calls into a module that a token is opened by.
var deafCalls = []string{"dlopen", "C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_Login", "C_Finalize", "C_CloseSession"}

// hung opens a token, whose module does not return from a call, and has that noticed: with patience for everything else, however
// busy the machine is. Nobody is in the module any more when the channel is closed.
func hung(t *testing.T, d *hsmtest.Deaf, u URI, call string, stuck func()) (arrived chan struct{}, err error) {
	t.Helper()
	before, watches, ended := d.Calls(call), make(chan *watch, 1), make(chan error, 1)
	arrived = make(chan struct{})
	go func() {
		ended <- opens(t.Context(), u, Options{
			call: time.Hour, opening: time.Hour, Stuck: stuck, watching: func(w *watch) { watches <- w }, arrived: func() { close(arrived) },
		})
	}()
	w := <-watches
	hurries(t, d, w, call, before)
	select {
	case err := <-ended:
		return arrived, err
	case <-time.After(time.Minute):
		t.Fatalf("%s hangs, and so does Open", call)
		return nil, nil
	}
}

// hurries waits for a call that hangs, of which there were so many before, and has it be late.
func hurries(t *testing.T, d *hsmtest.Deaf, w *watch, call string, before int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); d.Calls(call) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not called", call)
		}
	}
	w.hurry(time.Nanosecond)
}

// callsOf counts them all.
func callsOf(d *hsmtest.Deaf) (n int) {
	for _, call := range deafCalls {
		n += d.Calls(call)
	}
	return n
}

// TestOpenDeaf has a module not return from a call while it is loaded, initialised, listed, or logged in to: Open says which call, and
// nobody gets into the module any more, by whatever path, not after the call has returned either. It does not run beside tests that
// load modules: who is stuck in dlopen keeps the others out.
func TestOpenDeaf(t *testing.T) {
	for _, call := range []string{"dlopen", "C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_Login", "C_Finalize"} {
		t.Run(call, func(t *testing.T) {
			d, u := deafModule(t)
			release, stuck := d.Hang(call), make(chan struct{}, 10)
			arrived, err := hung(t, d, u, call, func() { stuck <- struct{}{} })
			if !errors.Is(err, ErrStuck) || !errors.Is(err, engine.ErrUnavailable) || !strings.Contains(err.Error(), call) {
				t.Fatalf("got %v, want ErrStuck and %s", err, call)
			}
			receive(t, "word that it is stuck", stuck)
			refused := func(when string) {
				t.Helper()
				before := callsOf(d)
				for name, again := range map[string]func() error{
					"Open": func() error { return opens(t.Context(), u, Options{}) },
					"by another path": func() error {
						return opens(t.Context(), mustURI(t, "pkcs11:token="+d.Label+"?module-path="+d.Link()), Options{})
					},
					"Tokens": func() error { _, err := Tokens(t.Context(), d.Module); return err },
					"Find":   func() error { _, err := Find(t.Context(), u); return err },
				} {
					if err := again(); !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), call) || !strings.Contains(err.Error(), d.Module) {
						t.Errorf("%s, %s: got %v", when, name, err)
					}
				}
				if after := callsOf(d); after != before {
					t.Errorf("%s: %d calls into the module", when, after-before)
				}
			}
			refused("while the call hangs")
			release()
			receive(t, "the end of the call", arrived)
			refused("after the call has returned")
			if tries := d.Calls("C_Login"); tries > 1 || tries == 1 && call != "C_Login" {
				t.Errorf("%d logins after the token was given up", tries)
			}
			if len(stuck) != 0 {
				t.Errorf("Stuck was called %d times more", len(stuck))
			}
		})
	}
}

// TestModuleReplaced has a link lead to another module, as an update does: what was opened by it stays what it was, also for who comes by
// its own name, and who comes by the link gets the new one.
func TestModuleReplaced(t *testing.T) {
	before, u := deafModule(t)
	after, _ := deafModule(t)
	link := before.Link()
	linked := mustURI(t, "pkcs11:token="+before.Label+"?module-path="+link)
	for range 2 { // the second time a library is there, whose module is not loaded
		if err := opens(t.Context(), linked, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(after.Module, link); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		u           URI
		called, not *hsmtest.Deaf
	}{"by its own name": {u, before, after}, "by the link": {linked, after, before}} {
		called, not := callsOf(tt.called), callsOf(tt.not)
		if err := opens(t.Context(), tt.u, Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if callsOf(tt.called) == called || callsOf(tt.not) != not {
			t.Errorf("%s: the wrong module is called", name)
		}
	}
	missing := mustURI(t, "pkcs11:token=a?module-path="+link)
	if err := errors.Join(os.Remove(link), os.WriteFile(link, []byte("no module"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := opens(t.Context(), missing, Options{}); !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), link) {
		t.Errorf("what is no module: %v", err)
	}
}

// TestOpenEnds ends the context of an Open whose module takes its time: Open returns, in the call or in front of it, and whoever comes
// when the call has returned gets the token.
func TestOpenEnds(t *testing.T) {
	d, u := deafModule(t)
	for _, call := range []string{"C_Initialize", "C_OpenSession"} {
		release, logins, arrived := d.Hang(call), d.Calls("C_Login"), make(chan struct{}, 10)
		wants := []error{context.DeadlineExceeded, context.Canceled, context.DeadlineExceeded}
		for _, want := range wants {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if want == context.Canceled {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			err := opens(ctx, u, Options{Patience: time.Hour, arrived: func() { arrived <- struct{}{} }})
			cancel()
			if !errors.Is(err, want) || errors.Is(err, engine.ErrUnavailable) != (want == context.DeadlineExceeded) || errors.Is(err, ErrStuck) {
				t.Errorf("%s: got %v, want %v", call, err, want)
			}
			if _, err := Tokens(ctx, d.Module); !errors.Is(err, want) {
				t.Errorf("%s: listed: %v", call, err)
			}
		}
		release()
		if err := opens(t.Context(), u, Options{}); err != nil {
			t.Errorf("%s has returned: %v", call, err)
		}
		for range wants {
			receive(t, "the end of those who gave up", arrived)
		}
		if n := d.Calls("C_Login") - logins; n != 1 {
			t.Errorf("%s: %d logins, want that of the last", call, n)
		}
	}
}

// TestCloseDeaf has a module not return from what Close calls.
func TestCloseDeaf(t *testing.T) {
	for _, call := range []string{"C_CloseSession", "C_Finalize"} {
		t.Run(call, func(t *testing.T) {
			d, u := deafModule(t)
			o := Options{call: time.Hour, opening: time.Hour}
			token, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), o)
			if err != nil {
				t.Fatal(err)
			}
			release, before, closed := d.Hang(call), d.Calls(call), make(chan error, 1)
			go func() { closed <- token.Close() }()
			hurries(t, d, token.watch, call, before)
			if err := <-closed; !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), call) {
				t.Errorf("Close: %v", err)
			}
			if err := token.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
			refused := func() {
				t.Helper()
				if err := opens(t.Context(), u, Options{}); !errors.Is(err, ErrStuck) {
					t.Errorf("opened again: %v", err)
				}
			}
			refused()
			release()
			until(t, "the end of the call", func() bool { return token.watch.at() == "" && forgotten(token) })
			refused()
		})
	}
}

// TestRestartDeaf has a module not return when it is started anew, because the token was lost: nobody logs in for what was given up.
func TestRestartDeaf(t *testing.T) {
	for _, call := range []string{"C_Finalize", "C_Initialize", "C_OpenSession"} {
		t.Run(call, func(t *testing.T) {
			d, u := deafModule(t)
			stuck := make(chan struct{}, 10)
			token, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), Options{
				call: time.Hour, opening: time.Hour, Wait: time.Hour, Clock: lasting(), Stuck: func() { stuck <- struct{}{} },
			})
			if err != nil {
				t.Fatal(err)
			}
			c, err := token.current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			release, before, logins := d.Hang(call), d.Calls(call), d.Calls("C_Login")
			token.lost(c, rvDeviceError)
			ended := make(chan error, 1)
			go func() {
				_, err := token.Keys(t.Context())
				ended <- err
			}()
			hurries(t, d, token.watch, call, before)
			receive(t, "word that it is stuck", stuck)
			if _, err := token.Keys(t.Context()); !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), call) {
				t.Errorf("afterwards: %v", err)
			}
			if err := opens(t.Context(), u, Options{}); !errors.Is(err, ErrStuck) {
				t.Errorf("opened beside it: %v", err)
			}
			release()
			if err := <-ended; err != nil && !errors.Is(err, ErrStuck) {
				t.Errorf("who waited: %v", err)
			}
			until(t, "the end of the PIN", func() bool { return forgotten(token) })
			token.again.Wait()
			if n := d.Calls("C_Login") - logins; n != 0 || len(stuck) != 0 {
				t.Errorf("%d logins for what was given up; Stuck was called %d times more", n, len(stuck))
			}
			if err := token.Close(); !errors.Is(err, ErrStuck) {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// TestCloseBesideRestart has the token closed while a module does not return from its being started anew: Close says so, and when the call
// is back after all, what it left is tidied up once, and the PIN is gone.
func TestCloseBesideRestart(t *testing.T) {
	d, u := deafModule(t)
	token, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), Options{call: time.Hour, opening: time.Hour, Wait: time.Hour, Clock: lasting()})
	if err != nil {
		t.Fatal(err)
	}
	c, err := token.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release, before, replaced := d.Hang("C_Initialize"), d.Calls("C_Initialize"), token.gate.count()
	token.lost(c, rvDeviceError)
	ended, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := token.Keys(t.Context())
		ended <- err
	}()
	for deadline := time.Now().Add(time.Minute); d.Calls("C_Initialize") == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("C_Initialize is not called")
		}
	}
	go func() { closed <- token.Close() }()
	until(t, "Close", func() bool { return errors.Is(token.open(), errClosed) })
	token.watch.hurry(time.Nanosecond)
	if err := <-closed; !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "C_Initialize") {
		t.Errorf("Close: %v", err)
	}
	if forgotten(token) {
		t.Error("the PIN is wiped under a call that may use it")
	}
	release()
	if err := <-ended; !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("who waited: %v", err)
	}
	until(t, "the end of Close", func() bool { return token.gate.count() == replaced+2 }) // the attempt has replaced, and then Close
	if c, err := token.current(t.Context()); c != nil || !errors.Is(err, errClosed) || !forgotten(token) {
		t.Errorf("afterwards: connection %v, %v; PIN wiped: %v", c, err, forgotten(token))
	}
}

// forgotten reports whether a token has no PIN any more.
func forgotten(t *Token) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pin.IsZero()
}

// TestOpenHangs has a call of the first connection not return: Open says which one, and nothing is tried afterwards.
func TestOpenHangs(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	for call, name := range map[string]string{
		"openSession": "C_OpenSession", "login": "C_Login", "encrypt": "C_Encrypt", "generateKeyPair": "C_GenerateKeyPair",
	} {
		var release func()
		watches, ended := make(chan *watch, 1), make(chan error, 1)
		o, faults := withFaults(Options{call: time.Hour, watching: func(w *watch) { watches <- w }}, func(f *faulty) { release = f.hangs(call) })
		go func() { ended <- opens(t.Context(), u, o) }()
		w := <-watches
		f := *faults
		receive(t, "the call that hangs", f.hanging)
		w.hurry(time.Nanosecond)
		err := <-ended
		if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s hangs: %v", call, err)
		}
		if n := f.count("abandon"); n != 1 {
			t.Errorf("%s hangs: the module is refused %d times", call, n)
		}
		calls, logins := f.count(call), f.count("login")
		release()
		until(t, "the end of the sessions", func() bool {
			sessions, _, _ := f.live()
			return sessions == 0 && f.count("closeSession") > 0
		})
		if n := f.count("login"); n != logins || call != "openSession" && f.count(call) != calls {
			t.Errorf("%s has returned: %d calls and %d logins more", call, f.count(call)-calls, n-logins)
		}
		f.cryptoki.close(func(string) {}) // for the other tests: nothing hangs in truth
	}
	openAgain(t, u, Options{})
}

// TestNoFunctions has modules that give no functions: they are refused, and nothing is called that is not there.
func TestNoFunctions(t *testing.T) {
	t.Parallel()
	if !Built {
		hsmtest.Absent(t, ErrNoBridge)
	}
	for name, source := range map[string]string{
		"an error":    "unsigned long C_GetFunctionList(void **list) { return 5; }",
		"no list":     "unsigned long C_GetFunctionList(void **list) { *list = 0; return 0; }",
		"no function": "int x;",
	} {
		module := hsmtest.Module(t, source)
		for range 2 {
			if err := opens(t.Context(), mustURI(t, "pkcs11:token=a?module-path="+module), Options{}); !errors.Is(err, ErrModule) {
				t.Errorf("%s: opened: %v", name, err)
			}
			if _, err := Tokens(t.Context(), module); !errors.Is(err, ErrModule) {
				t.Errorf("%s: listed: %v", name, err)
			}
		}
	}
}
