package trustlist_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

func pinOf(t testing.TB, key crypto.Signer) trustlist.Pin {
	t.Helper()
	p, err := trustlist.PinOf(key.Public())
	check(t, err)
	return p
}

func root(t testing.TB, a identity.Authority) *x509.Certificate {
	t.Helper()
	f, err := catest.NewFake(a, catest.Twist{}, func() time.Time { return noon })
	check(t, err)
	return f.Chain()[1]
}

func newList(t testing.TB, version uint64) *trustlist.List {
	return &trustlist.List{
		Tenant: "ACME", Version: version, NotBefore: noon,
		Terminals: []*x509.Certificate{root(t, identity.TerminalCA)},
		Services:  []*x509.Certificate{root(t, identity.ServicesCA)},
		KeyDist:   []*x509.Certificate{root(t, identity.KeyDistCA)},
	}
}

func sign(t testing.TB, l *trustlist.List, key crypto.Signer) []byte {
	t.Helper()
	doc, err := trustlist.Sign(l, key)
	check(t, err)
	return doc
}

// TestHistory follows a terminal from its slip of paper through a rotation of the signing key.
func TestHistory(t *testing.T) {
	t.Parallel()
	first, second := newKey(t), newKey(t)
	a := trustlist.Accepted{Tenant: "ACME", Pins: []trustlist.Pin{pinOf(t, first)}}
	step := func(name string, doc []byte, want string) {
		t.Helper()
		l, err := trustlist.Open(doc, a)
		if want != "" {
			if l != nil || !errors.Is(err, trustlist.ErrTrust) || !strings.Contains(err.Error(), want) {
				t.Fatalf("%s: %v, want an error with %q", name, err, want)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a = a.Next(l)
		if want := append([]trustlist.Pin{}, l.Pins()...); !reflect.DeepEqual(a.Pins, want) || a.Version != l.Version {
			t.Fatalf("%s: accepted %v, want pins %v", name, a, want)
		}
	}
	one := newList(t, 1)
	two := newList(t, 2)
	two.Next = []trustlist.Pin{pinOf(t, second)}
	three, four := newList(t, 3), newList(t, 4)
	firstDoc, secondDoc := sign(t, one, first), sign(t, two, first)
	step("a stranger's first list", sign(t, one, second), "unknown key")
	step("the first list", firstDoc, "")
	step("the first list again", firstDoc, "")
	step("another list of version 1", sign(t, newList(t, 1), first), "another list of version 1")
	step("the same content, signed anew", sign(t, one, first), "")
	step("the next key before it is named", sign(t, three, second), "unknown key")
	step("a list that names the next key", secondDoc, "")
	step("back", firstDoc, "version 1, after 2")
	step("a list of the next key", sign(t, three, second), "")
	step("a list of the key that went", sign(t, four, first), "unknown key")
	step("back again", secondDoc, "unknown key")
	if len(a.Pins) != 1 || a.Pins[0] != pinOf(t, second) {
		t.Errorf("accepted in the end: %v", a.Pins)
	}
}

// TestEveryByte changes every byte of a list, and none of the changed ones is opened as the list that it was.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	doc := sign(t, newList(t, 1), key)
	a := trustlist.Accepted{Tenant: "ACME", Pins: []trustlist.Pin{pinOf(t, key)}}
	for i := range doc {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			changed := bytes.Clone(doc)
			changed[i] ^= flip
			if l, err := trustlist.Open(changed, a); l != nil || !errors.Is(err, trustlist.ErrTrust) {
				t.Fatalf("byte %d of %d changed by %02x: %v", i, len(doc), flip, err)
			}
		}
		if _, err := trustlist.Open(doc[:i], a); !errors.Is(err, trustlist.ErrTrust) {
			t.Fatalf("%d of %d bytes: %v", i, len(doc), err)
		}
	}
	if _, err := trustlist.Open(make([]byte, 64<<10+1), a); !errors.Is(err, trustlist.ErrTrust) || !strings.Contains(err.Error(), "at most 65536") {
		t.Errorf("too long: %v", err)
	}
}

func TestNobodyAccepted(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	doc := sign(t, newList(t, 1), key)
	for name, a := range map[string]trustlist.Accepted{
		"nothing": {}, "no pins": {Tenant: "ACME"}, "a zero pin": {Tenant: "ACME", Pins: []trustlist.Pin{{}}},
		"no tenant":      {Pins: []trustlist.Pin{pinOf(t, key)}},
		"another tenant": {Tenant: "OTHER", Pins: []trustlist.Pin{pinOf(t, key)}},
	} {
		if l, err := trustlist.Open(doc, a); l != nil || !errors.Is(err, trustlist.ErrTrust) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	l := newList(t, 1)
	trust := l.Trust()
	for _, c := range []struct {
		pool  *x509.CertPool
		roots []*x509.Certificate
	}{{trust.Terminals, l.Terminals}, {trust.Services, l.Services}, {trust.KeyDist, l.KeyDist}} {
		want := x509.NewCertPool()
		want.AddCert(c.roots[0])
		if c.pool == nil || !c.pool.Equal(want) {
			t.Errorf("pool %v, want the roots of one authority", c.pool)
		}
	}
	l.Next = []trustlist.Pin{pinOf(t, newKey(t))}
	if got := l.Pins(); !reflect.DeepEqual(got, l.Next) {
		t.Errorf("pins of a list without signer: %v", got)
	}
}

// TestSignRefuses what Open would refuse.
func TestSignRefuses(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	for name, c := range map[string]struct {
		change func(l *trustlist.List)
		want   string
	}{
		"no tenant":               {func(l *trustlist.List) { l.Tenant = "" }, "tenant"},
		"no version":              {func(l *trustlist.List) { l.Version = 0 }, "version 0"},
		"no time":                 {func(l *trustlist.List) { l.NotBefore = time.Time{} }, "not-before"},
		"half a second":           {func(l *trustlist.List) { l.NotBefore = noon.Add(time.Second / 2) }, "not-before"},
		"no roots":                {func(l *trustlist.List) { l.Services = nil }, "0 roots of services"},
		"a nil root":              {func(l *trustlist.List) { l.KeyDist = append(l.KeyDist, nil) }, "no certificate"},
		"a root twice":            {func(l *trustlist.List) { l.KeyDist = append(l.KeyDist, l.KeyDist[0]) }, "listed twice"},
		"a root for two":          {func(l *trustlist.List) { l.KeyDist = l.Services }, "has the key of a root of"},
		"a list after its root":   {func(l *trustlist.List) { l.NotBefore = noon.AddDate(20, 0, 0) }, "over before"},
		"the signer as a further": {func(l *trustlist.List) { l.Next = []trustlist.Pin{pinOf(t, key)} }, "named as a further one"},
		"a zero pin":              {func(l *trustlist.List) { l.Next = []trustlist.Pin{{}} }, "no pin"},
		"five pins": {func(l *trustlist.List) {
			for range 5 {
				l.Next = append(l.Next, pinOf(t, newKey(t)))
			}
		}, "5 further keys"},
	} {
		l := newList(t, 1)
		c.change(l)
		if doc, err := trustlist.Sign(l, key); doc != nil || !errors.Is(err, trustlist.ErrTrust) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", name, err, c.want)
		}
	}
	weak, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	for name, signer := range map[string]crypto.Signer{"P-384": weak, "Ed25519": ed, "a broken token": broken{key}} {
		if doc, err := trustlist.Sign(newList(t, 1), signer); doc != nil || err == nil {
			t.Errorf("%s signs", name)
		}
	}
	if _, err := trustlist.PinOf(weak.Public()); err == nil {
		t.Error("a key on P-384 has a pin")
	}
}

type broken struct{ *ecdsa.PrivateKey }

func (broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token is gone")
}

func TestNextNeedsAList(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("Next takes a list that nobody has signed")
		}
	}()
	trustlist.Accepted{}.Next(newList(t, 1))
}

// TestAcceptedIsData: what a terminal keeps survives encoders.
func TestAcceptedIsData(t *testing.T) {
	t.Parallel()
	a := trustlist.Accepted{Tenant: "ACME", Pins: []trustlist.Pin{pinOf(t, newKey(t)), pinOf(t, newKey(t))}, Version: 7, Digest: [32]byte{1, 2}}
	b, err := json.Marshal(a)
	check(t, err)
	var again trustlist.Accepted
	check(t, json.Unmarshal(b, &again))
	if !reflect.DeepEqual(a, again) {
		t.Errorf("got %+v, want %+v", again, a)
	}
	codec := canon.New(16, 4)
	b, err = codec.Marshal(a)
	check(t, err)
	again = trustlist.Accepted{}
	check(t, codec.Unmarshal(b, &again))
	if !reflect.DeepEqual(a, again) {
		t.Errorf("by CBOR: got %+v, want %+v", again, a)
	}
	for _, text := range []string{"", "x", strings.ToLower(a.Pins[0].String()), a.Pins[0].String() + "0"} {
		var p trustlist.Pin
		if err := p.UnmarshalText([]byte(text)); err == nil || !p.IsZero() {
			t.Errorf("%q is read as %v", text, p)
		}
	}
	if b, err := (trustlist.Pin{}).MarshalText(); err == nil {
		t.Errorf("no pin is written as %q", b)
	}
	if got := fmt.Sprint(trustlist.Pin{}); got != "" {
		t.Errorf("no pin prints as %q", got)
	}
}
