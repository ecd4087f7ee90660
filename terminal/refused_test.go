package terminal_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// door is an acquirer's host that lets terminals in, or not.
type door struct {
	url   string
	shut  atomic.Bool
	tries atomic.Int32 // how often it has turned somebody away
}

func newDoor(t *testing.T, lab *terminaltest.Lab, h http.HandlerFunc) *door {
	t.Helper()
	d := new(door)
	d.url = serveBehind(t, lab, tlsconf.GateFunc(func(identity.Identity, string) error {
		if d.shut.Load() {
			d.tries.Add(1)
			return errors.New("revoked")
		}
		return nil
	}), h)
	return d
}

// serveBehind listens as the acquirer's host of the lab, behind a gate.
func serveBehind(t *testing.T, lab *terminaltest.Lab, gate tlsconf.Gate, h http.HandlerFunc) string {
	t.Helper()
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: lab.Server(t), Trust: lab.Trust, Accept: []identity.Role{identity.Terminal}, Gate: gate,
	})
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := &http.Server{
		Handler: h, TLSConfig: config, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = s.ServeTLS(l, "", "") }() // ends with Close
	t.Cleanup(func() { _ = s.Close() })
	return "https://" + l.Addr().String()
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	ack(w, body)
}

// TestLinkCertificateRefused has hosts turn the terminal away. A link goes on for a moment, because a host may just have
// started, and then says that it is useless; not as long as one host may let it in.
func TestLinkCertificateRefused(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	first, second := newDoor(t, lab, echo), newDoor(t, lab, echo)
	first.shut.Store(true)
	second.shut.Store(true)
	accept := func([]byte) error { return nil }

	w := &timing{}
	err := newLink(t, lab, w, first.url, second.url).Exchange(t.Context(), []byte("m"), accept)
	var waited time.Duration
	for _, p := range w.pauses {
		waited += p
	}
	if !errors.Is(err, terminal.ErrCertificateRefused) || waited < 2*time.Second || waited > 6*time.Second {
		t.Errorf("turned away by all: %v after pauses of %v", err, w.pauses)
	}
	if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("%v does not tell the alert", err)
	}

	w = &timing{}
	o := w.options()
	o.Sleep = func(_ context.Context, d time.Duration) error {
		w.pauses = append(w.pauses, d)
		if len(w.pauses) == 2 {
			second.shut.Store(false)
		}
		return nil
	}
	l, err := lab.Bundle(t, terminal.Endpoint{URL: first.url}, terminal.Endpoint{URL: second.url}).Link(o)
	check(t, err)
	defer l.Close()
	check(t, l.Exchange(t.Context(), []byte("m"), accept))
	if len(w.pauses) != 2 {
		t.Errorf("%d pauses until the second host lets it in", len(w.pauses))
	}
}

// TestLinkRestart has one host down, or the only one ail and then turn the terminal away as it starts: the link goes on.
func TestLinkRestart(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	shut := newDoor(t, lab, echo)
	shut.shut.Store(true)
	for name, down := range map[string]string{
		"nobody listens": "https://127.0.0.1:1",
		"broken off":     serve(t, lab, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"ailing":         serve(t, lab, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }),
		"no TLS":         plain(t),
		"anybody":        forger(t),
	} {
		for _, urls := range [][]string{{down}, {down, shut.url}, {shut.url, down}} {
			ctx, cancel := context.WithCancel(t.Context())
			w := &timing{}
			o := w.options()
			o.Sleep = func(context.Context, time.Duration) error {
				if w.pauses = append(w.pauses, 0); len(w.pauses) == 9 {
					cancel()
				}
				return ctx.Err()
			}
			var endpoints []terminal.Endpoint
			for _, u := range urls {
				endpoints = append(endpoints, terminal.Endpoint{URL: u})
			}
			l, err := lab.Bundle(t, endpoints...).Link(o)
			check(t, err)
			err = l.Exchange(ctx, []byte("m"), func([]byte) error { return nil })
			if err == nil || errors.Is(err, terminal.ErrCertificateRefused) || len(w.pauses) != 9 {
				t.Errorf("%s of %d: %v after %d pauses", name, len(urls), err, len(w.pauses))
			}
			l.Close()
		}
	}

	ails := true
	host := newDoor(t, lab, func(w http.ResponseWriter, r *http.Request) {
		if ails {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		echo(w, r)
	})
	w := &timing{}
	o := w.options()
	var l *terminal.Link
	o.Sleep = func(_ context.Context, d time.Duration) error {
		switch w.pauses = append(w.pauses, d); len(w.pauses) {
		case 5: // the pause was long
			ails = false
			host.shut.Store(true)
			l.Close()
		case 6:
			host.shut.Store(false)
		}
		return nil
	}
	l, err := lab.Bundle(t, terminal.Endpoint{URL: host.url}).Link(o)
	check(t, err)
	defer l.Close()
	check(t, l.Exchange(t.Context(), []byte("m"), func([]byte) error { return nil }))
	if host.tries.Load() == 0 {
		t.Error("the host has not turned the terminal away")
	}
}

// plain listens without TLS.
func plain(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	s := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	go func() { _ = s.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = s.Close() })
	return "https://" + l.Addr().String()
}

// forger answers each connection with the alert bad_certificate, as anybody on the way can before there are keys.
func forger(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 64)) // of the first flight
			_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 42})
			_, _ = io.Copy(io.Discard, c) // until the terminal gives up
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return "https://" + l.Addr().String()
}

// TestSaleCertificateRefused keeps the sale of a terminal that is turned away, and settles it when it is let in.
func TestSaleCertificateRefused(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	d := newDoor(t, lab, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer, err := lab.Host.Receive(body)
		if err != nil {
			w.WriteHeader(http.StatusConflict)
			return
		}
		ack(w, answer)
	})
	d.shut.Store(true)
	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	check(t, terminal.Import(medium, sealer, lab.Bundle(t, terminal.Endpoint{URL: d.url})))
	w := &timing{}
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Network: w.options()})
	check(t, err)
	defer term.Close()
	_, err = term.SignIn(t.Context())
	if !errors.Is(err, terminal.ErrCertificateRefused) {
		t.Errorf("sign-in: %v", err)
	}
	_, err = term.Sale(t.Context(), sale(t, false))
	unanswered, ok := errors.AsType[*terminal.UnansweredError](err)
	if !ok || !errors.Is(err, terminal.ErrCertificateRefused) || len(term.Pending()) != 1 {
		t.Fatalf("sale: %v, %d unanswered", err, len(term.Pending()))
	}
	_, err = term.Resend(t.Context(), &unanswered.Pending)
	if !errors.Is(err, terminal.ErrCertificateRefused) || len(term.Pending()) != 1 {
		t.Errorf("resend: %v, %d unanswered", err, len(term.Pending()))
	}
	d.shut.Store(false)
	r, err := term.Resend(t.Context(), &unanswered.Pending)
	check(t, err)
	if r.Result != message.Approved || len(term.Pending()) != 0 {
		t.Errorf("%v, %d unanswered", r.Result, len(term.Pending()))
	}
}

// TestEnrollEnvironment: a terminal is for one environment, and the sealer of tests is for tests.
func TestEnrollEnvironment(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		environment keyset.Environment
		authority   keyset.Environment
		err         error
		silent      bool // nobody has heard of it
	}{
		{"not said", 0, keyset.Test, nil, false},
		{"not said, in production", 0, keyset.Production, terminal.ErrInsecure, false},
		{"test", keyset.Test, keyset.Test, nil, false},
		{"test, in production", keyset.Test, keyset.Production, terminal.ErrInsecure, false},
		{"production", keyset.Production, keyset.Test, terminal.ErrInsecure, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ra := terminaltest.NewRA(t, terminaltest.NewLab(t, dukpt.AES))
			ra.Assign = func(a *remote.Assignment) { a.Environment = c.authority }
			var paths []string
			ra.Before = func(path string) error { paths = append(paths, path); return nil }
			o := options(t, ra)
			o.Environment = c.environment
			medium := terminaltest.NewFS()
			if err := enrolInto(t.Context(), medium, o); !errors.Is(err, c.err) {
				t.Fatalf("%v, want %v", err, c.err)
			}
			if c.err == nil {
				return
			}
			if (len(paths) == 0) != c.silent || slices.Contains(paths, terminaltest.PathEnrollAgreement) {
				t.Errorf("asked for %q", paths)
			}
		})
	}
	ra := terminaltest.NewRA(t, terminaltest.NewLab(t, dukpt.AES))
	o := options(t, ra)
	medium := terminaltest.NewFS()
	for _, e := range []keyset.Environment{99, keyset.Production} {
		o.Environment, o.Ticket = e, ra.Ticket(t)
		err := terminal.Enroll(t.Context(), medium, soldered{}, o)
		if err == nil || errors.Is(err, terminal.ErrAssignment) != (e == keyset.Production) {
			t.Errorf("a device for %v in test: %v", e, err)
		}
	}
	o.Environment, o.Ticket = keyset.Test, enroll.Ticket{}
	check(t, terminal.Enroll(t.Context(), medium, soldered{}, o)) // it goes on with the right one
}

// soldered is a sealer that is not called insecure, and is.
type soldered struct{}

func (soldered) Name() string                                { return "soldered" }
func (soldered) Seal(_ string, plain []byte) ([]byte, error) { return slices.Clone(plain), nil }
func (soldered) Open(_ string, sealed []byte) (secret.Bytes, error) {
	return secret.From(sealed), nil
}

// TestEnrollAttestationOfAnother refuses certificates that are not those of the agreement key before anybody hears of it.
func TestEnrollAttestationOfAnother(t *testing.T) {
	t.Parallel()
	ra := terminaltest.NewRA(t, terminaltest.NewLab(t, dukpt.AES))
	ra.Before = func(path string) error { t.Errorf("it asks for %s", path); return nil }
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	check(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	other, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	own, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), other)
	check(t, err)
	strange, err := x509.CreateCertificate(cryptorand.Reader, template, template, other.Public(), other)
	check(t, err)
	for name, c := range map[string]struct {
		key         []byte
		attestation [][]byte
	}{
		"of another key":              {der, [][]byte{strange}},
		"of another key, first":       {der, [][]byte{strange, own}},
		"no certificate":              {der, [][]byte{own[1:], own}},
		"without the key":             {nil, [][]byte{own}},
		"with something else as key":  {der[1:], [][]byte{own}},
		"an empty certificate, alone": {der, [][]byte{nil}},
	} {
		o := options(t, ra)
		o.Agreement, o.Attestation = secret.From(c.key), c.attestation
		medium := terminaltest.NewFS()
		err := enrolInto(t.Context(), medium, o)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, begun := medium.Content()["enrolment"]; begun {
			t.Errorf("%s: an enrolment has begun", name)
		}
	}
}
