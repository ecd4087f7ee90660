package embedded_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// noon is when the authorities of most tests are made.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func phrase(t testing.TB) secret.Bytes {
	p := secret.From([]byte("correct horse battery"))
	t.Cleanup(p.Wipe)
	return p
}

func create(t testing.TB, kind embedded.Kind) (*embedded.Issuer, string, *clock) {
	t.Helper()
	dir, c := filepath.Join(t.TempDir(), "ca"), &clock{now: noon}
	i, err := embedded.Create(dir, kind, phrase(t), c.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i, dir, c
}

func reopen(t testing.TB, dir string, c *clock) *embedded.Issuer {
	t.Helper()
	i, err := embedded.OpenAt(dir, phrase(t), c.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, kind := range identity.Authorities() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			issuer, _, c := create(t, kind)
			catest.Run(t, func(*testing.T) catest.Fixture {
				return catest.Fixture{Issuer: issuer, Authority: kind, Now: c.Now}
			})
		})
	}
}

func TestCertificatesOfAnAuthority(t *testing.T) {
	t.Parallel()
	for _, kind := range identity.Authorities() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			issuer, _, _ := create(t, kind)
			issuing, root := issuer.Chain()[0], issuer.Root()
			if !root.IsCA || root.MaxPathLen != 1 || root.PublicKeyAlgorithm != x509.ECDSA {
				t.Errorf("root: CA %t, path length %d", root.IsCA, root.MaxPathLen)
			}
			if !issuing.IsCA || issuing.MaxPathLen != 0 || !issuing.MaxPathLenZero {
				t.Errorf("issuing: CA %t, path length %d", issuing.IsCA, issuing.MaxPathLen)
			}
			if !issuing.RequireExplicitPolicyZero {
				t.Error("the issuing certificate does not require a policy below it")
			}
			for _, role := range identity.Roles() {
				if got, want := identity.Carries(issuing, role), role.Authority() == kind; got != want {
					t.Errorf("may certify %s: %t, want %t", role, got, want)
				}
			}
			if issuing.NotBefore.After(noon.Add(-time.Hour)) || root.NotBefore.After(noon.Add(-time.Hour)) {
				t.Errorf("backdated to %v and %v, want an hour", issuing.NotBefore, root.NotBefore)
			}
		})
	}
}

// TestNothingReadableAtRest looks for private keys in the folder: by their markers, by their bytes and by mode.
func TestNothingReadableAtRest(t *testing.T) {
	t.Parallel()
	_, dir, _ := create(t, embedded.Terminals)
	var keys [][]byte
	for _, name := range []string{embedded.RootKeyFile, embedded.IssuingKeyFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		der, err := seal.Open(phrase(t), "latchkey ca terminals "+name, b)
		if err != nil {
			t.Fatal(err)
		}
		raw := embedded.PrivateScalar(t, der.Expose())
		keys = append(keys, der.Expose(), raw)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(b, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key in PEM", d.Name())
		}
		for _, key := range keys {
			if bytes.Contains(b, key) || bytes.Contains(b, key[:16]) || strings.Contains(string(b), fmt.Sprintf("%x", key[:16])) {
				t.Errorf("%s holds bytes of a private key", d.Name())
			}
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !strings.HasSuffix(d.Name(), ".crt") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", d.Name(), info.Mode().Perm())
		}
		return nil
	})
	if err != nil || files != 5 {
		t.Errorf("%d files and %v, want 5", files, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder has mode %v and %v, want 0700", info.Mode(), err)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	_, dir, _ := create(t, embedded.Services)
	if _, err := embedded.Create(dir, embedded.Services, phrase(t), nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("over another authority: %v, want os.ErrExist", err)
	}
	fresh := filepath.Join(t.TempDir(), "ca")
	if _, err := embedded.Create(fresh, 0, phrase(t), nil); err == nil {
		t.Error("made an authority of no kind")
	}
	if _, err := embedded.Create(fresh, embedded.Services, secret.Bytes{}, nil); err == nil {
		t.Error("made an authority under an empty passphrase")
	}
	if entries, err := os.ReadDir(filepath.Dir(fresh)); err != nil || len(entries) != 0 {
		t.Errorf("a refusal left %v behind (%v)", entries, err)
	}
}

func TestCreateInAnEmptyFolder(t *testing.T) {
	t.Parallel()
	i, err := embedded.Create(t.TempDir(), embedded.KeyDist, phrase(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Health(t.Context()); err != nil {
		t.Error(err)
	}
	_ = i.Close()
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	_, other, _ := create(t, embedded.Services)
	_, same, _ := create(t, embedded.Terminals)
	for _, tc := range []struct {
		name   string
		phrase string
		damage func(t *testing.T, dir string)
		want   error // nil: any
	}{
		{"another passphrase", "incorrect horse battery", func(*testing.T, string) {}, seal.ErrPassphrase},
		{"no issuing key", "", remove(embedded.IssuingKeyFile), os.ErrNotExist},
		{"no root", "", remove(embedded.RootFile), os.ErrNotExist},
		{"no ledger", "", remove(embedded.LedgerFile), os.ErrNotExist},
		{"the key of another kind", "", replace(embedded.IssuingKeyFile, other), seal.ErrPassphrase},
		{"the root of another", "", replace(embedded.RootFile, other), nil},
		{"the issuing certificate of another", "", replace(embedded.IssuingFile, other), nil},
		{"the root key in the place of the other", "", rename(embedded.RootKeyFile, embedded.IssuingKeyFile), seal.ErrPassphrase},
		{"the certificates of another of its kind", "", func(t *testing.T, dir string) {
			replace(embedded.RootFile, same)(t, dir)
			replace(embedded.IssuingFile, same)(t, dir)
		}, nil},
		{"text for a certificate", "", write(embedded.RootFile, "hello"), nil},
		{"two certificates", "", double(embedded.IssuingFile), nil},
		{"a damaged ledger", "", write(embedded.LedgerFile, "{}\n"), embedded.ErrLedger},
		{"a ledger with an unknown member", "", write(embedded.LedgerFile, `{"v":1,"event":"crl","number":1,"x":1}`+"\n"), embedded.ErrLedger},
		{"a ledger with a bad serial", "", write(embedded.LedgerFile, `{"v":1,"event":"issued","serial":"XY"}`+"\n"), embedded.ErrLedger},
		{"a ledger that revokes what it never issued", "", write(embedded.LedgerFile, `{"v":1,"event":"revoked","serial":"0a"}`+"\n"), embedded.ErrLedger},
		{"a ledger from the future", "", write(embedded.LedgerFile, `{"v":2,"event":"crl","number":1}`+"\n"), embedded.ErrLedger},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, dir, c := create(t, embedded.Terminals)
			tc.damage(t, dir)
			p := phrase(t)
			if tc.phrase != "" {
				p = secret.From([]byte(tc.phrase))
			}
			i, err := embedded.OpenAt(dir, p, c.Now)
			if err == nil {
				_ = i.Close()
				t.Fatal("opened")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func remove(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func rename(from, to string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
}

func write(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func replace(name, other string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		b, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, string(b))(t, dir)
	}
}

func double(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		write(name, string(b)+string(b))(t, dir)
	}
}

// TestRootKeyElsewhere moves the key of the root away: everything but a new issuing certificate still works.
func TestRootKeyElsewhere(t *testing.T) {
	t.Parallel()
	_, dir, c := create(t, embedded.Terminals)
	remove(embedded.RootKeyFile)(t, dir)
	if _, err := reopen(t, dir, c).Issue(t.Context(), catest.NewRequest(identity.Terminal, "T-1")); err != nil {
		t.Error(err)
	}
}

// TestLedgerSurvives issues and revokes, opens again, and finds everything; a line cut short by a crash goes away.
func TestLedgerSurvives(t *testing.T) {
	t.Parallel()
	issuer, dir, c := create(t, embedded.Terminals)
	ctx := t.Context()
	var serials []string
	for _, name := range []string{"T-1", "T-2", "T-3"} {
		issued, err := issuer.Issue(ctx, catest.NewRequest(identity.Terminal, name))
		if err != nil {
			t.Fatal(err)
		}
		serials = append(serials, identity.Serial(issued[0]))
	}
	if err := issuer.Revoke(ctx, serials[1], 1); err != nil {
		t.Fatal(err)
	}
	first := list(t, issuer)

	path := filepath.Join(dir, embedded.LedgerFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range serials {
		if !bytes.Contains(whole, []byte(s)) {
			t.Errorf("serial %s is not in the ledger", s)
		}
	}
	if err := os.WriteFile(path, append(bytes.Clone(whole), `{"v":1,"event":"iss`...), 0o600); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, dir, c)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, whole) {
		t.Errorf("the torn line was not cut off: %d bytes and %v, want %d", len(after), err, len(whole))
	}
	second := list(t, again)
	if second.Number.Cmp(first.Number) <= 0 || len(second.RevokedCertificateEntries) != 1 {
		t.Errorf("list %v with %d entries after list %v with 1", second.Number, len(second.RevokedCertificateEntries), first.Number)
	}
	if err := again.Revoke(ctx, serials[2], 5); err != nil {
		t.Error(err)
	}
}

// TestLedgerDamagedInUse damages the ledger under an open issuer: nothing more is issued.
func TestLedgerDamagedInUse(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(whole []byte) []byte{
		"cut":          func(whole []byte) []byte { return whole[:len(whole)/2] },
		"a bad line":   func(whole []byte) []byte { return append(whole, "x\n"...) },
		"a line again": func(whole []byte) []byte { return append(whole, whole...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			issuer, dir, _ := create(t, embedded.Terminals)
			if _, err := issuer.Issue(t.Context(), catest.NewRequest(identity.Terminal, "T-1")); err != nil {
				t.Fatal(err)
			}
			whole, err := os.ReadFile(filepath.Join(dir, embedded.LedgerFile))
			if err != nil {
				t.Fatal(err)
			}
			write(embedded.LedgerFile, string(damage(whole)))(t, dir)
			if _, err := issuer.Issue(t.Context(), catest.NewRequest(identity.Terminal, "T-2")); !errors.Is(err, embedded.ErrLedger) {
				t.Errorf("issue: %v, want ErrLedger", err)
			}
			if err := issuer.Health(t.Context()); !errors.Is(err, embedded.ErrLedger) {
				t.Errorf("health: %v, want ErrLedger", err)
			}
		})
	}
}

// TestTwoProcesses opens one folder twice: each sees what the other issued and revoked.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	one, dir, c := create(t, embedded.Terminals)
	two := reopen(t, dir, c)
	ctx := t.Context()
	var wg sync.WaitGroup
	for _, i := range []*embedded.Issuer{one, two, one, two} {
		wg.Go(func() {
			for range 5 {
				if _, err := i.Issue(ctx, catest.NewRequest(identity.Terminal, "T-1")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	issued, err := one.Issue(ctx, catest.NewRequest(identity.Terminal, "T-2"))
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Revoke(ctx, identity.Serial(issued[0]), 1); err != nil {
		t.Fatal(err)
	}
	a, b := list(t, one), list(t, two)
	if len(a.RevokedCertificateEntries) != 1 || len(b.RevokedCertificateEntries) != 1 || a.Number.Cmp(b.Number) == 0 {
		t.Errorf("lists %v and %v with %d and %d entries", a.Number, b.Number, len(a.RevokedCertificateEntries), len(b.RevokedCertificateEntries))
	}
	third := reopen(t, dir, c) // the ledger reads back
	if err := third.Health(ctx); err != nil {
		t.Error(err)
	}
}

func TestRevocationListAges(t *testing.T) {
	t.Parallel()
	issuer, _, c := create(t, embedded.Terminals)
	issued, err := issuer.Issue(t.Context(), catest.NewRequest(identity.Terminal, "T-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.Revoke(t.Context(), identity.Serial(issued[0]), 1); err != nil {
		t.Fatal(err)
	}
	first := list(t, issuer)
	c.Advance(embedded.CRLLifetime/2 - time.Second)
	if same := list(t, issuer); same.Number.Cmp(first.Number) != 0 {
		t.Errorf("list %v, want %v again", same.Number, first.Number)
	}
	c.Advance(2 * time.Second)
	if next := list(t, issuer); next.Number.Cmp(first.Number) <= 0 || len(next.RevokedCertificateEntries) != 1 {
		t.Errorf("list %v after %v", next.Number, first.Number)
	}
	c.Advance(91 * 24 * time.Hour)
	if last := list(t, issuer); len(last.RevokedCertificateEntries) != 0 {
		t.Error("an expired certificate is still listed")
	}
}

func TestHealthAtTheEnd(t *testing.T) {
	t.Parallel()
	issuer, _, c := create(t, embedded.Terminals)
	if err := issuer.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Advance(embedded.IssuingLifetime - 30*24*time.Hour)
	if _, err := issuer.Issue(t.Context(), catest.NewRequest(identity.Terminal, "T-1")); !errors.Is(err, ca.ErrRequest) {
		t.Errorf("issued beyond the issuer: %v, want ca.ErrRequest", err)
	}
	c.Advance(31 * 24 * time.Hour)
	if err := issuer.Health(t.Context()); err == nil {
		t.Error("healthy after its end")
	}
}

func TestClosedIssuer(t *testing.T) {
	t.Parallel()
	issuer, _, _ := create(t, embedded.Terminals)
	if err := issuer.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := issuer.Issue(t.Context(), catest.NewRequest(identity.Terminal, "T-1")); err == nil {
		t.Error("issued without a ledger")
	}
	if err := issuer.Health(t.Context()); err == nil {
		t.Error("healthy without a ledger")
	}
}

func list(t *testing.T, i *embedded.Issuer) *x509.RevocationList {
	t.Helper()
	der, err := i.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckSignatureFrom(i.Chain()[0]); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPrintsNoKey(t *testing.T) {
	t.Parallel()
	issuer, _, _ := create(t, embedded.Terminals)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "issuer", issuer)
	js, err := json.Marshal(issuer)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{fmt.Sprintf("%v", issuer), fmt.Sprintf("%+v", issuer), fmt.Sprintf("%#v", issuer), fmt.Sprintf("%s %x %d", issuer, issuer, issuer), log.String(), string(js)} {
		rest := strings.ReplaceAll(got, "embedded.Issuer(terminals)", "")
		if rest == got || strings.Contains(rest, "0x") || len(rest) > 80 {
			t.Errorf("prints %q", got)
		}
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "ca")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	passphrase := secret.From([]byte("correct horse battery"))
	defer passphrase.Wipe()

	issuer, err := embedded.Create(filepath.Join(dir, "terminals"), embedded.Terminals, passphrase, time.Now)
	if err != nil {
		panic(err)
	}
	defer issuer.Close()
	issued, err := issuer.Issue(context.Background(), catest.NewRequest(identity.Terminal, "T-1"))
	if err != nil {
		panic(err)
	}
	id, err := identity.FromCertificate(issued[0])
	if err != nil {
		panic(err)
	}
	fmt.Println(id)
	fmt.Println(issued[0].NotAfter.Sub(issued[0].NotBefore))
	// Output:
	// latchkey://ACME/terminal/T-1
	// 2160h1m0s
}

// TestSecondsPassWhileItIssues checks certificates by clocks read before and after the issuer's: each is as asked for by whoever
// knows both, and by nobody who takes another moment for the one of the issuer.
func TestSecondsPassWhileItIssues(t *testing.T) {
	t.Parallel()
	i, _, c := create(t, identity.TerminalCA)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	req := ca.Request{PublicKey: key.Public(), Identity: identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"}}
	begun := c.Now()
	c.Advance(2 * time.Second)
	issued, err := i.Issue(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	at := c.Now()
	c.Advance(2 * time.Second)
	if err := ca.CheckSince(req, issued, i.Chain(), begun, c.Now()); err != nil {
		t.Errorf("asked 2 s before, checked 2 s after: %v", err)
	}
	for name, window := range map[string][2]time.Time{"before it was asked": {begun, begun}, "after it was answered": {c.Now(), c.Now()}} {
		if err := ca.CheckSince(req, issued, i.Chain(), window[0], window[1]); !errors.Is(err, ca.ErrMismatch) {
			t.Errorf("%s: %v, want %v", name, err, ca.ErrMismatch)
		}
	}
	if err := ca.Check(req, issued, i.Chain(), at); err != nil {
		t.Errorf("by the issuer's clock: %v", err)
	}
}
