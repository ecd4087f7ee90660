package terminaltest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

// ErrMessage is what Host says to anything that does not verify.
var ErrMessage = errors.New("terminaltest: message does not verify")

// ErrReused is what Host says when a key serves a second content.
var ErrReused = errors.New("terminaltest: a key serves twice")

// Host answers the lab's terminal. It checks every MAC and opens every field with the host's half of the keys. It is safe
// for concurrent use.
type Host struct {
	mu     sync.Mutex
	lab    *Lab
	zone   keys.Key
	keys   []hostKey
	deaf   bool
	seen   map[use]message.Digest
	ledger map[message.Digest]*Entry
	order  []message.Digest

	// Decide, if not nil, gives the result of a message instead of Approved. It is called with the host locked.
	Decide func(*message.Payload) message.Result
	// Floors are reported in every ack.
	Floors []message.SlotFloor
	// Limits are told in every ack.
	Limits *message.Limits
	// Enforce has the host refuse what is new to it at and below Floors, as the service does: it books nothing and answers
	// KsnTooOld, to a resend in the name of its original as well.
	Enforce bool
	// Tamper, if not nil, changes what an ack says before it is MACed.
	Tamper func(*message.AckPayload)
	reused int
	signs  int
}

// Entry is one message as the host booked it: live retries and resends do not make a second one.
type Entry struct {
	Type     message.Type
	Sequence uint64
	Masked   string // PAN of the card data
	WithPIN  bool
	Amount   message.Amount
	Result   message.Result
	Original *message.Original
	Tries    int
}

// use is one key of one purpose.
type use struct {
	ksn     dukpt.KSN
	purpose keyset.Usage
}

func newHost(tb testing.TB, l *Lab) *Host {
	tb.Helper()
	a := keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	}
	if l.Scheme == dukpt.AES {
		a.Algorithm = keys.AES128
	}
	zone, err := keys.GenerateKey(a)
	check(tb, err)
	h := &Host{lab: l, zone: zone, seen: make(map[use]message.Digest), ledger: make(map[message.Digest]*Entry)}
	for slot, id := range l.ids {
		h.keys = append(h.keys, hostKey{slot, id, keyset.SlotActive})
	}
	return h
}

// Fork returns a host that knows what h knows now, and goes its own way from here on.
func (h *Host) Fork() *Host {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &Host{
		lab: h.lab, zone: h.zone, keys: slices.Clone(h.keys), deaf: h.deaf, seen: maps.Clone(h.seen),
		ledger: make(map[message.Digest]*Entry, len(h.ledger)), order: slices.Clone(h.order),
		Decide: h.Decide, Floors: h.Floors, Limits: h.Limits, Enforce: h.Enforce, Tamper: h.Tamper, reused: h.reused, signs: h.signs,
	}
	for d, e := range h.ledger {
		again := *e
		f.ledger[d] = &again
	}
	return f
}

// hostKey is a key of the terminal as the host knows it.
type hostKey struct {
	slot  uint8
	id    dukpt.KeyID
	state keyset.SlotState
}

// Expect tells the host of a key that has been delivered for a slot: a sign-in may prove it, and nothing else is taken
// under it before. Then it is active, and the one before it drains: what it sent earlier is answered still.
func (h *Host) Expect(slot uint8, id dukpt.KeyID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deaf {
		return
	}
	h.keys = append(h.keys, hostKey{slot, id, keyset.SlotPending})
}

// Deaf has the host not hear of keys that are delivered.
func (h *Host) Deaf(deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = deaf
}

// Forget has the host know no key, as of a terminal that has none yet.
func (h *Host) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys = nil
}

// Active returns the active key of a slot, zero for none.
func (h *Host) Active(slot uint8) dukpt.KeyID {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.keys {
		if k.slot == slot && k.state == keyset.SlotActive {
			return k.id
		}
	}
	return dukpt.KeyID{}
}

// confirm makes a pending key active.
func (h *Host) confirm(slot uint8, id dukpt.KeyID) {
	for i := range h.keys {
		k := &h.keys[i]
		if k.slot != slot {
			continue
		}
		switch {
		case k.id == id && k.state == keyset.SlotPending:
			k.state = keyset.SlotActive
		case k.id != id && k.state == keyset.SlotActive:
			k.state = keyset.SlotDraining
		}
	}
}

// Entries returns the ledger in the order of arrival.
func (h *Host) Entries() []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Entry
	for _, d := range h.order {
		out = append(out, *h.ledger[d])
	}
	return out
}

// Reused returns how often a key came with a second content.
func (h *Host) Reused() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reused
}

// SignIns returns how many sign-ins were answered.
func (h *Host) SignIns() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.signs
}

// Keys returns how many distinct keys have been seen.
func (h *Host) Keys() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.seen)
}

// Receive takes a message and returns the ack.
func (h *Host) Receive(raw []byte) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, err := message.Parse(raw)
	if err != nil {
		return nil, err
	}
	tx, err := h.verify(m, h.takes(m))
	if err != nil {
		return nil, err
	}
	defer tx.End()
	digests := []message.Digest{m.Digest()}
	result := message.SignedIn
	switch m.Payload.Type {
	case message.SignIn:
		err = h.signIn(m.Payload)
	case message.Resend:
		var inner *message.Message
		if inner, err = message.Parse(m.Payload.Inner); err != nil {
			return nil, err
		}
		innerTx, e := h.verify(inner, []keyset.SlotState{keyset.SlotActive, keyset.SlotDraining})
		if e != nil {
			return nil, e
		}
		innerTx.End()
		digests = append(digests, inner.Digest())
		if h.tooOld(m) {
			result = message.KsnTooOld
			break
		}
		result, err = h.book(inner)
	default:
		result, err = h.book(m)
	}
	if err != nil {
		return nil, err
	}
	return h.ack(tx, m.Payload, result, digests)
}

func (h *Host) spec(slot uint8) dukpt.MACSpec { return h.lab.Sets[slot].MACSpec() }

// takes returns the states of keys that a message may come under: a sign-in proves pending ones, and under a draining one
// nothing is taken but what was before.
func (h *Host) takes(m *message.Message) []keyset.SlotState {
	if m.Payload.Type == message.SignIn {
		return []keyset.SlotState{keyset.SlotActive, keyset.SlotPending}
	}
	if h.ledger[m.Digest()] != nil {
		return []keyset.SlotState{keyset.SlotActive, keyset.SlotDraining}
	}
	return []keyset.SlotState{keyset.SlotActive}
}

// verify checks the MAC first and then that the key has served nothing else.
func (h *Host) verify(m *message.Message, states []keyset.SlotState) (*dukpt.HostTransaction, error) {
	ref := m.Payload.MAC
	tx, err := h.begin(ref.Slot, ref.KSN, states)
	if err != nil {
		return nil, err
	}
	if err := tx.VerifyMAC(h.spec(ref.Slot), m.PayloadBytes, m.MAC); err != nil {
		tx.End()
		return nil, fmt.Errorf("%w: %v", ErrMessage, err)
	}
	if err := h.claim(use{ref.KSN, keyset.UsageMAC}, m.Digest()); err != nil {
		tx.End()
		return nil, err
	}
	return tx, nil
}

func (h *Host) begin(slot uint8, ksn dukpt.KSN, states []keyset.SlotState) (*dukpt.HostTransaction, error) {
	for _, k := range h.keys {
		if k.slot == slot && k.id == ksn.KeyID() && slices.Contains(states, k.state) {
			return h.lab.Base[slot].Begin(ksn)
		}
	}
	return nil, fmt.Errorf("%w: slot %d has no key %v for this", ErrMessage, slot, ksn.KeyID())
}

func (h *Host) claim(u use, content message.Digest) error {
	if old, ok := h.seen[u]; ok && old != content {
		h.reused++
		return fmt.Errorf("%w: %v", ErrReused, u.ksn)
	}
	h.seen[u] = content
	return nil
}

func (h *Host) signIn(p *message.Payload) error {
	for _, m := range p.SlotMACs {
		tx, err := h.begin(m.Slot, m.KSN, []keyset.SlotState{keyset.SlotActive, keyset.SlotPending})
		if err != nil {
			return err
		}
		err = tx.VerifyMAC(h.spec(m.Slot), message.SignInContent(p, m), m.MAC)
		tx.End()
		if err != nil {
			return fmt.Errorf("%w: slot %d: %v", ErrMessage, m.Slot, err)
		}
		if err := h.claim(use{m.KSN, keyset.UsageMAC}, message.DigestOf(m.MAC)); err != nil {
			return err
		}
	}
	h.signs++
	h.confirm(p.MAC.Slot, p.MAC.KSN.KeyID())
	for _, m := range p.SlotMACs {
		h.confirm(m.Slot, m.KSN.KeyID())
	}
	return nil
}

// tooOld reports whether the key of a message lies at or below the floor of its slot.
func (h *Host) tooOld(m *message.Message) bool {
	ref := m.Payload.MAC
	return h.Enforce && slices.ContainsFunc(h.Floors, func(f message.SlotFloor) bool {
		return f.Slot == ref.Slot && f.KeyID == ref.KSN.KeyID() && ref.KSN.Ordinal() <= f.Floor
	})
}

// book opens the fields of a message and gives it a result, once.
func (h *Host) book(m *message.Message) (message.Result, error) {
	d := m.Digest()
	if e := h.ledger[d]; e != nil {
		e.Tries++
		return e.Result, nil
	}
	if h.tooOld(m) {
		return message.KsnTooOld, nil
	}
	p := m.Payload
	e := &Entry{Type: p.Type, Sequence: p.Sequence, Result: message.Approved, Original: p.Original, Tries: 1}
	if p.Amount != nil {
		e.Amount = *p.Amount
	}
	if err := h.open(e, p.Fields); err != nil {
		return 0, err
	}
	if h.reversed(d) {
		return message.Reversed, nil
	}
	if h.Decide != nil {
		e.Result = h.Decide(p)
	}
	if e.Result == message.Held {
		return message.Held, nil
	}
	h.ledger[d] = e
	h.order = append(h.order, d)
	return e.Result, nil
}

func (h *Host) reversed(d message.Digest) bool {
	return slices.ContainsFunc(h.order, func(o message.Digest) bool {
		e := h.ledger[o]
		return e.Type == message.Reversal && e.Original.Digest == d
	})
}

func (h *Host) open(e *Entry, fields []message.Field) error {
	var pan pin.PAN
	defer func() { pan.Wipe() }()
	for _, f := range fields {
		tx, err := h.begin(f.Slot, f.KSN, []keyset.SlotState{keyset.SlotActive, keyset.SlotDraining})
		if err != nil {
			return err
		}
		if f.Usage == message.UsageData {
			pan, err = h.openData(tx, f)
			e.Masked = pan.Masked()
		} else {
			e.WithPIN = true
			err = h.openPIN(tx, f, pan)
		}
		tx.End()
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) openData(tx *dukpt.HostTransaction, f message.Field) (pin.PAN, error) {
	if err := h.claim(use{f.KSN, keyset.UsageData}, message.DigestOf(f.Ciphertext)); err != nil {
		return pin.PAN{}, err
	}
	track, err := tx.DecryptData(nil, h.lab.Sets[f.Slot].DataSpec(dukpt.Request, f.Mode, f.IV), f.Ciphertext)
	if err != nil {
		return pin.PAN{}, err
	}
	return pin.FindPAN(track)
}

func (h *Host) openPIN(tx *dukpt.HostTransaction, f message.Field, pan pin.PAN) error {
	if err := h.claim(use{f.KSN, keyset.UsagePIN}, message.DigestOf(f.Ciphertext)); err != nil {
		return err
	}
	_, err := tx.TranslatePIN(nil, dukpt.PINBlock{Format: f.PINFormat, PAN: pan, Block: f.Ciphertext},
		dukpt.PINTarget{Format: f.PINFormat, PAN: pan, Key: h.zone})
	return err
}

func (h *Host) ack(tx *dukpt.HostTransaction, p *message.Payload, r message.Result, digests []message.Digest) ([]byte, error) {
	says := &message.AckPayload{
		Version: message.FormatVersion, Result: r, Digests: digests, Floors: h.Floors, Limits: h.Limits,
		HostTime: time.Now().Unix(), Body: []byte("thank you"),
	}
	if h.Tamper != nil {
		h.Tamper(says)
	}
	payload, err := message.EncodeAck(says)
	if err != nil {
		return nil, err
	}
	mac, err := tx.MACResponse(nil, h.spec(p.MAC.Slot), payload)
	if err != nil {
		return nil, err
	}
	return message.AssembleAck(payload, mac), nil
}
