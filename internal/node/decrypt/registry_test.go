package decrypt

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// office is a registration authority that publishes what a test tells it to, and confirms what it is told.
type office struct {
	tb    testing.TB
	place *place
	url   string

	mu       sync.Mutex
	epoch    uint64
	log      [][]byte // every record of the epoch
	last     [32]byte
	known    map[keyset.TerminalID]keyset.Terminal
	latest   map[keyset.TerminalID]uint64
	news     chan struct{} // closed with the next record
	silent   bool          // it answers nothing about the feed
	fault    int           // what it answers to observations, if not 0
	deaf     bool          // it publishes nothing of what it confirms
	seen     map[string]int
	high     map[string]uint32
	confirms int
	accused  []feed.Quarantine
}

// openOffice lets a registration authority listen.
func openOffice(tb testing.TB, p *place) *office {
	tb.Helper()
	o := &office{
		tb: tb, place: p, epoch: 1, known: make(map[keyset.TerminalID]keyset.Terminal), latest: make(map[keyset.TerminalID]uint64),
		news: make(chan struct{}), seen: make(map[string]int), high: make(map[string]uint32),
	}
	config := must[*tls.Config](tb)(tlsconf.Server(tlsconf.ServerOptions{
		Credential: must[*tlsconf.Credential](tb)(tlsconf.NewCredential(p.ra)), Trust: p.trust,
		Accept: []identity.Role{identity.AcquirerHost, identity.Decrypt}, Gate: tlsconf.OpenGate(),
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+feed.PathFeed, o.serveFeed)
	mux.HandleFunc("POST "+feed.PathObservations, o.serveObservations)
	server := httptest.NewUnstartedServer(mux)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	l := must[net.Listener](tb)(net.Listen("tcp", "127.0.0.1:0"))
	_ = server.Listener.Close() // replaced by one with our TLS configuration
	server.Listener = tls.NewListener(l, config)
	server.Start()
	tb.Cleanup(server.Close)
	o.url = "https://" + l.Addr().String()
	return o
}

// publish says something else about a terminal than before, and returns when it did.
func (o *office) publish(id keyset.TerminalID, change func(*keyset.Terminal)) time.Time {
	o.tb.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put(id, change)
	return time.Now()
}

func (o *office) put(id keyset.TerminalID, change func(*keyset.Terminal)) {
	t, ok := o.known[id]
	if !ok {
		t = keyset.Terminal{Version: keyset.FormatVersion, Tenant: "ACME", ID: id, Serial: "0a0b", Status: keyset.StatusActive}
		for _, s := range o.place.bundle.Slots {
			t.Slots = append(t.Slots, keyset.Slot{Slot: s.Number, KeySet: s.KeySet, KeyID: s.KeyID, State: keyset.SlotActive})
		}
		slices.SortFunc(t.Slots, func(a, b keyset.Slot) int { return int(a.Slot) - int(b.Slot) })
	}
	t.Slots = slices.Clone(t.Slots)
	t.Generation++
	if change != nil {
		change(&t)
	}
	o.known[id] = t
	o.append(t)
	close(o.news)
	o.news = make(chan struct{})
}

func (o *office) append(t keyset.Terminal) {
	r := &feed.Record{Epoch: o.epoch, Sequence: uint64(len(o.log)) + 1, Previous: o.last, Kind: feed.KindTerminal, Issuer: "RA-1", Terminal: t}
	envelope, hash, err := feed.SignRecord(r, o.place.ra.Certificate[0], o.place.ra.PrivateKey.(crypto.Signer))
	if err != nil {
		o.tb.Error(err)
	}
	o.log, o.last, o.latest[t.ID] = append(o.log, envelope), hash, r.Sequence
}

// restore begins a new epoch and forgets what was observed.
func (o *office) restore() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epoch++
	o.log, o.last = nil, [32]byte{}
	clear(o.latest)
	clear(o.seen)
	clear(o.high)
	for _, t := range o.known {
		o.append(t)
	}
	close(o.news)
	o.news = make(chan struct{})
}

// set changes how it behaves.
func (o *office) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

func (o *office) page(epoch, after uint64) ([]byte, error) {
	head := uint64(len(o.log))
	p := &feed.Page{Chain: o.place.ra.Certificate[1:], Snapshot: epoch != o.epoch || after > head}
	latest := slices.Collect(maps.Values(o.latest))
	for i, envelope := range o.log {
		if n := uint64(i) + 1; p.Snapshot && slices.Contains(latest, n) || !p.Snapshot && n > after {
			p.Records = append(p.Records, envelope)
		}
	}
	h := &feed.Head{Tenant: "ACME", Epoch: o.epoch, Sequence: head, Hash: o.last, Time: time.Now().Truncate(time.Millisecond), Objects: uint64(len(latest))}
	if p.Snapshot {
		h.Snapshot = feed.SnapshotDigest(p.Records)
	}
	var err error
	if p.Head, err = feed.SignHead(h, o.place.ra.Certificate[0], o.place.ra.PrivateKey.(crypto.Signer)); err != nil {
		return nil, err
	}
	return p.Marshal()
}

func (o *office) serveFeed(w http.ResponseWriter, r *http.Request) {
	epoch, err1 := strconv.ParseUint(r.URL.Query().Get("epoch"), 10, 64)
	after, err2 := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	o.mu.Lock()
	nothing, news, silent := epoch == o.epoch && after == uint64(len(o.log)), o.news, o.silent
	o.mu.Unlock()
	if err1 != nil || err2 != nil || silent {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if nothing {
		select {
		case <-news:
		case <-r.Context().Done():
		case <-time.After(time.Second): // the heartbeat of the feed
		}
	}
	o.mu.Lock()
	body, err := o.page(epoch, after)
	o.mu.Unlock()
	if err != nil {
		o.tb.Error(err)
	}
	w.Header().Set("Content-Type", feed.ContentType)
	_, _ = w.Write(body)
}

func (o *office) serveObservations(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	told, err := feed.ParseObservations(body)
	if err != nil {
		o.tb.Errorf("observations: %v", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fault != 0 {
		w.WriteHeader(o.fault)
		return
	}
	for _, s := range told.FirstSeen {
		o.seen[fmt.Sprint(s.Terminal, " ", s.KeySet)]++
	}
	for _, h := range told.High {
		o.high[fmt.Sprint(h.Terminal, " ", h.KeySet)] = h.Ordinal
	}
	o.confirm(told.Confirmed)
	o.quarantine(told.Quarantined)
	a := feed.ObservationsAnswer{Epoch: o.epoch, Sequence: uint64(len(o.log))}
	if o.deaf {
		a.Sequence += 1000
	}
	answer, err := a.Marshal()
	if err != nil {
		o.tb.Error(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer)
}

func (o *office) confirm(confirmed []feed.Confirmation) {
	if len(confirmed) == 0 {
		return
	}
	o.confirms++
	if o.deaf {
		return
	}
	o.put(confirmed[0].Terminal, func(t *keyset.Terminal) {
		if t.Status == keyset.StatusPending {
			t.Status = keyset.StatusActive
		}
		for _, c := range confirmed {
			for i, s := range t.Slots {
				if s.Slot == c.Slot && s.KeySet == c.KeySet && s.KeyID == c.KeyID && s.State == keyset.SlotPending {
					t.Slots[i].State = keyset.SlotActive
				}
			}
		}
	})
}

// quarantine holds what there is evidence against, as a registration authority does.
func (o *office) quarantine(accused []feed.Quarantine) {
	for _, q := range accused {
		o.accused = append(o.accused, q)
		if s := o.known[q.Terminal].Status; s == keyset.StatusPending || s == keyset.StatusActive || s == keyset.StatusBlocked {
			o.put(q.Terminal, func(t *keyset.Terminal) { t.Status = keyset.StatusQuarantined })
		}
	}
}

// following is a configuration that follows an authority.
func following(tb testing.TB, o *office, c Config) Config {
	tb.Helper()
	c.Registry = &RegistryConfig{
		URLs: []string{o.url}, Certificate: c.Certificate, Key: c.Key, StaleAfter: daemon.Duration(5 * time.Minute),
		Cache: filepath.Join(tb.TempDir(), "registry.cache"),
	}
	return c
}

// until polls for a condition.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: did not come", what)
		}
	}
}

// ready waits until the node is ready.
func (r *running) ready() {
	r.tb.Helper()
	until(r.tb, "readiness", func() bool { status, _ := r.admin("/readyz"); return status == http.StatusOK })
}

// knows waits until the node has heard of a record. Asking with a message would use up how often one is answered.
func (r *running) knows(sequence int) {
	r.tb.Helper()
	want := fmt.Sprintf("\nlatchkey_registry_sequence %d\n", sequence)
	until(r.tb, want, func() bool { _, text := r.admin("/metrics"); return strings.Contains(text, want) })
}

func (r *running) send(raw []byte) (*api.TransactionResponse, error) {
	return r.api().Transaction(r.tb.Context(), api.TransactionRequest{Message: raw})
}

// becomes says what became of a message, in a word.
func (r *running) becomes(raw []byte) string {
	res, err := r.send(raw)
	if e, ok := asError(err); ok {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	if res.Code != "" {
		return res.Code
	}
	return string(res.CounterStatus)
}

func asError(err error) (*api.Error, bool) {
	e, ok := err.(*api.Error)
	return e, ok
}

func (r *running) expect(what string, raw []byte, want string) {
	r.tb.Helper()
	if got := r.becomes(raw); got != want {
		r.tb.Errorf("%s: %s, want %s", what, got, want)
	}
}

func (r *running) signIn(ordinal uint32) []byte {
	r.tb.Helper()
	return must[[]byte](r.tb)(r.card.Message(&message.Payload{
		Type: message.SignIn, BootCounter: 1, Sequence: uint64(ordinal), Nonce: bytes.Repeat([]byte{byte(ordinal)}, message.NonceSize),
	}, dataSlot, ordinal))
}

func (r *running) resend(raw []byte, ordinal uint32) []byte {
	r.tb.Helper()
	return must[[]byte](r.tb)(r.card.Message(&message.Payload{Type: message.Resend, BootCounter: 1, Sequence: uint64(ordinal), Inner: raw}, dataSlot, ordinal))
}

// TestTheFeedSaysWhatThereIs has the folder know a terminal that the feed does not, and then knows it.
func TestTheFeedSaysWhatThereIs(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	r := start(t, p, following(t, o, c))
	r.ready()
	sale := r.sale(1, 100)
	r.expect("a terminal of the folder alone", sale, "TerminalUnknown")
	o.publish("T-9", func(t *keyset.Terminal) { t.Slots = nil })
	o.publish("T-1", nil)
	r.knows(2)
	r.expect("a terminal of the feed", sale, "FRESH")
	o.publish("T-1", func(t *keyset.Terminal) { t.Slots[1].KeySet = "PINS" })
	r.knows(3)
	r.expect("a key id that is of another set", sale, "KeySetUnknown")
	o.publish("T-1", func(t *keyset.Terminal) { t.Slots[1].KeySet, t.Slots[0].State = "CARDS", keyset.SlotRetired })
	r.knows(4)
	r.expect("a retired key", sale, "SlotNotActive")
	o.publish("T-1", func(t *keyset.Terminal) { t.Slots[0].State = keyset.SlotDraining })
	r.knows(5)
	r.expect("a draining key", sale, "RESEND")
	_, metrics := r.admin("/metrics")
	for _, want := range []string{
		"latchkey_registry_epoch 1", "latchkey_registry_sequence 5", "latchkey_registry_terminals 2", "latchkey_registry_failures_total 0",
		"latchkey_registry_age_seconds 0.", "latchkey_registry_stale 0", "latchkey_registry_reports_waiting ",
	} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if _, body := r.admin("/readyz"); !strings.Contains(body, `"registry":"ok"`) {
		t.Errorf("ready: %s", body)
	}
}

// TestARevocationIsQuick wants every KSN of a terminal refused within two seconds of its revocation.
func TestARevocationIsQuick(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	for _, status := range []keyset.Status{keyset.StatusRevoked, keyset.StatusCompromised} {
		t.Run(status.String(), func(t *testing.T) {
			t.Parallel()
			p, c := testConfig(t)
			o := openOffice(t, p)
			o.publish("T-1", nil)
			r := start(t, p, following(t, o, c))
			r.ready()
			open, answered := r.sale(1, 100), r.sale(2, 100)
			r.expect("a sale", open, "FRESH")
			tx := must[*api.TransactionResponse](t)(r.send(answered))
			must[*api.AnswerResponse](t)(r.api().Answer(t.Context(), api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Approved}))
			mail := map[string][]byte{
				"another sale": r.sale(3, 100), "a sign-in": r.signIn(4), "open, again": open, "open, resent": r.resend(open, 5),
				"answered, again": answered, "answered, resent": r.resend(answered, 6), "unseen, resent": r.resend(r.sale(7, 100), 8),
			}
			client := r.client(p.acquirer)
			since := o.publish("T-1", func(t *keyset.Terminal) { t.Status = status })
			until(t, "the revocation", func() bool {
				res := must[*http.Response](t)(client.Get("https://" + r.addrs.Service + "/terminals/T-1/counters"))
				defer func() { _ = res.Body.Close() }()
				return strings.Contains(string(must[[]byte](t)(io.ReadAll(res.Body))), status.String())
			})
			took := time.Since(since)
			if took > limit {
				t.Errorf("known %v after the revocation, want at most %v", took, limit)
			}
			t.Logf("refused %v after the revocation", took)
			for what, raw := range mail {
				r.expect(what, raw, "TerminalRevoked")
			}
			_, err := r.api().Answer(t.Context(), api.AnswerRequest{RequestDigest: message.DigestOf(open).String(), Result: api.Approved})
			if !api.IsCode(err, string(decrypt.CodeTerminalRevoked)) {
				t.Errorf("an answer: %v", err)
			}
		})
	}
}

// TestASignInIsConfirmedByTheRegistry signs in under a pending key and sells at once.
func TestASignInIsConfirmedByTheRegistry(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	o.publish("T-1", func(t *keyset.Terminal) { t.Status, t.Slots[1].State = keyset.StatusPending, keyset.SlotPending })
	r := start(t, p, following(t, o, c))
	r.ready()
	r.expect("a sale before", r.sale(1, 100), "TerminalNotActive")
	signIn := r.signIn(2)

	for name, set := range map[string]func(){"refused": func() { o.fault = http.StatusConflict }, "out of order": func() { o.fault = http.StatusInternalServerError }} {
		o.set(set)
		res, err := r.send(signIn)
		if e, ok := asError(err); res != nil || !ok || e.Status != http.StatusServiceUnavailable || e.Code != string(decrypt.CodeRegistryUnavailable) {
			t.Errorf("%s: answered %v, %v", name, res != nil, err)
		}
	}
	o.set(func() { o.fault, o.deaf = 0, true })
	began := time.Now()
	r.expect("a feed that does not follow", signIn, "RegistryUnavailable")
	if took := time.Since(began); took < feedTimeout || took > feedTimeout+5*time.Second {
		t.Errorf("waited %v for the feed, want %v", took, feedTimeout)
	}
	o.set(func() { o.deaf = false })

	res := must[*api.TransactionResponse](t)(r.send(signIn))
	if a := must[*message.AckPayload](t)(r.card.Ack(res.Ack, dataSlot, 2)); a.Result != message.SignedIn || res.CounterStatus != api.Resend {
		t.Errorf("the same sign-in: %v, %v", a.Result, res.CounterStatus)
	}
	r.expect("a sale right afterwards", r.sale(3, 100), "FRESH")
	o.set(func() {
		if o.confirms != 2 { // the deaf one and the last
			t.Errorf("confirmed %d times, want 2", o.confirms)
		}
	})
}

// TestWithoutASignOfLife wants nothing answered before the first word of the authority, and when the last is too old.
func TestWithoutASignOfLife(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	o.publish("T-1", nil)
	o.set(func() { o.silent = true })
	c = following(t, o, c)
	c.Registry.StaleAfter = daemon.Duration(5 * time.Second)
	r := start(t, p, c)
	sale := r.sale(1, 100)
	stale := func(when string) {
		t.Helper()
		_, err := r.send(sale)
		if e, ok := asError(err); !ok || e.Status != http.StatusServiceUnavailable || e.Code != string(decrypt.CodeRegistryStale) {
			t.Errorf("%s: %v", when, err)
		}
		if status, body := r.admin("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, `"registry":"failed"`) {
			t.Errorf("%s: ready %d %s", when, status, body)
		}
	}
	stale("before the first word")
	if _, metrics := r.admin("/metrics"); !strings.Contains(metrics, "\nlatchkey_registry_age_seconds +Inf") {
		t.Error("an age before the first word")
	}
	o.set(func() { o.silent = false })
	r.ready()
	r.expect("a sale", sale, "FRESH")
	o.set(func() { o.silent = true })
	until(t, "staleness", func() bool { status, _ := r.admin("/readyz"); return status != http.StatusOK })
	stale("after silence")
	o.set(func() { o.silent = false })
	r.ready()
	r.expect("a sale again", sale, "RESEND")
}

// TestTheRegistryHearsOfEveryKey wants first uses and high marks told soon, after an outage, of what the database knows from
// before, and again to an authority that has lost them.
func TestTheRegistryHearsOfEveryKey(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	before := start(t, p, c) // no registry yet
	before.expect("a sale", before.sale(1, 100), "FRESH")
	before.expect("a sale", before.sale(9, 100), "FRESH")
	if err := before.stop(); err != nil {
		t.Fatal(err)
	}
	o := openOffice(t, p)
	o.publish("T-1", nil)
	told := func(what string, high uint32) {
		t.Helper()
		var last string
		defer func() {
			if t.Failed() {
				t.Log(last)
			}
		}()
		until(t, what, func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			last = fmt.Sprint(o.seen, o.high)
			return o.seen["T-1 CARDS"] >= 1 && o.seen["T-1 PINS"] >= 1 && o.high["T-1 CARDS"] == high && o.high["T-1 PINS"] == high
		})
	}
	r := start(t, p, following(t, o, c))
	r.ready()
	told("what the database knows", 9)
	r.expect("a sale", r.sale(12, 100), "FRESH")
	told("a use", 12)
	o.set(func() { o.fault = http.StatusServiceUnavailable })
	r.expect("a sale that cannot be told", r.sale(15, 100), "FRESH")
	until(t, "a failed report", func() bool { return strings.Contains(r.log.String(), "could not be told") })
	o.set(func() { o.fault = 0 })
	told("what could not be told", 15)
	o.restore()
	told("what a restored authority lost", 15)
	r.expect("a sale", r.sale(20, 100), "FRESH")
	if err := r.stop(); err != nil { // tells what is left
		t.Fatal(err)
	}
	told("the last use", 20)
}

// TestADrainOverTheWire blocks a terminal, grants a drain and restarts the service in the middle of it.
func TestADrainOverTheWire(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	c = following(t, o, c)
	r := start(t, p, c)
	r.ready()
	grant := keyset.DrainGrant{ID: "0123456789ABCDEFGHJKMNPQRS", Slot: dataSlot, First: 1, Last: 5, Count: 2, Until: time.Now().Add(time.Hour).Truncate(time.Second)}
	o.publish("T-1", func(t *keyset.Terminal) {
		grant.KeyID = t.Slots[1].KeyID
		t.Status, t.DrainGrants = keyset.StatusBlocked, []keyset.DrainGrant{grant}
	})
	first := r.sale(1, 100)
	r.knows(1)
	r.expect("the first", first, "FRESH")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, p, c)
	r.ready()
	r.expect("outside of the range", r.sale(6, 100), "TerminalBlocked")
	r.expect("the second", r.resend(r.sale(2, 100), 7), "FRESH")
	third := must[*api.TransactionResponse](t)(r.send(r.sale(3, 100)))
	if a := must[*message.AckPayload](t)(r.card.Ack(third.Ack, dataSlot, 3)); a.Result != message.Held || !third.Held || third.Code != "DrainGrantSpent" {
		t.Errorf("the third: %v, %q", a.Result, third.Code)
	}
	r.expect("the first, again", first, "RESEND")
}

// TestARegistryNeedsACredential refuses to start without the certificate that is to be shown.
func TestARegistryNeedsACredential(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	c = following(t, o, c)
	c.Registry.Certificate += "x"
	if err := Check(context.Background(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "registry: certificate") {
		t.Errorf("without a certificate: %v", err)
	}
}
