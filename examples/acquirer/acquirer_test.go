package acquirer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// service is a decryption service that knows one terminal: it reads messages and lets the lab's host make the acks.
type service struct {
	lab *terminaltest.Lab

	mu      sync.Mutex
	raw     map[string][]byte // messages, by digest
	results map[string]api.Recorded
	refuse  *api.Error // what every call is answered with, if not nil
	answers int
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var out any
	switch {
	case s.refuse != nil:
		out, err = nil, s.refuse
	case r.URL.Path == api.PathTransactions:
		out, err = s.transaction(body)
	default:
		out, err = s.answer(body)
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		e, ok := errors.AsType[*api.Error](err)
		if !ok {
			e = &api.Error{Status: 400, Code: "Refused", Message: err.Error()}
		}
		w.WriteHeader(e.Status)
		out = e
	}
	b, err := api.Format(out)
	if err != nil {
		return
	}
	_, _ = w.Write(b)
}

func (s *service) transaction(body []byte) (any, error) {
	req, err := api.ParseTransactionRequest(body)
	if err != nil {
		return nil, err
	}
	m, err := message.Parse(req.Message)
	if err != nil {
		return nil, err
	}
	digest := m.Digest().String()
	out := &api.TransactionResponse{RequestDigest: digest, CounterStatus: api.Fresh, CounterAuthenticated: true}
	if s.raw[digest] != nil {
		out.CounterStatus = api.Resend
	}
	s.raw[digest] = req.Message
	p := m.Payload
	if p.Type == message.SignIn {
		out.Ack, err = s.lab.Host.Receive(req.Message)
	}
	if m.Inner != nil {
		p, out.OriginalDigest = m.Inner.Payload, m.Inner.Digest().String()
	}
	out.Type, out.Tenant, out.Terminal = p.Type.String(), string(p.Tenant), string(p.Terminal)
	out.BootCounter, out.Sequence = p.BootCounter, p.Sequence
	if p.Amount != nil {
		out.Amount = &api.Amount{Minor: p.Amount.Minor, Currency: p.Amount.Currency.String(), Exponent: p.Amount.Exponent}
	}
	if p.Type == message.Sale {
		out.Fields = []api.Field{{Slot: 1, KSN: p.MAC.KSN.String(), Usage: "data", MaskedPAN: "476173******0119"}}
	}
	if rec, ok := s.results[digest]; ok {
		out.RecordedResult = &rec
	}
	return out, err
}

func (s *service) answer(body []byte) (any, error) {
	req, err := api.ParseAnswerRequest(body)
	if err != nil {
		return nil, err
	}
	s.answers++
	s.lab.Host.Decide = func(*message.Payload) message.Result {
		return map[api.Result]message.Result{api.Approved: message.Approved, api.Declined: message.Declined}[req.Result]
	}
	ack, err := s.lab.Host.Receive(s.raw[req.RequestDigest])
	if err != nil {
		return nil, err
	}
	s.results[req.RequestDigest] = api.Recorded{Result: req.Result, Ack: ack}
	return &api.AnswerResponse{Ack: ack, Recorded: api.First}, nil
}

// site is a host with its service, and a terminal's folder.
type site struct {
	lab     *terminaltest.Lab
	service *service
	host    *acquirer.Host
	url     string
	ledger  string
}

func newSite(t *testing.T) *site {
	t.Helper()
	lab := terminaltest.NewLab(t, dukpt.AES)
	s := &site{lab: lab, ledger: filepath.Join(t.TempDir(), "ledger")}
	s.service = &service{lab: lab, raw: make(map[string][]byte), results: make(map[string]api.Recorded)}
	inside, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: lab.Decrypt(t), Trust: lab.Trust, Accept: []identity.Role{identity.AcquirerHost}, Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	call, err := acquirer.Caller(lab.Server(t), lab.Trust)
	check(t, err)
	ledger, err := acquirer.OpenLedger(s.ledger)
	check(t, err)
	t.Cleanup(func() { _ = ledger.Close() })
	transport := &http.Transport{TLSClientConfig: call}
	t.Cleanup(transport.CloseIdleConnections)
	s.host = &acquirer.Host{
		Service: api.NewClient(listen(t, s.service, inside), &http.Client{Transport: transport, Timeout: 10 * time.Second}), Ledger: ledger,
		Log: slog.New(slog.DiscardHandler),
	}
	door, err := acquirer.Listener(lab.Server(t), lab.Trust, tlsconf.OpenGate())
	check(t, err)
	s.url = listen(t, s.host.Handler(), door)
	return s
}

func listen(t *testing.T, h http.Handler, config *tls.Config) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	_ = srv.Listener.Close() // replaced by one with our TLS configuration
	srv.Listener = tls.NewListener(l, config)
	srv.Start()
	t.Cleanup(srv.Close)
	return "https://" + l.Addr().String()
}

func (s *site) terminal(t *testing.T) *terminal.Terminal {
	t.Helper()
	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	check(t, terminal.Import(medium, sealer, s.lab.Bundle(t, terminal.Endpoint{URL: s.url})))
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer})
	check(t, err)
	t.Cleanup(func() { _ = term.Close() })
	return term
}

func sale(minor int64) terminal.SaleRequest {
	return terminal.SaleRequest{
		Amount: message.Amount{Minor: minor, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
		Track:  secret.From([]byte(";4761739001010119=29122010123456789?")),
	}
}

func TestTerminalToLedger(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.host.Approve = func(e acquirer.Entry) bool { return e.Amount.Minor < 5000 }
	term := s.terminal(t)
	if in, err := term.SignIn(soon(t)); err != nil || in.Result != message.SignedIn {
		t.Fatalf("sign-in: %+v, %v", in, err)
	}
	for minor, want := range map[int64]message.Result{1234: message.Approved, 9999: message.Declined} {
		r, err := term.Sale(soon(t), sale(minor))
		check(t, err)
		if r.Result != want {
			t.Errorf("%d: %v, want %v", minor, r.Result, want)
		}
	}
	entries := s.host.Ledger.Entries()
	if len(entries) != 2 || entries[0].Card != "476173******0119" || entries[0].Terminal != terminaltest.TerminalID {
		t.Errorf("ledger %+v", entries)
	}
}

// TestAgain has one message come again: as it is, and, when the answer was lost, inside a resend.
func TestAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	term := s.terminal(t)
	s.service.refuse = &api.Error{Status: 403, Code: "Forbidden", Message: "not now"}
	_, err := term.Sale(soon(t), sale(1234))
	u, ok := errors.AsType[*terminal.UnansweredError](err)
	if !ok {
		t.Fatalf("%v, want an UnansweredError", err)
	}
	if h, ok := errors.AsType[*terminal.HostError](err); !ok || h.Status != 403 || h.Code != "Forbidden" {
		t.Errorf("the terminal hears %v", err)
	}
	s.service.refuse = nil
	r, err := term.Resend(soon(t), &u.Pending)
	check(t, err)
	if !r.Approved() {
		t.Errorf("resend: %+v", r)
	}
	for range 3 { // the service has every message that came; each comes once more
		for _, raw := range s.service.raw {
			status, _ := s.post(t, s.client(t, terminaltest.TerminalID), raw)
			if status != http.StatusOK {
				t.Errorf("again: status %d", status)
			}
		}
	}
	if n := len(s.host.Ledger.Entries()); n != 1 {
		t.Errorf("%d ledger entries, want 1", n)
	}
	if s.service.answers != 1 {
		t.Errorf("%d answers recorded, want 1", s.service.answers)
	}
}

func (s *site) client(t *testing.T, name string) *http.Client {
	t.Helper()
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: s.lab.Client(t, name), Trust: s.lab.Trust, ServerRole: identity.AcquirerHost, ServerName: "127.0.0.1",
		Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func (s *site) post(t *testing.T, c *http.Client, raw []byte) (int, []byte) {
	t.Helper()
	resp, err := c.Post(s.url+"/messages", "application/cbor", bytes.NewReader(raw))
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp.StatusCode, body
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	term := s.terminal(t)
	if _, err := term.Sale(soon(t), sale(1)); err != nil {
		t.Fatal(err)
	}
	var genuine []byte
	for _, raw := range s.service.raw {
		genuine = raw
	}
	own := s.client(t, terminaltest.TerminalID)
	for _, c := range []struct {
		name   string
		client *http.Client
		raw    []byte
		refuse *api.Error
		status int
		code   string
	}{
		{"another terminal's message", s.client(t, "T-0002"), genuine, nil, 403, "WrongTerminal"},
		{"not a message", own, []byte("hello"), nil, 400, "Refused"},
		{"17 KiB", own, make([]byte, 17<<10), nil, 413, "TooLarge"},
		{"replay", own, genuine, &api.Error{Status: 409, Code: "KsnReplayed", Message: "used with another content"}, 409, "KsnReplayed"},
		{"service confused", own, genuine, &api.Error{Status: 502}, 503, "Unavailable"},
	} {
		s.service.refuse = c.refuse
		status, body := s.post(t, c.client, c.raw)
		var said struct{ Code, Message string }
		if err := json.Unmarshal(body, &said); err != nil || status != c.status || said.Code != c.code || said.Message == "" {
			t.Errorf("%s: %d %s, want %d %s", c.name, status, body, c.status, c.code)
		}
	}
	if n := len(s.host.Ledger.Entries()); n != 1 {
		t.Errorf("%d ledger entries, want 1", n)
	}
	resp, err := own.Post(s.url+"/messages", "text/plain", bytes.NewReader(genuine))
	check(t, err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d", resp.StatusCode)
	}
}

func TestDoorIsForTerminals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	call, err := acquirer.Caller(s.lab.Server(t), s.lab.Trust)
	check(t, err)
	call.ServerName = "127.0.0.1"
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: call}, Timeout: 10 * time.Second}
	if resp, err := c.Post(s.url+"/messages", "application/cbor", nil); err == nil {
		_ = resp.Body.Close()
		t.Error("a host came in by the terminals' door")
	}
	req := httptest.NewRequest(http.MethodPost, "/messages", nil)
	w := httptest.NewRecorder()
	s.host.Handler().ServeHTTP(w, req)
	if w.Code != http.StatusForbidden {
		t.Errorf("without TLS: %d, want 403", w.Code)
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	l, err := acquirer.OpenLedger(path)
	check(t, err)
	first := acquirer.Entry{Tenant: "ACME", Terminal: "T-1", BootCounter: 1, Sequence: 1, Digest: "a", Result: api.Approved}
	_, err = l.Book(first)
	check(t, err)
	again := first
	again.Result = api.Declined
	if got, err := l.Book(again); err != nil || got.Result != api.Approved {
		t.Errorf("the same message again: %+v, %v, want the first entry", got, err)
	}
	again.Digest = "b"
	if _, err := l.Book(again); !errors.Is(err, acquirer.ErrConflict) {
		t.Errorf("another message of the number: %v, want ErrConflict", err)
	}
	check(t, l.Close())
	whole, err := os.ReadFile(path)
	check(t, err)
	check(t, os.WriteFile(path, append(whole, `{"Tenant":"ACME","Term`...), 0o600))
	l, err = acquirer.OpenLedger(path)
	check(t, err)
	if got := l.Entries(); len(got) != 1 || got[0] != first {
		t.Errorf("after a cut: %+v", got)
	}
	second := first
	second.Sequence = 2
	_, err = l.Book(second)
	check(t, err)
	check(t, l.Close())
	l, err = acquirer.OpenLedger(path)
	check(t, err)
	if got := l.Entries(); len(got) != 2 {
		t.Errorf("after the cut and one more: %+v", got)
	}
	check(t, l.Close())
	check(t, os.WriteFile(path, append([]byte("{broken\n"), whole...), 0o600))
	if _, err := acquirer.OpenLedger(path); err == nil {
		t.Error("a damaged line is accepted")
	}
}

// soon bounds what a terminal would otherwise try for as long as its context lives.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
