package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Options say what a terminal stands on. FS and Sealer are required.
type Options struct {
	FS      FS
	Sealer  Sealer
	Keys    Keys             // where private keys are that were made in a device; nil: they are sealed with the rest
	Engine  Engine           // nil: a SoftwareEngine over FS and Sealer, which Close closes
	Link    Exchanger        // nil: a Link to the endpoints of the bundle, which Close closes
	Network LinkOptions      // how that Link behaves; its Endpoints, if empty, Credential and Roots are those of the bundle
	Reserve int              // keys that the software engine makes ready at once, 1 to 32; 0: DefaultReserve
	Clock   func() time.Time // nil: time.Now. It may be behind: the terminal knows times that are over
}

// Terminal is a payment terminal: keys, link and what has not been settled yet. Its methods may be called from several
// goroutines and run one after the other; a Sale that waits for the host keeps the others waiting, but for Queue, NetworkChanged,
// and Close and Zeroize, which end it. What Drain and Run deliver gives way to whatever changes something, and Renew has the terminal
// only for what it saves.
type Terminal struct {
	mu       sync.Mutex
	turn     *turn
	upkeep   sync.Mutex // one renewal or rekeying at a time; taken before mu
	o        Options
	store    store
	holder   *holder
	counters *counters
	sequence uint64 // the next one
	engine   Engine
	link     Exchanger
	own      *Link    // link, if this terminal made it
	closes   []func() // what Close closes
	unlock   func() error
	entries  []*entry // unsettled, by sequence
	slots    []place  // where the keys in use are
	next     []place  // where the keys are that wait for a sign-in to confirm them
	macSlot  place    // of slots: messages are MACed under it
	jump     error    // why the last floor was not followed
	closed   bool

	limits  *message.Limits // of sales without the host; nil: none
	queue   atomic.Pointer[Queue]
	yields  bool          // the exchange to come gives way to whoever waits
	filled  chan struct{} // has one when something has begun to wait
	reached chan struct{} // has one when the host has answered
	gone    chan struct{} // closed by Close
	floor   *floor
	clock   func() time.Time // of the options, over the floor

	credential *tlsconf.Credential // what is shown in TLS
	renewing   bool                // a renewal of it has begun
	renewed    bool                // and has come to its end, but for the file that it leaves
}

// Open starts the terminal of a folder. Everything saved is read and checked before anything is changed; then the boot
// counter is counted up, durably. Errors wrap ErrNoTerminal, ErrState, ErrLocked or ErrInsecure where they apply. The
// caller closes the terminal.
func Open(o Options) (*Terminal, error) {
	t, err := load(o)
	if err != nil {
		return nil, err
	}
	if err := t.start(); err != nil {
		_ = t.Close() // the first error is the one to report
		return nil, err
	}
	return t, nil
}

// Inspect describes the terminal of a folder and changes nothing. It fails as Open does.
func Inspect(o Options) (Status, error) {
	t, err := load(o)
	if err != nil {
		return Status{}, err
	}
	s := t.Status()
	return s, t.Close()
}

// load takes the folder and reads all of it.
func load(o Options) (*Terminal, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	unlock, err := o.FS.Lock()
	if err != nil {
		return nil, err
	}
	t := &Terminal{
		o: o, store: store{o.FS, o.Sealer, o.Keys}, unlock: unlock, turn: newTurn(),
		filled: make(chan struct{}, 1), reached: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	if err := t.read(); err != nil {
		_ = t.Close() // the first error is the one to report
		return nil, err
	}
	return t, nil
}

func (t *Terminal) read() error {
	holder, err := t.store.loadHolder()
	if errors.Is(err, fs.ErrNotExist) {
		return t.missing(err)
	}
	if err != nil {
		return err
	}
	t.holder = holder
	if holder.environment == keyset.Production && t.o.Sealer.Name() == InsecureFile {
		return ErrInsecure
	}
	t.counters, err = t.store.loadCounters()
	if err != nil {
		return err
	}
	t.sequence = t.counters.Sequence
	t.entries, err = t.store.loadEntries()
	if err != nil {
		return err
	}
	if t.limits, err = t.store.loadLimits(); err != nil {
		return err
	}
	t.publish()
	t.setClocks()
	if err := t.readRenewal(); err != nil {
		return err
	}
	if err := t.assemble(); err != nil {
		return err
	}
	return t.arrange()
}

// setClocks has every clock of the terminal stand on the floor.
func (t *Terminal) setClocks() {
	t.floor = t.floorOf()
	t.clock = t.floor.under(t.o.Clock)
	if t.o.Network.Clock == nil {
		t.o.Network.Clock = t.o.Clock
	}
	t.o.Network.Clock = t.floor.under(t.o.Network.Clock)
}

// missing tells an empty folder from one that has lost its identity.
func (t *Terminal) missing(err error) error {
	names, e := t.store.fs.List()
	if e != nil {
		return fmt.Errorf("terminal: %w", e)
	}
	for _, name := range names {
		if name == importingName || name == enrolmentName {
			return fmt.Errorf("%w: one was being made when it was interrupted; repeat that", ErrNoTerminal)
		}
		if name == countersName || len(name) > len(slotPrefix) && name[:len(slotPrefix)] == slotPrefix {
			return err
		}
	}
	return ErrNoTerminal
}

// assemble puts engine and link in place.
func (t *Terminal) assemble() error {
	t.engine, t.link = t.o.Engine, t.o.Link
	if t.engine == nil {
		e, err := OpenSoftwareEngine(t.o.FS, t.o.Sealer, t.holder.slots, t.o.Reserve)
		if err != nil {
			return err
		}
		t.engine = e
		t.closes = append(t.closes, e.Close)
	}
	var err error
	if t.credential, err = t.holder.credential(t.store); err != nil {
		return err
	}
	if t.link != nil {
		return nil
	}
	if t.own, err = t.holder.link(t.o.Network, t.credential); err != nil {
		return err
	}
	t.link = t.own
	t.closes = append(t.closes, t.own.Close)
	return nil
}

// relink has the link use what the identity says now: new connections are made by it.
func (t *Terminal) relink() error {
	if t.own == nil {
		return nil
	}
	o, err := t.holder.linkOptions(t.o.Network, t.credential)
	if err != nil {
		return err
	}
	return t.own.reset(o)
}

// credential is what the terminal shows in TLS.
func (h *holder) credential(s store) (*tlsconf.Credential, error) {
	c, _, err := s.credential(identityName, h.chain, h.tlsKey)
	return c, err
}

// link makes the link that the identity prescribes.
func (h *holder) link(o LinkOptions, c *tlsconf.Credential) (*Link, error) {
	o, err := h.linkOptions(o, c)
	if err != nil {
		return nil, err
	}
	return NewLink(o)
}

func (h *holder) linkOptions(o LinkOptions, c *tlsconf.Credential) (LinkOptions, error) {
	roots, err := pool(h.roots)
	if err != nil {
		return LinkOptions{}, fmt.Errorf("%w: %s: %v", ErrState, identityName, err)
	}
	o.Credential, o.Roots = c, roots
	if len(o.Endpoints) == 0 {
		o.Endpoints = h.endpoints
	}
	return o, nil
}

// start makes the first changes: what was interrupted is cleared away, the start is counted, sequence numbers are taken.
func (t *Terminal) start() error {
	if err := removeTemporary(t.o.FS); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if err := finishImport(t.o.FS); err != nil {
		return err
	}
	if err := removeEnrolment(t.o.FS); err != nil {
		return err
	}
	if t.renewed {
		if err := t.endRenewal(); err != nil {
			return err
		}
	}
	if err := t.settleSlots(); err != nil {
		return err
	}
	if err := t.store.mend(); err != nil {
		return err
	}
	return t.count(func(c *counters) {
		c.Boot++
		c.Sequence += sequenceBatch
	})
}

// hold saves the identity; from then on the terminal goes by it.
func (t *Terminal) hold(h *holder) error {
	if err := t.store.saveHolder(h); err != nil {
		return err
	}
	t.holder = h
	return nil
}

// count changes the counters durably, or not at all.
func (t *Terminal) count(change func(*counters)) error {
	next := *t.counters
	next.Confirmed = append([]string{}, t.counters.Confirmed...)
	change(&next)
	next.Clock = max(next.Clock, t.floor.time().Unix())
	if err := t.store.saveCounters(&next); err != nil {
		return err
	}
	t.counters = &next
	return nil
}

// nextSequence returns a sequence number that was never returned before.
func (t *Terminal) nextSequence() (uint64, error) {
	if t.sequence == t.counters.Sequence {
		if err := t.count(func(c *counters) { c.Sequence += sequenceBatch }); err != nil {
			return 0, err
		}
	}
	t.sequence++
	return t.sequence - 1, nil
}

// Close forgets the keys and gives the folder free. Calls afterwards fail with ErrClosed. It may be repeated.
func (t *Terminal) Close() error {
	t.lockForGood()
	defer t.mu.Unlock()
	return t.close()
}

func (t *Terminal) close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	close(t.gone)
	for _, c := range t.closes {
		c()
	}
	if t.holder != nil {
		t.holder.wipe()
	}
	if err := t.unlock(); err != nil {
		return fmt.Errorf("terminal: unlock: %w", err)
	}
	return nil
}

// Zeroize destroys keys, TLS identity and unsettled messages on the medium, and closes the terminal. The counters stay,
// so that the folder takes no second import. One that failed on the way holds the folder still and may be repeated. After
// Close it fails with ErrClosed and changes nothing: the folder may be another process's by then.
func (t *Terminal) Zeroize() error {
	t.lockForGood()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return err
	}
	if err := t.engine.Zeroize(); err != nil {
		return err
	}
	names, err := t.store.names(messagePrefix)
	if err != nil {
		return err
	}
	for _, name := range append(names, renewalName, enrolmentName, identityName) {
		if err := overwrite(t.o.FS, name); err != nil {
			return err
		}
	}
	return t.close()
}

// Format prints whose terminal it is, whatever the verb.
func (t *Terminal) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, t.text()) }

// LogValue logs whose terminal it is.
func (t *Terminal) LogValue() slog.Value { return slog.StringValue(t.text()) }

func (t *Terminal) text() string {
	if t == nil || t.holder == nil {
		return "terminal.Terminal(none)"
	}
	return fmt.Sprintf("terminal.Terminal(%s/%s)", t.holder.tenant, t.holder.terminal)
}

func (t *Terminal) ready() error {
	if t.closed {
		return ErrClosed
	}
	return nil
}

// compose completes a payload that is to be MACed under the transaction of a place, and returns the whole message.
func (t *Terminal) compose(p *message.Payload, by place, ksn dukpt.KSN) ([]byte, error) {
	seq, err := t.nextSequence()
	if err != nil {
		return nil, err
	}
	p.Version, p.Environment = message.FormatVersion, t.holder.environment
	p.Tenant, p.Terminal = t.holder.tenant, t.holder.terminal
	p.BootCounter, p.Sequence = t.counters.Boot, seq
	p.Time = max(0, t.clock().Unix())
	p.MAC = by.macRef(ksn)
	payload, err := message.Encode(p)
	if err != nil {
		return nil, err
	}
	mac, err := t.engine.MAC(by.at, nil, by.MAC, payload)
	if err != nil {
		return nil, err
	}
	raw := message.Assemble(payload, mac)
	if p.Type != message.Resend && len(raw) > message.MaxInner {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", message.ErrMessage, len(raw), message.MaxInner)
	}
	return raw, nil
}

func (s Slot) macRef(ksn dukpt.KSN) message.MACRef {
	return message.MACRef{
		Slot: s.Number, KSN: ksn, Algorithm: s.MAC.Algorithm, Padding: s.MAC.Padding, Length: s.MAC.Length,
	}
}

// deliver sends a message until a genuine ack for it arrives, verified under the transaction of a place.
func (t *Terminal) deliver(ctx context.Context, raw []byte, by place) (*message.AckPayload, error) {
	digest := message.DigestOf(raw)
	bounded, done := t.turn.exchange(ctx, t.yields)
	defer done()
	var ack *message.AckPayload
	err := t.link.Exchange(bounded, raw, func(answer []byte) error {
		var err error
		ack, err = t.verify(answer, digest, by)
		return err
	})
	if err == nil && ack == nil {
		err = fmt.Errorf("%w: none came", ErrAck)
	}
	if err != nil {
		if cause := context.Cause(bounded); cause != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, err
	}
	t.learn(ack)
	if !t.yields {
		t.tell(t.reached)
	}
	return ack, nil
}

// tell leaves word for Run, if it has not got it yet.
func (t *Terminal) tell(word chan struct{}) {
	select {
	case word <- struct{}{}:
	default:
	}
}

// NetworkChanged tells the terminal that the device is on another network: see Link.NetworkChanged. It never waits.
func (t *Terminal) NetworkChanged() {
	if t.own != nil {
		t.own.NetworkChanged()
	}
	t.tell(t.reached)
}

// NewLink makes a link of the terminal to other endpoints than those of messages, for Link.Dial perhaps: with its certificate, also
// after a renewal, whom it trusts now, and as Options.Network says. The caller closes it.
func (t *Terminal) NewLink(endpoints ...Endpoint) (*Link, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, err
	}
	o := t.o.Network
	o.Endpoints, o.Events, o.Switching = endpoints, nil, nil // those of Options are about messages
	return t.holder.link(o, t.credential)
}

// verify believes an answer only when its MAC verifies under the response key of the request and it names the request.
func (t *Terminal) verify(answer []byte, request message.Digest, by place) (*message.AckPayload, error) {
	m, err := message.ParseAck(answer)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrAck, err)
	}
	if err := t.engine.VerifyResponse(by.at, by.MAC, m.PayloadBytes, m.MAC); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrAck, err)
	}
	if !m.Payload.Answers(request) {
		return nil, fmt.Errorf("%w: it answers another message", ErrAck)
	}
	return m.Payload, nil
}

// follow moves every slot beyond the floor that the host reports: what lies below would be refused. A floor that is not
// to be followed is remembered for Status and returned; the ack stays good.
func (t *Terminal) follow(ack *message.AckPayload) error {
	t.jump = nil
	for _, s := range t.slots {
		floor, ok := ack.Floor(s.Number, s.KeyID)
		if !ok || floor == 0 {
			continue
		}
		ksn, err := s.KeyID.AtOrdinal(floor + 1)
		if err != nil {
			err = dukpt.ErrExhausted
		} else {
			err = t.engine.SkipTo(s.at, ksn)
		}
		if err != nil && t.jump == nil {
			t.jump = fmt.Errorf("slot %d: %w", s.Number, err)
		}
	}
	return t.jump
}
