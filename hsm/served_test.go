//go:build cgo && !nohsm

package hsm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// TestServedProbe holds what the page of tokens says of p11-kit server against what it does: it hands on few mechanisms.
func TestServedProbe(t *testing.T) {
	s := hsmtest.Serve(t)
	token := openAgain(t, mustURI(t, s.URI()), Options{})
	put(t, token, keys.AES128)
	put(t, token, keys.TDES2)
	r, err := token.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	can := map[string]bool{CheckAESECB: true, CheckDES3ECB: true, CheckHMAC: true, CheckSign: true}
	for _, c := range r.Checks {
		why := rvMechanism.Error()
		if c.Name == CheckShortHMAC { // of SoftHSM behind it
			why = rvKeySize.Error()
		}
		if c.OK != can[c.Name] || !c.OK && c.Why != why {
			t.Errorf("%+v", c)
		}
	}
	for _, k := range r.Keys {
		if k.KeyMode != engine.BDKInToken || k.PINExposure != engine.HostMemory {
			t.Errorf("%+v", k)
		}
	}
}

// TestServedDead opens a token whose server is dead, and opens it again when the server lives.
func TestServedDead(t *testing.T) {
	s := hsmtest.Serve(t)
	u := mustURI(t, s.URI())
	s.Kill()
	for range 2 {
		if err := opens(t.Context(), u, Options{}); !errors.Is(err, ErrNoToken) || !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("without the server: %v", err)
		}
	}
	s.Start()
	openAgain(t, u, Options{})
}

// served is what happened while a server was killed again and again.
type served struct {
	right, refused, wrong atomic.Int64
	longest               time.Duration // from the server to an answer
}

// TestServedLosses kills p11-kit server, and cuts its connections, while a token behind it makes signatures and initial keys and
// closes PIN blocks by ECB. Every request is answered rightly or refused as unavailable, the service is back within 5 s of the
// server, and nothing is left behind. It is not parallel: it counts goroutines.
func TestServedLosses(t *testing.T) {
	losses := 20
	if soaking() {
		losses = 1000
	}
	var r served
	r.run(t, losses)
	if r.wrong.Load() > 0 || r.right.Load() == 0 || r.refused.Load() == 0 {
		t.Errorf("%d right, %d refused, %d wrong", r.right.Load(), r.refused.Load(), r.wrong.Load())
	}
	t.Logf("%d right, %d refused in %d losses; service back after %v at most", r.right.Load(), r.refused.Load(), losses, r.longest.Round(time.Millisecond))
}

// run kills the server so many times under load, until there is a wrong answer.
func (r *served) run(t *testing.T, losses int) {
	t.Helper()
	const callers = 6
	s := hsmtest.Serve(t)
	first := runtime.NumGoroutine()
	// One session, and so one call at a time: when a server dies under several, p11-kit-client.so 0.24.1 may leave one of them waiting
	// for ever, and a process with such a call ends (Options.Stuck).
	token := openAgain(t, mustURI(t, s.URI()), Options{Clock: fast(), Wait: 2 * time.Second, Sessions: 1, Owners: 1})
	work := r.work(t, token)
	for _, one := range work {
		if err := one(); err != nil {
			t.Fatal(err)
		}
	}
	logins := token.counts.logins.Load()
	quiet := runtime.NumGoroutine()
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer stop.Store(true)
	for n := range callers {
		wg.Go(func() {
			for i := n; !stop.Load(); i++ {
				switch err := work[i%len(work)](); {
				case err == nil:
					r.right.Add(1)
				case errors.Is(err, engine.ErrUnavailable):
					r.refused.Add(1)
					time.Sleep(time.Millisecond) // leaves the machine to the server that is starting
				default:
					r.wrong.Add(1)
					t.Logf("wrong: %v", err)
				}
			}
		})
	}
	for loss := range losses {
		before := r.right.Load()
		until(t, "work before a loss", func() bool { return r.right.Load() > before+5 })
		made := token.Stats().Reconnects
		if loss%2 == 0 { // away for a while: requests are refused meanwhile
			s.Kill()
			before = r.refused.Load()
			until(t, "a refusal", func() bool { return r.refused.Load() > before })
			s.Start()
		} else if s.Cut() == 0 {
			t.Error("there is no connection")
		}
		start := time.Now()
		until(t, "another connection", func() bool { return token.Stats().Reconnects > made })
		before = r.right.Load() // an answer that was under way when the server died does not count
		until(t, "service after the server is back", func() bool { return r.right.Load() > before+int64(callers) })
		r.longest = max(r.longest, time.Since(start))
		if r.wrong.Load() > 0 {
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	if r.wrong.Load() > 0 {
		return
	}
	until(t, "goroutines as before", func() bool { return runtime.NumGoroutine() <= quiet })
	stats := token.Stats()
	if stats.Reconnects < uint64(losses) || stats.Generation < uint64(losses) {
		t.Errorf("%d losses, and %+v", losses, stats)
	}
	if tried := token.counts.logins.Load() - logins; tried > stats.Generation {
		t.Errorf("%d logins, and %+v", tried, stats)
	}
	if sessions, most := token.watch.cryptoki.(*bridge).sessions(t), 2+signingSessions; sessions > most {
		t.Errorf("%d sessions of the token are open, want %d at most", sessions, most)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, "the connection is closed", func() bool { return len(s.Connections()) == 0 })
	until(t, "goroutines as at first", func() bool { return runtime.NumGoroutine() <= first })
}

// sessions asks the token how many are open.
func (b *bridge) sessions(t *testing.T) int {
	t.Helper()
	info, err := b.library.ctx.GetTokenInfo(b.currentSlot())
	if err != nil {
		t.Fatal(err)
	}
	return int(info.SessionCount)
}

var errWrong = errors.New("a wrong answer")

// work returns the requests: each makes one, and fails with errWrong when the answer is another than before the first loss.
func (r *served) work(t *testing.T, token *Token) (all []func() error) {
	t.Helper()
	e := token.Engine()
	for _, scheme := range []struct {
		a   keys.Algorithm
		ksn string
	}{{keys.AES128, "123456789012345600000007"}, {keys.TDES2, "FFFF9876543210E00007"}} {
		base, zone := put(t, token, scheme.a), alias(t, "zone-"+scheme.a.String())
		if _, err := token.Import(t.Context(), zone, newKey(t, attributesFor(scheme.a, keys.UsagePIN, keys.ModeEncrypt), zoneKey), keyset.Test); err != nil {
			t.Fatal(err)
		}
		ksn := must(dukpt.ParseKSNHex(scheme.ksn))
		block := sealedPIN(t, scheme.a, ksn, pinFormat(scheme.a))
		want := must(answers(t, e, base, zone, ksn, block))
		f := pinFormat(scheme.a)
		c := must(blockOf(scheme.a, unhex(zoneKey)))
		pan := must(pin.ParsePAN("4111111111111111"))
		if b := must(f.Encrypt(nil, c, must(pin.ParsePIN([]byte("1234"))), pan, pin.Fill{5})); !bytes.Equal(want[:len(b)], b) {
			t.Fatalf("%v: the zone gets %X, want %X", scheme.a, want[:len(b)], b)
		}
		all = append(all, func() error {
			got, err := answers(t, e, base, zone, ksn, block)
			if err == nil && !bytes.Equal(got, want) {
				return errWrong
			}
			return err
		})
	}
	pair(t, token, "signer", "\x01")
	signer, err := token.Signer(t.Context(), mustURI(t, "pkcs11:object=signer"))
	if err != nil {
		t.Fatal(err)
	}
	return append(all, func() error {
		digest := sha256.Sum256(message)
		signature, err := signer.Sign(rand.Reader, digest[:], nil)
		if err == nil && !ecdsa.VerifyASN1(signer.Public().(*ecdsa.PublicKey), digest[:], signature) {
			return errWrong
		}
		return err
	})
}
