package enroll_test

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

func answering(f http.HandlerFunc) plan {
	p := plan{answers: make(map[string]http.HandlerFunc)}
	for _, path := range []string{
		est.PathCACerts, est.PathAttributes, est.PathEnroll, est.PathReenroll, est.PathAgreementEnroll, "/trust-list", "/enrolment", "/keys",
	} {
		p.answers[path] = f
	}
	return p
}

// calls makes every call there is and hands each result to check.
func calls(t *testing.T, a *authority, timeout time.Duration, check func(name string, err error)) {
	t.Helper()
	o := a.options()
	if timeout > 0 {
		o.Timeout = timeout
	}
	key := newKey(t, elliptic.P256())
	cred := credential(t, a.issue(t, ca.Request{PublicKey: key.Public(), Identity: terminal}), key)
	member, err := enroll.NewMember(o, a.list, cred)
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	csr := request(t, newKey(t, elliptic.P256()), terminal)
	agreed := request(t, newKey(t, elliptic.P256()), agreement)
	for name, call := range map[string]func() error{
		"CACerts":         func() error { _, err := member.CACerts(t.Context()); return err },
		"Attributes":      func() error { _, err := member.Attributes(t.Context()); return err },
		"Enroll":          func() error { _, err := member.Enroll(t.Context(), csr, secret.From([]byte(code))); return err },
		"Reenroll":        func() error { _, err := member.Reenroll(t.Context(), csr); return err },
		"EnrollAgreement": func() error { _, err := member.EnrollAgreement(t.Context(), agreed); return err },
		"TrustList":       func() error { _, err := member.TrustList(t.Context()); return err },
		"Assignment":      func() error { _, err := member.Assignment(t.Context()); return err },
		"Key": func() error {
			_, _, err := member.Key(t.Context(), &remote.Request{Slot: 1, Nonce: [32]byte{1}})
			return err
		},
	} {
		check(name, call())
	}
}

func TestOversizedAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusBadRequest} {
		a := newAuthority(t, answering(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write(bytes.Repeat([]byte("A"), 64<<10+1))
		}))
		calls(t, a, 0, func(name string, err error) {
			if !errors.Is(err, enroll.ErrAnswer) || !strings.Contains(err.Error(), "more than 65536 bytes") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	headers := newAuthority(t, answering(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("A", 64<<10))
	}))
	calls(t, headers, 0, func(name string, err error) {
		if err == nil {
			t.Errorf("%s takes a header of 64 KiB", name)
		}
	})
}

func TestMeaninglessAnswers(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<html>Please log in</html>", "AAAA", "\xa0", "null", strings.Repeat("MA", 1000)} {
		a := newAuthority(t, answering(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		calls(t, a, 0, func(name string, err error) {
			if name != "TrustList" && !errors.Is(err, enroll.ErrAnswer) { // which is verified elsewhere
				t.Errorf("%s of %.30q: %v", name, body, err)
			}
		})
	}
	a := newAuthority(t, answering(func(w http.ResponseWriter, _ *http.Request) { answerAssignment(w, "T-0002") }))
	if got, err := a.member(t).Assignment(t.Context()); !errors.Is(err, enroll.ErrAnswer) || got != nil {
		t.Errorf("the assignment of another terminal: %+v, %v", got, err)
	}
	a = newAuthority(t, answering(func(w http.ResponseWriter, _ *http.Request) { answerCerts(w, a.issuers[identity.ServicesCA].Chain()) }))
	if got, err := a.visitor(t).CACerts(t.Context()); !errors.Is(err, enroll.ErrAnswer) || got != nil {
		t.Errorf("the certificates of another authority: %v, %v", got, err)
	}
	for _, status := range []int{http.StatusNoContent, http.StatusNotFound} {
		a = newAuthority(t, answering(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		if curve, err := a.visitor(t).Attributes(t.Context()); err != nil || curve != elliptic.P256() {
			t.Errorf("no attributes, %d: %v, %v", status, curve, err)
		}
	}
}

// TestSlowAnswers stops before the header, and in the middle of a body.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(w http.ResponseWriter){
		"nothing": func(http.ResponseWriter) {},
		"half": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t, answering(func(w http.ResponseWriter, r *http.Request) {
				begin(w)
				<-r.Context().Done()
				panic(http.ErrAbortHandler) // an answer could still arrive while the client hangs up
			}))
			start := time.Now()
			calls(t, a, 50*time.Millisecond, func(name string, err error) {
				if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
					t.Errorf("%s: %v, want a time-out", name, err)
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := a.visitor(t).CACerts(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled call: %v", err)
			}
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if _, _, err := enroll.FetchTrustList(ctx, a.plain, trustlist.Accepted{Tenant: tenant}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a trust list that does not come: %v", err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
