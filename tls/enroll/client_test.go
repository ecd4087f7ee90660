package enroll_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

var agreement = identity.Identity{Tenant: tenant, Role: identity.Agreement, Name: "T-0001"}

// unboxed goes the way of a terminal from its ticket to its first certificate.
func unboxed(t *testing.T, a *authority) (*trustlist.List, *ecdsa.PrivateKey, []*x509.Certificate) {
	t.Helper()
	p, err := trustlist.PinOf(a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := enroll.ParseTicket([]byte(strings.ToLower(code[:13] + "-" + code[13:] + "-" + p.String())))
	if err != nil {
		t.Fatal(err)
	}
	defer ticket.Wipe()
	doc, list, err := enroll.FetchTrustList(t.Context(), a.plain, trustlist.Accepted{Tenant: tenant, Pins: []trustlist.Pin{ticket.Pin}})
	if err != nil || !bytes.Equal(doc, a.document) {
		t.Fatalf("trust list of %d bytes, %v", len(doc), err)
	}
	visitor, err := enroll.NewVisitor(a.options(), list)
	if err != nil {
		t.Fatal(err)
	}
	defer visitor.Close()
	curve, err := visitor.Attributes(t.Context())
	if err != nil || curve != elliptic.P384() {
		t.Fatalf("Attributes = %v, %v", curve, err)
	}
	certs, err := visitor.CACerts(t.Context())
	if err != nil || !slices.EqualFunc(certs, a.issuers[identity.TerminalCA].Chain(), (*x509.Certificate).Equal) {
		t.Fatalf("CACerts = %v, %v", certs, err)
	}
	key := newKey(t, curve)
	chain, err := visitor.Enroll(t.Context(), request(t, key, terminal), ticket.Code)
	if err != nil {
		t.Fatal(err)
	}
	return list, key, chain
}

func TestFromTicketToKey(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, plan{})
	list, key, chain := unboxed(t, a)
	if len(chain) != 2 || !key.PublicKey.Equal(chain[0].PublicKey) || !chain[1].Equal(a.issuers[identity.TerminalCA].Chain()[0]) {
		t.Fatalf("chain %v", chain)
	}
	member, err := enroll.NewMember(a.options(), list, credential(t, chain, key))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()

	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), own.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	agreed, err := member.EnrollAgreement(t.Context(), request(t, signer, agreement))
	if err != nil {
		t.Fatal(err)
	}
	as, err := member.Assignment(t.Context())
	if err != nil || len(as.Slots) != 1 || !as.Slots[0].Wanted {
		t.Fatalf("Assignment = %+v, %v", as, err)
	}
	req := &remote.Request{Slot: as.Slots[0].Slot}
	_, _ = rand.Read(req.Nonce[:])
	d, exporter, err := member.Key(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	binding := remote.Binding{
		Tenant: tenant, Terminal: "T-0001", Slot: req.Slot, TLS: chain[0], Agreement: agreed[0], Nonce: req.Nonce, Exporter: exporter,
	}
	open := remote.OpenOptions{Roots: list.Trust().KeyDist, Now: time.Now(), Environment: keyset.Test, KeySet: as.Slots[0].KeySet}
	opened, err := remote.Open(d, binding, own, open)
	if err != nil {
		t.Fatal(err)
	}
	opened.Wipe()
	binding.Exporter[0] ^= 1
	if _, err := remote.Open(d, binding, own, open); !errors.Is(err, remote.ErrDelivery) {
		t.Errorf("with the exporter value of another connection: %v", err)
	}

	next := newKey(t, elliptic.P256())
	renewed, err := member.Reenroll(t.Context(), request(t, next, terminal))
	if err != nil || !next.PublicKey.Equal(renewed[0].PublicKey) {
		t.Fatalf("Reenroll = %v, %v", renewed, err)
	}
	doc, err := member.TrustList(t.Context())
	if err != nil || !bytes.Equal(doc, a.document) {
		t.Errorf("TrustList = %d bytes, %v", len(doc), err)
	}
	for _, s := range a.asked() {
		if !strings.HasPrefix(s, "HTTP/1.1 ") {
			t.Errorf("asked for %s", s)
		}
	}
}

// TestKeyOfEachConnection asks for two keys over two connections: each comes with the value of its own.
func TestKeyOfEachConnection(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, plan{})
	key := newKey(t, elliptic.P256())
	cred := credential(t, a.issue(t, ca.Request{PublicKey: key.Public(), Identity: terminal}), key)
	var values [][remote.NonceSize]byte
	for range 2 {
		member, err := enroll.NewMember(a.options(), a.list, cred)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := member.EnrollAgreement(t.Context(), request(t, newKey(t, elliptic.P256()), agreement)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			_, v, err := member.Key(t.Context(), &remote.Request{Slot: 1, Nonce: [32]byte{1}})
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
		member.Close()
	}
	if values[0] != values[1] || values[2] != values[3] || values[0] == values[2] {
		t.Errorf("two on each of two connections: %x", values)
	}
}

func TestExporterNeedsAFinishedHandshake(t *testing.T) {
	t.Parallel()
	for name, cs := range map[string]*tls.ConnectionState{
		"plain HTTP": nil, "an unfinished handshake": {Version: tls.VersionTLS13}, "TLS 1.2": {HandshakeComplete: true, Version: tls.VersionTLS12},
	} {
		if v, err := enroll.Exporter(cs); !errors.Is(err, enroll.ErrAnswer) || v != [remote.NonceSize]byte{} {
			t.Errorf("%s: %x, %v", name, v, err)
		}
	}
}

func TestTrustListOfAStranger(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, plan{})
	p, err := trustlist.PinOf(a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	stranger := newKey(t, elliptic.P256())
	other, err := trustlist.PinOf(stranger.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		pin trustlist.Pin
		doc []byte
	}{
		"a wrong pin":           {other, a.document},
		"signed by a stranger":  {p, a.sign(t, stranger, tenant)},
		"of another tenant":     {p, a.sign(t, a.key, "OTHER")},
		"empty":                 {p, nil},
		"a page of the network": {p, []byte("<html>Please log in</html>")},
		"a byte more":           {p, append(bytes.Clone(a.document), 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newAuthority(t, plan{answers: map[string]http.HandlerFunc{
				"/trust-list": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(c.doc) },
			}})
			doc, list, err := enroll.FetchTrustList(t.Context(), b.plain, trustlist.Accepted{Tenant: tenant, Pins: []trustlist.Pin{c.pin}})
			if !errors.Is(err, trustlist.ErrTrust) || doc != nil || list != nil {
				t.Errorf("got %d bytes, %v, %v", len(doc), list, err)
			}
		})
	}
	for _, url := range []string{"", "https://ra.example", "http://", "http://ra.example/x", "http://u@ra.example", "http://ra.example?x", "ftp://ra.example", ":"} {
		if _, _, err := enroll.FetchTrustList(t.Context(), url, trustlist.Accepted{Tenant: tenant, Pins: []trustlist.Pin{p}}); err == nil {
			t.Errorf("URL %q is accepted", url)
		}
	}
}

// TestServerIsNotTheAuthority connects to holders of good certificates that are for something else.
func TestServerIsNotTheAuthority(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]plan{
		"a decryption service":    {server: identity.Identity{Tenant: tenant, Role: identity.Decrypt, Name: "RA-1"}},
		"an acquirer's host":      {server: identity.Identity{Tenant: tenant, Role: identity.AcquirerHost, Name: "RA-1"}},
		"a key-distribution host": {server: identity.Identity{Tenant: tenant, Role: identity.KDH, Name: "RA-1"}},
		"another tenant's":        {server: identity.Identity{Tenant: "OTHER", Role: identity.RA, Name: "RA-1"}},
		"another host":            {host: "ra.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t, p)
			got, err := a.visitor(t).Enroll(t.Context(), request(t, newKey(t, elliptic.P256()), terminal), secret.From([]byte(code)))
			if err == nil || got != nil {
				t.Errorf("got %v, %v", got, err)
			}
			if asked := a.asked(); len(asked) > 0 {
				t.Errorf("it was sent %q", asked)
			}
		})
	}
	t.Run("under roots of a stranger", func(t *testing.T) {
		t.Parallel()
		a, b := newAuthority(t, plan{}), newAuthority(t, plan{})
		c, err := enroll.NewVisitor(b.options(), a.list)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Attributes(t.Context()); err == nil || len(b.asked()) > 0 {
			t.Errorf("got %v, it was sent %q", err, b.asked())
		}
	})
}

// TestTwistedCertificates has the authority sign every kind of certificate that it should not.
func TestTwistedCertificates(t *testing.T) {
	t.Parallel()
	// What is no concern of the terminal: for how long, and what an error of the issuer looks like.
	others := []string{
		"lives longer", "lives much shorter", "starts a little earlier", "starts earlier", "a small serial number",
		"an issuer that ends first", "an issuer that starts later", "nothing", "a nil certificate",
	}
	// What an agreement key has none of, or no need for.
	usages := []string{"no usage", "an issuer for other usages"}
	for _, name := range []identity.Authority{identity.TerminalCA, identity.KeyDistCA} {
		for _, twist := range catest.Twists() {
			if slices.Contains(others, twist.Name) || name == identity.KeyDistCA && slices.Contains(usages, twist.Name) {
				continue
			}
			t.Run(name.String()+" "+twist.Name, func(t *testing.T) {
				t.Parallel()
				a := newAuthority(t, plan{twists: map[identity.Authority]catest.Twist{name: twist}})
				key := newKey(t, elliptic.P256())
				if name == identity.TerminalCA {
					got, err := a.visitor(t).Enroll(t.Context(), request(t, key, terminal), secret.From([]byte(code)))
					unacceptable(t, got, err)
					return
				}
				got, err := a.member(t).EnrollAgreement(t.Context(), request(t, key, agreement))
				unacceptable(t, got, err)
			})
		}
	}
}

func unacceptable(t *testing.T, got []*x509.Certificate, err error) {
	t.Helper()
	if !errors.Is(err, enroll.ErrAnswer) || got != nil {
		t.Errorf("got %v, %v, want ErrAnswer", got, err)
	}
}

// TestForeignCertificates answers with certificates that are good for somebody.
func TestForeignCertificates(t *testing.T) {
	t.Parallel()
	stranger, err := catest.NewFake(identity.TerminalCA, catest.Twist{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	other := newKey(t, elliptic.P256())
	foreign, err := stranger.Issue(t.Context(), ca.Request{PublicKey: other.Public(), Identity: terminal})
	if err != nil {
		t.Fatal(err)
	}
	type change = func([]*x509.Certificate) []*x509.Certificate
	for name, chain := range map[string]change{
		"those of a stranger":      func([]*x509.Certificate) []*x509.Certificate { return foreign },
		"the leaf of a stranger":   func(c []*x509.Certificate) []*x509.Certificate { return []*x509.Certificate{foreign[0], c[1]} },
		"the issuer of a stranger": func(c []*x509.Certificate) []*x509.Certificate { return []*x509.Certificate{c[0], foreign[1]} },
		"one of a stranger too":    func(c []*x509.Certificate) []*x509.Certificate { return append(c, foreign[1]) },
		"the root of a stranger":   func(c []*x509.Certificate) []*x509.Certificate { return append(c, stranger.Chain()[1]) },
		"no issuer":                func(c []*x509.Certificate) []*x509.Certificate { return c[:1] },
		"no leaf":                  func(c []*x509.Certificate) []*x509.Certificate { return c[1:] },
		"the leaf twice":           func(c []*x509.Certificate) []*x509.Certificate { return append(c, c[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t, plan{chain: chain})
			got, err := a.visitor(t).Enroll(t.Context(), request(t, newKey(t, elliptic.P256()), terminal), secret.From([]byte(code)))
			unacceptable(t, got, err)
			got, err = a.member(t).Reenroll(t.Context(), request(t, newKey(t, elliptic.P256()), terminal))
			unacceptable(t, got, err)
		})
	}
	t.Run("in another order", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t, plan{chain: func(c []*x509.Certificate) []*x509.Certificate { return []*x509.Certificate{c[1], c[0]} }})
		key := newKey(t, elliptic.P256())
		got, err := a.visitor(t).Enroll(t.Context(), request(t, key, terminal), secret.From([]byte(code)))
		if err != nil || len(got) != 2 || !key.PublicKey.Equal(got[0].PublicKey) {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("a terminal's for an agreement key", func(t *testing.T) {
		t.Parallel()
		var a *authority
		key := newKey(t, elliptic.P256())
		a = newAuthority(t, plan{answers: map[string]http.HandlerFunc{est.PathAgreementEnroll: func(w http.ResponseWriter, r *http.Request) {
			chain, err := a.issuers[identity.TerminalCA].Issue(r.Context(), ca.Request{PublicKey: key.Public(), Identity: terminal})
			if err != nil {
				panic(err)
			}
			answerCerts(w, chain)
		}}})
		got, err := a.member(t).EnrollAgreement(t.Context(), request(t, key, agreement))
		unacceptable(t, got, err)
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for name, c := range map[string]struct {
		status          int
		body, after     string
		code, message   string
		atLeast, atMost time.Duration
	}{
		"come again":        {202, "", "120", "", "", 2 * time.Minute, 2 * time.Minute},
		"overloaded":        {503, `{"Code":"Busy","Message":"too many at once","Hint":"wait"}`, "7", "Busy", "too many at once", 7 * time.Second, 7 * time.Second},
		"at a date":         {503, "", later, "", "", 59 * time.Minute, time.Hour},
		"at a date gone by": {503, "", "Mon, 01 Jan 2024 00:00:00 GMT", "", "", 0, 0},
		"in a century":      {503, "", "3155760000", "", "", 24 * time.Hour, 24 * time.Hour},
		"sometime":          {503, "", "sometime", "", "", 0, 0},
		"before":            {503, "", "-5", "", "", 0, 0},
		"refused":           {401, `{"Code":"CodeRefused","Message":"the code is not valid"}`, "", "CodeRefused", "the code is not valid", 0, 0},
		"no JSON":           {403, "<html>", "", "", "", 0, 0},
		"more members":      {403, `{"Code":"X","Message":"x","More":"x"}`, "", "", "", 0, 0},
		"no code":           {403, `{"Message":"x"}`, "", "", "", 0, 0},
		"an escape code":    {403, `{"Code":"X","Message":"\u001b[2J"}`, "", "", "", 0, 0},
		"a line break":      {403, `{"Code":"X","Message":"a\nlevel=INFO"}`, "", "", "", 0, 0},
		"an override":       {403, `{"Code":"X","Message":"\u202e"}`, "", "", "", 0, 0},
		"a long text":       {403, `{"Code":"X","Message":"` + strings.Repeat("x", 513) + `"}`, "", "", "", 0, 0},
		"twice":             {403, `{"Code":"X","Code":"Y","Message":"x"}`, "", "", "", 0, 0},
		"numbers":           {403, `{"Code":7,"Message":"x"}`, "", "", "", 0, 0},
		"a redirect":        {307, "", "", "", "", 0, 0},
		"created":           {201, "", "", "", "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t, answering(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", c.after)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			check := func(name string, err error) {
				r, ok := errors.AsType[*enroll.Refusal](err)
				if !ok || r.Status != c.status || r.Code != c.code || r.Message != c.message || r.RetryAfter < c.atLeast || r.RetryAfter > c.atMost {
					t.Errorf("%s: %#v, %v", name, r, err)
				}
				if ok && (r.Error() == "" || strings.ContainsAny(r.Error(), "\n\x1b")) {
					t.Errorf("%s prints %q", name, r.Error())
				}
			}
			calls(t, a, 0, check)
			_, _, err := enroll.FetchTrustList(t.Context(), a.plain, trustlist.Accepted{Tenant: tenant})
			check("FetchTrustList", err)
			for _, s := range a.asked() {
				if strings.Contains(s, "/elsewhere") {
					t.Error("a redirect was followed")
				}
			}
		})
	}
}

func TestWrongCode(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, plan{})
	_, err := a.visitor(t).Enroll(t.Context(), request(t, newKey(t, elliptic.P256()), terminal), secret.From([]byte(long)))
	r, ok := errors.AsType[*enroll.Refusal](err)
	if !ok || r.Status != http.StatusUnauthorized || r.Code != "CodeRefused" || r.Error() != "enroll: CodeRefused: the one-time code is not valid" {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), long[:6]) {
		t.Errorf("%v has the code", err)
	}
	if _, err := a.visitor(t).Enroll(t.Context(), request(t, newKey(t, elliptic.P256()), terminal), secret.Bytes{}); err == nil || len(a.asked()) != 1 {
		t.Errorf("no code: %v, asked %q", err, a.asked())
	}
}

// TestWrongCalls are refused before anything is sent.
func TestWrongCalls(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, plan{})
	visitor, member := a.visitor(t), a.member(t)
	key := newKey(t, elliptic.P256())
	own := newKey(t, elliptic.P256()) // of the TLS certificate
	bound, err := enroll.NewMember(a.options(), a.list, credential(t, a.issue(t, ca.Request{PublicKey: own.Public(), Identity: terminal}), own))
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	mine, agreed := request(t, key, terminal), request(t, key, agreement)
	other := terminal
	other.Name = "T-0002"
	for name, call := range map[string]func() error{
		"a visitor renews":      func() error { _, err := visitor.Reenroll(t.Context(), mine); return err },
		"a visitor agrees":      func() error { _, err := visitor.EnrollAgreement(t.Context(), agreed); return err },
		"a visitor is assigned": func() error { _, err := visitor.Assignment(t.Context()); return err },
		"a visitor fetches": func() error {
			_, _, err := visitor.Key(t.Context(), &remote.Request{Slot: 1, Nonce: [32]byte{1}})
			return err
		},
		"a request of another":        func() error { _, err := member.Reenroll(t.Context(), request(t, key, other)); return err },
		"a terminal's for agreement":  func() error { _, err := member.EnrollAgreement(t.Context(), mine); return err },
		"an agreement key's for TLS":  func() error { _, err := member.Reenroll(t.Context(), agreed); return err },
		"the TLS key for agreement":   func() error { _, err := bound.EnrollAgreement(t.Context(), request(t, own, agreement)); return err },
		"no request":                  func() error { _, err := member.Reenroll(t.Context(), nil); return err },
		"a request for slot nought":   func() error { _, _, err := member.Key(t.Context(), &remote.Request{Nonce: [32]byte{1}}); return err },
		"a request without its nonce": func() error { _, _, err := member.Key(t.Context(), &remote.Request{Slot: 1}); return err },
	} {
		if err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if asked := a.asked(); len(asked) > 0 {
		t.Errorf("it was sent %q", asked)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, plan{})
	stranger := identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: "T-0002"}
	host := identity.Identity{Tenant: tenant, Role: identity.AcquirerHost, Name: "T-0001"}
	for name, change := range map[string]func(*enroll.Options){
		"no URL": func(o *enroll.Options) { o.URL = "" }, "plain HTTP": func(o *enroll.Options) { o.URL = a.plain },
		"a path": func(o *enroll.Options) { o.URL += "/x" }, "a query": func(o *enroll.Options) { o.URL += "?x" },
		"a user": func(o *enroll.Options) { o.URL = "https://u:p@ra.example" }, "no tenant": func(o *enroll.Options) { o.Tenant = "" },
		"another tenant": func(o *enroll.Options) { o.Tenant = "OTHER" }, "no terminal": func(o *enroll.Options) { o.Terminal = "" },
		"a terminal in lower case": func(o *enroll.Options) { o.Terminal = "t-0001" },
	} {
		o := a.options()
		change(&o)
		if c, err := enroll.NewVisitor(o, a.list); err == nil || c != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := enroll.NewVisitor(a.options(), nil); err == nil {
		t.Error("no list")
	}
	if _, err := enroll.NewMember(a.options(), a.list, nil); err == nil {
		t.Error("no credential")
	}
	for _, id := range []identity.Identity{stranger, host} {
		key := newKey(t, elliptic.P256())
		cred := credential(t, a.issue(t, ca.Request{PublicKey: key.Public(), Identity: id}), key)
		if c, err := enroll.NewMember(a.options(), a.list, cred); err == nil || c != nil {
			t.Errorf("the credential of %v: %v", id, err)
		}
	}
	o := a.options()
	o.URL += "/"
	o.Timeout = 0
	c, err := enroll.NewVisitor(o, a.list)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.CACerts(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestClock judges certificates by the terminal's own clock.
func TestClock(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, plan{})
	for name, at := range map[string]time.Time{"1970": time.Unix(0, 0), "in a century": time.Now().AddDate(100, 0, 0)} {
		o := a.options()
		o.Clock = func() time.Time { return at }
		c, err := enroll.NewVisitor(o, a.list)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.CACerts(t.Context()); err == nil {
			t.Errorf("%s: the server's certificate is good", name)
		}
	}
}
