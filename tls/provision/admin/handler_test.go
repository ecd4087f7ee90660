package admin_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// fake is a registry that remembers who asked for what.
type fake struct {
	calls  []string
	denied []string
	by     provision.Actor
	op     provision.Operation
	part   provision.Part
	filter provision.Filter
	err    error
	out    provision.Outcome
	page   int // returns so many at once; 0: as many as are wanted
}

func (f *fake) called(name string, by provision.Actor) error {
	f.calls, f.by = append(f.calls, name), by
	return f.err
}

func (f *fake) MayRead(by provision.Actor) error { return f.mine(by) }

func (f *fake) MayFollow(by provision.Actor) error { return f.mine(by) }

func (f *fake) mine(by provision.Actor) error {
	if by.Identity.Tenant != "ACME" {
		return errors.New("of another tenant") // for Deny to say
	}
	return nil
}

func (f *fake) Deny(_ context.Context, by provision.Actor, action string) error {
	f.denied = append(f.denied, by.Identity.String()+" "+by.Source+" "+action)
	if by.Identity.Tenant != "ACME" {
		return &provision.Refusal{Code: provision.CodeTenantMismatch}
	}
	return &provision.Refusal{Code: provision.CodeRoleNotPermitted}
}

func (f *fake) Do(_ context.Context, by provision.Actor, op provision.Operation) (*provision.Outcome, error) {
	f.op = op
	out := f.out
	out.Ticket = f.out.Ticket.Clone()
	return &out, f.called("do", by)
}

func (f *fake) Approvals(context.Context) ([]*provision.Approval, error) {
	return []*provision.Approval{{ID: "WAITS", Operation: provision.Operation{Action: provision.ActionUnblock, Terminal: "T-1"}}, {ID: "DONE", Approver: identity.Identity{Tenant: "ACME", Role: identity.Operator, Name: "OP-2"}}},
		f.called("approvals", provision.Actor{})
}

func (f *fake) Approve(_ context.Context, by provision.Actor, id string) (*provision.Outcome, error) {
	out := f.out
	return &out, f.called("approve "+id, by)
}

// Campaign has three slots of two terminals.
func (f *fake) Campaign(_ context.Context, set keyset.ID, after keyset.TerminalID, limit int) (*provision.Campaign, error) {
	c := &provision.Campaign{
		KeySet: set, Stopped: true, Successor: "DATA-2", Since: time.Unix(1_800_000_000, 0), Names: []string{"OP-1", "OP-2"},
		Slots: map[provision.Progress]int{provision.ProgressOrdered: 2, provision.ProgressRekeyed: 1},
	}
	for _, h := range []provision.HitSlot{
		{Terminal: "T-1", Status: keyset.StatusActive, Slot: 1, KeySet: "DATA-2", Progress: provision.ProgressOrdered},
		{Terminal: "T-1", Status: keyset.StatusActive, Slot: 2, KeySet: "DATA-2", Progress: provision.ProgressOrdered},
		{Terminal: "T-2", Status: keyset.StatusBlocked, Slot: 1, KeySet: "DATA-2", Progress: provision.ProgressRekeyed},
	} {
		if h.Terminal > after && (f.page == 0 || h.Terminal == "T-1" || after == "T-1") {
			c.Hit = append(c.Hit, h)
		}
	}
	c.More = f.page > 0 && after == ""
	return c, f.called(fmt.Sprintf("campaign %s %q %d", set, after, limit), provision.Actor{})
}

// Enlist refuses the second terminal.
func (f *fake) Enlist(_ context.Context, by provision.Actor, p provision.Part) (out []provision.Enlisted, _ error) {
	for i, r := range p.All {
		one := provision.Enlisted{Terminal: r.Terminal, Ticket: secret.From([]byte("CODE-PIN")), Expires: time.Unix(1_800_000_900, 0)}
		if i == 1 {
			one = provision.Enlisted{Terminal: r.Terminal, Code: provision.CodeTerminalExists, Detail: "it is active"}
		}
		out = append(out, one)
	}
	f.part = p
	f.part.Seed = p.Seed.Clone()
	return out, f.called(fmt.Sprintf("enlist %d %t", len(p.All), p.Dry), by)
}

// Select has seven terminals.
func (f *fake) Select(_ context.Context, filter provision.Filter, after keyset.TerminalID, limit int) (out []*provision.Terminal, more bool, _ error) {
	f.filter = filter
	for n := 1; n <= 7; n++ {
		t := row()
		if t.ID = keyset.TerminalID(fmt.Sprint("T-", n)); t.ID > after {
			out = append(out, t)
		}
	}
	limit = min(limit, f.most(limit))
	return out[:min(limit, len(out))], len(out) > limit, f.called(fmt.Sprintf("terminals %q %d", after, limit), provision.Actor{})
}

// most is how many the fake returns at once.
func (f *fake) most(limit int) int {
	if f.page == 0 {
		return limit
	}
	return f.page
}

func (f *fake) Terminal(_ context.Context, id keyset.TerminalID) (*provision.Terminal, error) {
	return row(), f.called("terminal "+string(id), provision.Actor{})
}

func (f *fake) OpenCode(_ context.Context, id keyset.TerminalID) (time.Time, error) {
	return time.Unix(1_800_000_900, 0), f.called("code of "+string(id), provision.Actor{})
}

// Certificates has five certificates of each of two terminals.
func (f *fake) Certificates(_ context.Context, of keyset.TerminalID, after string, limit int) (out []provision.Issuance, more bool, _ error) {
	at := time.Unix(1_800_000_000, 0)
	states := []provision.CertificateState{"replaced", "revoked", "current", "previous", "replaced"}
	found := after == ""
	for n := range 10 {
		c := provision.Issuance{
			Role: identity.Terminal, Serial: fmt.Sprintf("a%d", n), Terminal: keyset.TerminalID(fmt.Sprint("T-", 1+n%2)),
			Issued: at.Add(-time.Duration(n) * time.Hour), State: states[n/2],
		}
		if found && (of == "" || c.Terminal == of) {
			out = append(out, c)
		}
		found = found || c.Serial == after
	}
	limit = min(limit, f.most(limit))
	return out[:min(limit, len(out))], len(out) > limit, f.called(fmt.Sprintf("certificates %q %q %d", of, after, limit), provision.Actor{})
}

func (f *fake) CRL(context.Context) ([]byte, error) {
	return []byte("a list"), f.called("crl", provision.Actor{})
}

func (f *fake) Feed(_ context.Context, epoch, after uint64, wait time.Duration) ([]byte, error) {
	if epoch != 3 || after != 14 || wait != time.Second {
		return nil, errors.New("another position")
	}
	return []byte("a page"), f.called("feed", provision.Actor{})
}

func (f *fake) Observe(_ context.Context, by provision.Actor, _ feed.Observations) (feed.ObservationsAnswer, error) {
	return feed.ObservationsAnswer{Epoch: 3, Sequence: 15}, f.called("observe", by)
}

func row() *provision.Terminal {
	return &provision.Terminal{
		Tenant: "ACME", ID: "T-1", Status: keyset.StatusActive, Generation: 4, Serial: "bb", PreviousSerial: "aa",
		Slots: []provision.Slot{{Number: 1, KeySet: "DATA-1", Wanted: true}}, Endpoints: []string{"https://localhost:8444"},
	}
}

// house is a listener with the face behind it, and a client for every role.
type house struct {
	url     string
	fake    *fake
	clients map[identity.Role]*http.Client
	others  map[identity.Role]*http.Client // of another tenant
}

func newHouse(t *testing.T) *house {
	t.Helper()
	issuer, err := catest.NewFake(identity.ServicesCA, catest.Twist{}, time.Now)
	must(t, err)
	chain := issuer.Chain()
	pool := x509.NewCertPool()
	pool.AddCert(chain[len(chain)-1])
	trust := tlsconf.Trust{Services: pool}
	certify := func(tenant string, role identity.Role) *tlsconf.Credential {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		req := ca.Request{PublicKey: key.Public(), Identity: identity.Identity{Tenant: tenant, Role: role, Name: "NAME-1"}}
		if role.Server() {
			req.DNSNames, req.IPs = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		}
		issued, err := issuer.Issue(t.Context(), req)
		must(t, err)
		out := tls.Certificate{PrivateKey: key}
		for _, c := range issued {
			out.Certificate = append(out.Certificate, c.Raw)
		}
		c, err := tlsconf.NewCredential(out)
		must(t, err)
		return c
	}
	h := &house{fake: &fake{}, clients: make(map[identity.Role]*http.Client), others: make(map[identity.Role]*http.Client)}
	var accept []identity.Role
	for _, role := range identity.ServicesCA.Roles() {
		if role.Client() {
			accept = append(accept, role)
		}
	}
	server, err := tlsconf.Server(tlsconf.ServerOptions{Credential: certify("ACME", identity.RA), Trust: trust, Accept: accept, Gate: tlsconf.OpenGate()})
	must(t, err)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s := httptest.NewUnstartedServer(serve.Wrap(admin.Handler(h.fake), log, nil))
	s.Listener = tls.NewListener(s.Listener, server)
	s.Start()
	t.Cleanup(s.Close)
	h.url = "https://" + s.Listener.Addr().String()
	for _, role := range accept {
		for tenant, clients := range map[string]map[identity.Role]*http.Client{"ACME": h.clients, "OTHER": h.others} {
			config, err := tlsconf.Client(tlsconf.ClientOptions{Credential: certify(tenant, role), Trust: trust, ServerRole: identity.RA, Gate: tlsconf.OpenGate()})
			must(t, err)
			transport := &http.Transport{TLSClientConfig: config}
			t.Cleanup(transport.CloseIdleConnections)
			clients[role] = &http.Client{Transport: transport, Timeout: 20 * time.Second}
		}
	}
	return h
}

// TestAnotherTenant reads nothing and follows nothing, whatever the role; what changes something is the registry's to refuse.
func TestAnotherTenant(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for role, client := range h.others {
		for _, c := range calls {
			if c.method == http.MethodPost {
				continue
			}
			resp, err := client.Get(h.url + c.path)
			must(t, err)
			must(t, resp.Body.Close())
			if resp.StatusCode != 403 || len(h.fake.calls) > 0 {
				t.Errorf("%s as %s of another tenant: %d, registry called: %v", c.path, role, resp.StatusCode, h.fake.calls)
			}
			if last := h.fake.denied[len(h.fake.denied)-1]; last != "latchkey://OTHER/"+role.String()+"/NAME-1 127.0.0.1 "+c.action {
				t.Errorf("%s as %s of another tenant: audited as %q", c.path, role, last)
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// calls are the endpoints with what reaches them, and who may, written out a second time.
var calls = []struct {
	method, path, body string
	roles              string
	action             string // in the audit log, when it is refused
}{
	{http.MethodGet, "/terminals", "", "operator auditor", "read/terminals"},
	{http.MethodGet, "/terminals/T-1", "", "operator auditor", "read/terminal"},
	{http.MethodPost, "/operations", `{"Action":"block","Terminal":"T-1"}`, "operator", "operate"},
	{http.MethodGet, "/campaigns/DATA-1", "", "operator auditor", "read/campaign"},
	{http.MethodPost, "/fleet", `{"Dry":true,"Terminals":[{"Terminal":"T-1"}]}`, "operator", "operate"},
	{http.MethodGet, "/approvals", "", "operator auditor", "read/approvals"},
	{http.MethodPost, "/approvals/WAITS", "", "operator", "approve"},
	{http.MethodGet, "/certificates", "", "operator auditor", "read/certificates"},
	{http.MethodGet, "/crl", "", "operator auditor", "read/crl"},
	{http.MethodGet, "/registry/feed?epoch=3&after=14", "", "decrypt acquirer-host", "follow"},
	{
		http.MethodPost, "/registry/observations", `{"High":[{"Terminal":"T-1","KeySet":"DATA-1","KeyID":"1234567800000001","Ordinal":1}]}`,
		"decrypt", "observe",
	},
}

// TestEveryRoleAtEveryEndpoint refuses every pair that is not listed, before the registry hears of it.
func TestEveryRoleAtEveryEndpoint(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	pairs := 0
	for role, client := range h.clients {
		for _, c := range calls {
			pairs++
			h.fake.calls, h.fake.denied = nil, nil
			req, err := http.NewRequestWithContext(t.Context(), c.method, h.url+c.path, strings.NewReader(c.body))
			must(t, err)
			if c.method == http.MethodPost {
				req.Header.Set("Content-Type", "application/json")
			}
			resp, err := client.Do(req)
			must(t, err)
			body, err := io.ReadAll(resp.Body)
			must(t, err)
			must(t, resp.Body.Close())
			listed := strings.Contains(" "+c.roles+" ", " "+role.String()+" ")
			if listed != (len(h.fake.calls) > 0) || !listed && (resp.StatusCode != 403 || !strings.Contains(string(body), "RoleNotPermitted")) {
				t.Errorf("%s %s as %s: %d %s, registry called: %v", c.method, c.path, role, resp.StatusCode, body, h.fake.calls)
			}
			want := []string{"latchkey://ACME/" + role.String() + "/NAME-1 127.0.0.1 " + c.action}
			if listed && len(h.fake.denied) != 0 || !listed && !slices.Equal(h.fake.denied, want) {
				t.Errorf("%s %s as %s: audited as %q", c.method, c.path, role, h.fake.denied)
			}
			if listed && resp.StatusCode == 403 {
				t.Errorf("%s %s as %s: %s", c.method, c.path, role, body)
			}
		}
	}
	if want := len(h.clients) * len(calls); pairs != want || pairs < 50 {
		t.Errorf("%d pairs, want %d and 50 or more", pairs, want)
	}
}

func (h *house) client() *admin.Client { return admin.NewClient(h.url, h.clients[identity.Operator]) }

func TestOperation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.fake.out = provision.Outcome{Terminal: row(), Ticket: secret.From([]byte("CODE-PIN"))}
	out, err := h.client().Do(t.Context(), admin.Operation{
		Action: "drain", Terminal: "T-1", Slot: 1, KeyID: "1234567800000001", First: 3, Last: 9, Count: 2, Until: 1_800_000_000, Reason: "queue",
	})
	must(t, err)
	op := h.fake.op
	if op.Action != provision.ActionDrain || op.Terminal != "T-1" || op.KeyID.String() != "1234567800000001" || op.First != 3 || op.Last != 9 ||
		op.Count != 2 || op.Until.Unix() != 1_800_000_000 || h.fake.by.Identity.Name != "NAME-1" || h.fake.by.Source != "127.0.0.1" {
		t.Errorf("%+v by %+v", op, h.fake.by)
	}
	if out.Ticket != "CODE-PIN" || out.Terminal.Serial != "bb" || !out.Terminal.Slots[0].Wanted || out.Approval != nil {
		t.Errorf("outcome %+v", out)
	}
	h.fake.out = provision.Outcome{Approval: &provision.Approval{ID: "WAITS", Operation: op}}
	out, err = h.client().Do(t.Context(), admin.Operation{Action: "rekey", Terminal: "T-1"})
	must(t, err)
	if out.Approval == nil || out.Approval.ID != "WAITS" || out.Approval.Operation.Action != "drain" || out.Terminal != nil {
		t.Errorf("outcome that waits: %+v", out)
	}
}

// TestMalformed has bodies that are refused before the registry hears of them.
func TestMalformed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, body := range map[string]string{
		"nothing": ``, "list": `[]`, "no action": `{"Terminal":"T-1"}`, "no terminal": `{"Action":"block"}`,
		"unknown member": `{"Action":"block","Terminal":"T-1","Force":true}`, "twice": `{"Action":"block","Action":"revoke","Terminal":"T-1"}`,
		"lower case": `{"action":"block","Terminal":"T-1"}`, "null": `{"Action":"block","Terminal":"T-1","Reason":null}`,
		"bad terminal": `{"Action":"block","Terminal":"../T"}`, "bad key set": `{"Action":"register","Terminal":"T-1","Slots":[{"Slot":1,"KeySet":"a b"}]}`,
		"bad key id": `{"Action":"drain","Terminal":"T-1","KeyId":"12"}`, "negative": `{"Action":"code","Terminal":"T-1","Lifetime":-1}`,
		"slot 256": `{"Action":"rekey","Terminal":"T-1","Slot":256}`, "trailing": `{"Action":"block","Terminal":"T-1"}{}`,
		"long": `{"Action":"block","Terminal":"T-1","Reason":"` + strings.Repeat("x", 70<<10) + `"}`,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/operations", strings.NewReader(body))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := h.clients[identity.Operator].Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 400 && resp.StatusCode != 413 {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
	}
	for _, query := range []string{
		"?limit=0", "?limit=1001", "?limit=-1", "?limit=07", "?limit=x", "?limit=", "?after=", "?after=t-1", "?after=T-1&after=T-2", "?before=T-1",
		"?after=%zz", "?limit=99999999999999999999", "?terminal=T-1", "?group=north", "?labels=x", "?labels=a=1,", "?key-set=a%20b",
	} {
		resp, err := h.clients[identity.Operator].Get(h.url + "/terminals" + query)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 400 {
			t.Errorf("terminals%s: status %d", query, resp.StatusCode)
		}
	}
	for _, path := range []string{"/campaigns/data", "/campaigns/DATA-1?limit=0", "/campaigns/DATA-1?after=t", "/campaigns/DATA-1?x=1"} {
		resp, err := h.clients[identity.Operator].Get(h.url + path)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 400 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=1001", "?terminal=t-1", "?terminal=", "?terminal=T-1&terminal=T-2", "?serial=aa"} {
		resp, err := h.clients[identity.Operator].Get(h.url + "/certificates" + query)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 400 {
			t.Errorf("certificates%s: status %d", query, resp.StatusCode)
		}
	}
	for _, query := range []string{"", "?epoch=3", "?epoch=3&after=-1", "?epoch=03&after=14", "?epoch=3&after=99999999999999999999"} {
		resp, err := h.clients[identity.Decrypt].Get(h.url + "/registry/feed" + query)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 400 {
			t.Errorf("feed%s: status %d", query, resp.StatusCode)
		}
	}
	if len(h.fake.calls) != 0 {
		t.Errorf("the registry was called: %v", h.fake.calls)
	}
}

// TestBrowsers keeps pages that an operator looks at from asking for anything: a form sends another content type, a script
// its origin.
func TestBrowsers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for path, body := range map[string]string{
		"/operations": `{"Action":"block","Terminal":"T-1"}`, "/approvals/WAITS": `{}`, "/fleet": `{"Dry":true,"Terminals":[{"Terminal":"T-1"}]}`, "/registry/observations": `{}`,
	} {
		role := identity.Operator
		if path == "/registry/observations" {
			role = identity.Decrypt
		}
		for media, origin := range map[string]string{
			"": "", "text/plain": "", "application/x-www-form-urlencoded": "", "multipart/form-data; boundary=x": "", "application/json": h.url,
			"application/json; charset=utf-8": "null",
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+path, strings.NewReader(body))
			must(t, err)
			if media != "" {
				req.Header.Set("Content-Type", media)
			}
			want := 415
			if origin != "" {
				req.Header.Set("Origin", origin)
				want = 400
			}
			resp, err := h.clients[role].Do(req)
			must(t, err)
			must(t, resp.Body.Close())
			if resp.StatusCode != want {
				t.Errorf("%s as %q from %q: status %d, want %d", path, media, origin, resp.StatusCode, want)
			}
		}
	}
	if len(h.fake.calls) != 0 {
		t.Errorf("the registry was called: %v", h.fake.calls)
	}
}

// TestRefusals come with code, status and hint; what is a fault of ours says nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, info := range provision.Codes() {
		h.fake.err = &provision.Refusal{Code: info.Code, Detail: "slot 3", RetryAfter: 7 * time.Second}
		_, err := h.client().Do(t.Context(), admin.Operation{Action: "block", Terminal: "T-1"})
		refusal, ok := errors.AsType[*admin.Error](err)
		if !ok || refusal.Code != string(info.Code) || refusal.Status != info.HTTPStatus || refusal.Hint != info.Hint ||
			refusal.Message != info.Meaning+": slot 3" || refusal.RetryAfter != 7*time.Second {
			t.Errorf("%s: %v", info.Code, err)
		}
	}
	h.fake.err = errors.New("the pepper is 1234")
	_, err := h.client().Terminals(t.Context())
	if refusal, ok := errors.AsType[*admin.Error](err); !ok || refusal.Status != 500 || strings.Contains(err.Error(), "1234") {
		t.Errorf("a fault: %v", err)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	c := h.client()
	certs, err := c.CertificatesOf(t.Context(), "T-2")
	must(t, err)
	states := ""
	for _, cert := range certs {
		states += cert.Serial + " " + cert.State + ", "
	}
	if states != "a1 replaced, a3 revoked, a5 current, a7 previous, a9 replaced, " {
		t.Errorf("certificates: %s", states)
	}
	waiting, err := c.Approvals(t.Context())
	must(t, err)
	if len(waiting) != 1 || waiting[0].ID != "WAITS" {
		t.Errorf("approvals %+v", waiting)
	}
	if crl, err := c.CRL(t.Context()); err != nil || string(crl) != "a list" {
		t.Errorf("CRL %q, %v", crl, err)
	}
	if one, err := c.Terminal(t.Context(), "T-1"); err != nil || one.Terminal != "T-1" || one.Status != "active" || one.CodeExpires != 1_800_000_900 {
		t.Errorf("terminal %+v, %v", one, err)
	}
	if _, err := admin.NewClient("https://127.0.0.1:1", h.clients[identity.Operator]).Terminals(t.Context()); !errors.Is(err, admin.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestPages has lists come in pages: the client asks until there is no more, and others are told that there is.
func TestPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for page, want := range map[int]string{
		0: `[terminals "" 1000]`, 7: `[terminals "" 7]`, 3: `[terminals "" 3 terminals "T-3" 3 terminals "T-6" 3]`,
	} {
		h.fake.page, h.fake.calls = page, nil
		all, err := h.client().Terminals(t.Context())
		must(t, err)
		if got := fmt.Sprint(h.fake.calls); len(all) != 7 || all[6].Terminal != "T-7" || got != want {
			t.Errorf("%d terminals by %s, want 7 by %s", len(all), got, want)
		}
	}
	h.fake.page, h.fake.calls = 4, nil
	certs, err := h.client().Certificates(t.Context())
	must(t, err)
	if got := fmt.Sprint(h.fake.calls); len(certs) != 10 || certs[9].Serial != "a9" || got != `[certificates "" "" 4 certificates "" "a3" 4 certificates "" "a7" 4]` {
		t.Errorf("%d certificates by %s", len(certs), got)
	}
	h.fake.calls = nil
	certs, err = h.client().CertificatesOf(t.Context(), "T-1")
	must(t, err)
	if got := fmt.Sprint(h.fake.calls); len(certs) != 5 || got != `[certificates "T-1" "" 4 certificates "T-1" "a6" 4]` {
		t.Errorf("%d certificates by %s", len(certs), got)
	}
	h.fake.page = 0
	for path, more := range map[string]bool{
		"/terminals": false, "/terminals?limit=7": false, "/terminals?limit=6": true, "/terminals?limit=6&after=T-1": false,
		"/certificates?limit=10": false, "/certificates?limit=9": true, "/certificates?terminal=T-1&limit=4": true, "/certificates?after=a5&limit=4": false,
	} {
		resp, err := h.clients[identity.Auditor].Get(h.url + path)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != 200 || strings.Contains(string(body), `"More":true`) != more {
			t.Errorf("%s: %d %s, want more %t", path, resp.StatusCode, body, more)
		}
	}
}

// TestPagesThatLeadNowhere has an authority say that there is more and give nothing, or the same again.
func TestPagesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"Terminals":[],"More":true}`, `{"Terminals":[{"Terminal":"T-1"}],"More":true}`} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
		if all, err := admin.NewClient(s.URL, s.Client()).Terminals(t.Context()); err == nil {
			t.Errorf("%s: %v", body, all)
		}
		s.Close()
	}
}
