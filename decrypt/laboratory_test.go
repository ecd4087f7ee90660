package decrypt_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
)

const (
	pinSlot  = 1
	dataSlot = 2

	testPAN   = "4761739001010119"
	otherPAN  = "5413330089020011"
	testPIN   = "794361825037" // long, so that no timestamp holds it by chance
	testTrack = ";4761739001010119=22122011143878089?"
)

// The zone keys, which the tests know so that they can open what comes out.
var (
	zoneKey    = []byte("\x2f\x31\x40\x57\x68\x79\x8a\x9b\xad\xbc\xcb\xda\xe9\xf8\x01\x10")
	zoneKeyAES = []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
)

// laboratory is a service with real keys, an in-memory store and a terminal whose firmware does what a test wants.
type laboratory struct {
	tb       testing.TB
	scheme   dukpt.Scheme
	ring     *keyring.Ring
	books    *books
	store    decrypt.Store
	service  *decrypt.Service
	engine   *faultyEngine
	registry decrypt.Registry // of services made by with
	terminal *rogue.Terminal
	caller   decrypt.Caller
	clock    *testClock
	log      *syncBuffer
	offline  *message.Limits // what a service made anew tells terminals
}

// testClock is a clock that only a test moves.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// syncBuffer is a log that many goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// books is a catalog that tests write in.
type books struct {
	mu        sync.Mutex
	sets      map[keyset.ID]*keyset.KeySet
	terminals map[keyset.TerminalID]*keyset.Terminal
}

func (b *books) KeySet(id keyset.ID) (*keyset.KeySet, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.sets[id]
	return s, ok
}

func (b *books) Terminal(tenant keyset.TenantID, id keyset.TerminalID) (*keyset.Terminal, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.terminals[id]
	return t, ok && t.Tenant == tenant
}

func (b *books) KeySetOver(base keys.Fingerprint, id dukpt.KeyID) (*keyset.KeySet, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sets {
		if s.BaseKeyFingerprint == base && s.Contains(id) {
			return s, true
		}
	}
	return nil, false
}

func (b *books) Holder(tenant keyset.TenantID, set keyset.ID, id dukpt.KeyID) (*keyset.Terminal, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.terminals {
		if t.Tenant == tenant && slices.ContainsFunc(t.Slots, func(s keyset.Slot) bool { return s.KeySet == set && s.KeyID == id }) {
			return t, true
		}
	}
	return nil, false
}

// changeSet replaces a set by a changed copy.
func (b *books) changeSet(id keyset.ID, change func(*keyset.KeySet)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sets[id].Clone()
	change(s)
	b.sets[id] = s
}

// changeTerminal replaces the terminal by a changed copy.
func (b *books) changeTerminal(change func(*keyset.Terminal)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := *b.terminals["T-1"]
	t.Slots = slices.Clone(t.Slots)
	change(&t)
	b.terminals["T-1"] = &t
}

// faultyEngine fails when a test wants it to.
type faultyEngine struct {
	engine.Engine
	mu    sync.Mutex
	fault error
}

func (e *faultyEngine) Begin(ctx context.Context, base keyset.KeyRef, ksn dukpt.KSN) (engine.HostOps, error) {
	e.mu.Lock()
	fault := e.fault
	e.mu.Unlock()
	if fault != nil {
		return nil, fault
	}
	return e.Engine.Begin(ctx, base, ksn)
}

func (e *faultyEngine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = err
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

var cheap = seal.Params{Memory: 64, Time: 1, Parallelism: 1}

// newLaboratory makes tenant ACME with terminal T-1: a PIN slot and a data slot under one base key each.
func newLaboratory(tb testing.TB, scheme dukpt.Scheme) *laboratory {
	tb.Helper()
	l := &laboratory{
		tb: tb, scheme: scheme, clock: &testClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, log: new(syncBuffer),
		books: &books{sets: map[keyset.ID]*keyset.KeySet{}, terminals: map[keyset.TerminalID]*keyset.Terminal{}},
	}
	ring, err := keyring.CreateWith(tb.TempDir(), secret.From([]byte("a test passphrase")), keyring.Options{Clock: l.clock.Now, Seal: cheap})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(ring.Close)
	l.ring = ring
	l.engine = &faultyEngine{Engine: ring.Engine()}
	zone := l.importKey("alias/zone-1", keys.TDES2, zoneKey)
	zoneAES := l.importKey("alias/zone-aes", keys.AES128, zoneKeyAES)
	pinSet, dataSet := keyset.NewTDESPIN(), keyset.NewTDESData()
	firstPIN, firstData := "FFFF9876543210E00000", "FFFF9876543211E00000"
	algorithm := keys.TDES2
	if scheme == dukpt.AES {
		pinSet, dataSet = keyset.NewAESPIN(), keyset.NewAESData()
		firstPIN, firstData = "1234567890123456", "1234567890123457"
		algorithm = keys.AES128
	}
	l.addSet(pinSet, "PINS", "alias/bdk-pin", algorithm, firstPIN)
	l.addSet(dataSet, "CARDS", "alias/bdk-data", algorithm, firstData)
	l.books.changeSet("PINS", func(s *keyset.KeySet) { s.OutgoingPINKeys = []keyset.KeyRef{zone, zoneAES} })
	l.caller = decrypt.Caller{Tenant: "ACME", Name: "ACQ-1", Role: decrypt.RoleAcquirerHost, PINKeys: []keyset.KeyRef{zone, zoneAES}}
	bundle := &terminal.Bundle{Tenant: "ACME", Terminal: "T-1", Environment: keyset.Test}
	record := &keyset.Terminal{Version: keyset.FormatVersion, Tenant: "ACME", ID: "T-1", Status: keyset.StatusActive, Generation: 1}
	for slot, id := range map[uint8]keyset.ID{pinSlot: "PINS", dataSlot: "CARDS"} {
		bundle.Slots = append(bundle.Slots, l.bundleSlot(slot, l.books.sets[id], l.books.sets[id].FirstID))
	}
	record.Slots = []keyset.Slot{
		{Slot: pinSlot, KeySet: "PINS", KeyID: l.books.sets["PINS"].FirstID, State: keyset.SlotActive},
		{Slot: dataSlot, KeySet: "CARDS", KeyID: l.books.sets["CARDS"].FirstID, State: keyset.SlotActive},
	}
	if err := record.Validate(); err != nil {
		tb.Fatal(err)
	}
	l.books.terminals["T-1"] = record
	l.terminal = must[*rogue.Terminal](tb)(rogue.New(bundle))
	tb.Cleanup(l.terminal.Close)
	l.store = newStore(tb)
	l.service = l.with(l.store)
	return l
}

// bundleSlot is a slot of a bundle with the initial key of an id.
func (l *laboratory) bundleSlot(slot uint8, set *keyset.KeySet, id dukpt.KeyID) terminal.BundleSlot {
	l.tb.Helper()
	base := must[*dukpt.BaseKey](l.tb)(l.ring.BaseKey(set.BaseKey))
	defer base.Wipe()
	ik := must[*dukpt.InitialKey](l.tb)(base.Derive(id))
	defer ik.Wipe()
	return must[terminal.BundleSlot](l.tb)(terminal.NewBundleSlot(slot, set, ik))
}

func (l *laboratory) generate(name string, algorithm keys.Algorithm, usage keys.Usage, mode keys.Mode) keyset.KeyRef {
	l.tb.Helper()
	ref := must[keyset.KeyRef](l.tb)(keyset.ParseKeyRef(name))
	a := keys.Attributes{Algorithm: algorithm, Usage: usage, Mode: mode, Exportability: keys.NonExportable}
	must[engine.KeyInfo](l.tb)(l.ring.Generate(ref, a, keyset.Test))
	return ref
}

func (l *laboratory) importKey(name string, algorithm keys.Algorithm, material []byte) keyset.KeyRef {
	l.tb.Helper()
	ref := must[keyset.KeyRef](l.tb)(keyset.ParseKeyRef(name))
	k := must[keys.Key](l.tb)(keys.NewKey(keys.Attributes{
		Algorithm: algorithm, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	}, material))
	defer k.Wipe()
	must[engine.KeyInfo](l.tb)(l.ring.Import(ref, k, keyset.Test))
	return ref
}

func (l *laboratory) addSet(s *keyset.KeySet, id keyset.ID, base string, algorithm keys.Algorithm, first string) {
	l.tb.Helper()
	s.ID, s.Tenant, s.Environment = id, "ACME", keyset.Test
	s.BaseKey = l.generate(base, algorithm, keys.UsageBDK, keys.ModeDerive)
	info := must[engine.KeyInfo](l.tb)(l.ring.Engine().Describe(context.Background(), s.BaseKey))
	s.BaseKeyFingerprint = info.Fingerprint
	s.FirstID = must[dukpt.KeyID](l.tb)(dukpt.ParseKeyID(first))
	s.LastID = s.FirstID
	if err := s.Validate(); err != nil {
		l.tb.Fatal(err)
	}
	l.books.sets[id] = s
}

func euro(cents int64) message.Amount {
	return message.Amount{Minor: cents, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2}
}

// sale is the payload of a sale with card and PIN at an ordinal.
func (l *laboratory) sale(ordinal uint32, cents int64) *message.Payload {
	l.tb.Helper()
	p := must[pin.PIN](l.tb)(pin.ParsePIN([]byte(testPIN)))
	pan := must[pin.PAN](l.tb)(pin.ParsePAN(testPAN))
	return must[*message.Payload](l.tb)(l.terminal.Sale(uint64(ordinal), euro(cents), []byte(testTrack), dataSlot, pinSlot, ordinal, p, pan))
}

// sign MACs a payload under the data slot. The terminal's clock stands still, so that the same payload is the same message.
func (l *laboratory) sign(p *message.Payload, ordinal uint32) []byte {
	l.tb.Helper()
	if p.Time == 0 {
		p.Time = time.Date(2026, time.January, 2, 12, 0, 0, 0, time.UTC).Unix()
	}
	return must[[]byte](l.tb)(l.terminal.Message(p, dataSlot, ordinal))
}

// resend wraps a message under a fresh KSN.
func (l *laboratory) resend(inner []byte, ordinal uint32) []byte {
	l.tb.Helper()
	return l.sign(&message.Payload{Type: message.Resend, BootCounter: 1, Sequence: uint64(ordinal), Inner: inner}, ordinal)
}

func (l *laboratory) send(raw []byte) (*decrypt.TransactionResult, error) {
	return l.service.Transaction(context.Background(), l.caller, decrypt.TransactionRequest{Message: raw, OutgoingPINKey: l.zone()})
}

// zone is the outgoing key that goes with the scheme of the terminal.
func (l *laboratory) zone() keyset.KeyRef {
	if l.scheme == dukpt.AES {
		return l.caller.PINKeys[1]
	}
	return l.caller.PINKeys[0]
}

// accept sends a message that must be answered.
func (l *laboratory) accept(raw []byte) *decrypt.TransactionResult {
	l.tb.Helper()
	return must[*decrypt.TransactionResult](l.tb)(l.send(raw))
}

// refuses sends a message that must be refused with a code.
func (l *laboratory) refuses(raw []byte, code decrypt.Code) *decrypt.Refusal {
	l.tb.Helper()
	res, err := l.send(raw)
	if res != nil {
		l.tb.Fatalf("answered with %v fields, code %q; want the refusal %s", len(res.Fields), res.Code, code)
	}
	r, ok := errors.AsType[*decrypt.Refusal](err)
	if !ok || r.Code != code {
		l.tb.Fatalf("got %v, want %s", err, code)
	}
	return r
}

// ack verifies an acknowledgement as the terminal would.
func (l *laboratory) ack(raw []byte, ordinal uint32) *message.AckPayload {
	l.tb.Helper()
	return must[*message.AckPayload](l.tb)(l.terminal.Ack(raw, dataSlot, ordinal))
}
