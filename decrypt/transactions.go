package decrypt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

// TransactionRequest hands over one message of a terminal.
type TransactionRequest struct {
	Message           []byte        // as received, byte for byte; not kept
	OutgoingPINKey    keyset.KeyRef // zone key for a translated PIN; zero: the key set's only one
	OutgoingPINFormat pin.Format    // format of the translated block; zero: that of the incoming one
}

// CounterStatus says what a claim found. The zero value is no status.
type CounterStatus uint8

// The counter statuses.
const (
	CounterFresh  CounterStatus = iota + 1 // never claimed before
	CounterResend                          // this very content was claimed before: the same answer again
	CounterNone                            // nothing was claimed, because the service decided by itself
)

// String returns "FRESH", "RESEND" or "NONE".
func (c CounterStatus) String() string {
	switch c {
	case CounterFresh:
		return "FRESH"
	case CounterResend:
		return "RESEND"
	case CounterNone:
		return "NONE"
	}
	return fmt.Sprintf("decrypt.CounterStatus(%d)", uint8(c))
}

// TransactionResult is what a message held, released after its claims are durable. The caller wipes it.
type TransactionResult struct {
	Digest   message.Digest   // of the message as received: what Answer asks for
	Original message.Digest   // of the message that is answered: differs from Digest for a resend
	Payload  *message.Payload // of the message that is answered: for a resend the inner one
	Status   CounterStatus
	// Authenticated says that the MAC of the message that is answered is evidence of the counters it covers: as long as its
	// key set asks of evidence. No result leaves before that MAC has verified, whatever its length.
	Authenticated bool
	Labels        engine.Labels  // of the MAC key
	Fields        []FieldResult  // in the order of the message; none when the service decided by itself
	Decided       message.Result // zero: the host decides and calls Answer
	Code          Code           // why the service decided by itself; empty otherwise
	Ack           []byte         // for the terminal, MACed; set when the service decided by itself
	Recorded      *Recorded      // what the host answered earlier, on a resend
}

// FieldResult is one decrypted or translated field.
type FieldResult struct {
	Slot      uint8
	KSN       dukpt.KSN
	Usage     message.Usage
	KeySet    keyset.ID
	KCV       string        // check value of the base key
	Labels    engine.Labels // of the base key
	MaskedPAN string        // of card data that starts with a PAN
	Clear     secret.Bytes  // card data, where the key set releases it in the clear
	PINBlock  []byte        // PIN under PINKey
	PINFormat pin.Format
	PINKey    keyset.KeyRef // as requested
	PINKeyKCV string
}

// Recorded is an answer that was recorded earlier, with the acknowledgement for the message at hand.
type Recorded struct {
	Result message.Result // Approved or Declined
	Body   []byte
	Ack    []byte
}

// Wipe empties the card data.
func (r *TransactionResult) Wipe() {
	for i := range r.Fields {
		r.Fields[i].Clear.Wipe()
	}
}

// Transaction verifies a message, claims what it uses, and releases what it holds. Errors are a *Refusal; every failure
// of the engine or the store is one, and then nothing was released. The order is:
//
//  1. the message parses, and the caller is of its tenant;
//  2. the registry, if there is one, is current; the terminal is known and not revoked; and each KSN is of a key that the
//     terminal has in the slot it names, active or draining, or pending in a sign-in;
//  3. the MAC verifies, of a resend both its own and that of the message inside. Nothing is believed before;
//  4. a blocked terminal or key set is HELD, except for sign-in and for what was answered before; what a drain grant of a
//     blocked terminal covers goes on;
//  5. each field has a purpose that its key set serves;
//  6. card data is decrypted, the PAN is found in it, and the PIN is moved under the zone key with that PAN. A PIN block
//     that does not verify ends here and claims nothing;
//  7. the terminal is looked at once more, and all claims, the drain grant they are counted under and their audit record are
//     committed together, or the message is refused;
//  8. what a sign-in proved and the catalog has as pending is confirmed with the registry, and the catalog shows it.
//
// Only then is anything answered. What the service decides by itself comes back as a result with an acknowledgement:
// HELD, REVERSED, sign-in, and messages whose KSN is spent, too old or fenced.
func (s *Service) Transaction(ctx context.Context, caller Caller, req TransactionRequest) (*TransactionResult, error) {
	t := &transaction{Service: s, caller: caller, req: req, now: s.clock()}
	defer t.end()
	if err := t.prepare(ctx); err != nil {
		return nil, t.failed(ctx, err)
	}
	return t.finish(ctx)
}

// finish goes on after prepare and makes a refusal of what goes wrong.
func (t *transaction) finish(ctx context.Context) (*TransactionResult, error) {
	res, err := t.run(ctx)
	if err != nil {
		return nil, t.failed(ctx, err)
	}
	return res, nil
}

// place is where a message says that a key is.
type place struct {
	slot uint8
	ksn  dukpt.KSN
}

// located is a key that the catalog has there.
type located struct {
	place
	state keyset.SlotState
	floor uint32 // ordinal up to which it was used before it came here
	set   *keyset.KeySet
	info  engine.KeyInfo
	ops   engine.HostOps // nil until begun
}

// at says where the key is.
func (k *located) at() KeyPlace { return KeyPlace{k.slot, k.set.ID, k.ksn.KeyID()} }

// transaction is the work on one message.
type transaction struct {
	*Service
	caller   Caller
	req      TransactionRequest
	now      time.Time        // of the claims, all of one message
	received *message.Message // as it came
	m        *message.Message // what is answered: the inner one of a resend
	terminal *keyset.Terminal
	keys     map[place]*located
	order    []*located
	grants   []Grant // that let it through although its terminal is blocked
	fields   []*openField
	audited  bool // the store has recorded what became of this message
}

func (t *transaction) end() {
	for _, k := range t.order {
		if k.ops != nil {
			k.ops.End()
			k.ops = nil
		}
	}
	for _, f := range t.fields {
		f.pan.Wipe()
	}
}

// prepare reads the message and finds its keys.
func (t *transaction) prepare(ctx context.Context) error {
	if err := t.parse(); err != nil {
		return err
	}
	return t.locate(ctx)
}

func (t *transaction) run(ctx context.Context) (*TransactionResult, error) {
	if err := t.authenticate(ctx); err != nil {
		return nil, err
	}
	if err := t.limits.terminal(t.terminal, t.now); err != nil { // a stranger cannot use up what a terminal may
		return nil, err
	}
	if t.m.Payload.Type == message.SignIn {
		return t.signIn(ctx)
	}
	if code, err := t.held(ctx); code != "" || err != nil {
		if err != nil {
			return nil, err
		}
		return t.decide(ctx, message.Held, code)
	}
	if err := t.checkPurposes(); err != nil {
		return nil, err
	}
	if err := t.open(ctx); err != nil {
		t.wipe()
		return nil, err
	}
	res, err := t.release(ctx)
	if err != nil || len(res.Fields) == 0 {
		t.wipe()
	}
	return res, err
}

// parse reads the message and compares its head with the caller.
func (t *transaction) parse() error {
	if err := t.caller.Check(); err != nil {
		return err
	}
	m, err := message.Parse(t.req.Message)
	if err != nil {
		return refuse(CodeMessageMalformed, "%v", err)
	}
	t.received, t.m = m, m
	if m.Inner != nil {
		t.m = m.Inner
	}
	if m.Payload.Tenant != t.caller.Tenant { // what a resend carries is of the same terminal, or it does not parse
		return refuse(CodeTenantMismatch, "message of tenant %s from a caller of tenant %s", m.Payload.Tenant, t.caller.Tenant)
	}
	return nil
}

// locate finds the terminal and every key that the message names.
func (t *transaction) locate(ctx context.Context) error {
	p := t.received.Payload
	terminal, err := t.admitted(p.Tenant, p.Terminal, t.m.Payload.Type)
	if err != nil {
		return err
	}
	t.terminal = terminal
	t.keys = make(map[place]*located)
	for _, at := range t.places() {
		if _, ok := t.keys[at]; ok {
			continue
		}
		k, err := t.find(ctx, at)
		if err != nil {
			return err
		}
		t.keys[at] = k
		t.order = append(t.order, k)
	}
	return nil
}

// checkStatus refuses terminals that get no answer at all.
func checkStatus(terminal *keyset.Terminal, typ message.Type) error {
	switch terminal.Status {
	case keyset.StatusActive, keyset.StatusBlocked, keyset.StatusQuarantined:
		return nil
	case keyset.StatusPending:
		if typ == message.SignIn {
			return nil
		}
		return refuse(CodeTerminalNotActive, "terminal %s is pending: it may sign in only", terminal.ID)
	case keyset.StatusCompromised, keyset.StatusRevoked, keyset.StatusRetired:
		return refuse(CodeTerminalRevoked, "terminal %s is %v", terminal.ID, terminal.Status)
	}
	return refuse(CodeTerminalNotActive, "terminal %s has no known status", terminal.ID)
}

// places lists where the message says that its keys are, that of its own MAC first.
func (t *transaction) places() []place {
	at := func(r message.MACRef) place { return place{r.Slot, r.KSN} }
	out := []place{at(t.received.Payload.MAC)}
	if t.m != t.received {
		out = append(out, at(t.m.Payload.MAC))
	}
	for i := range t.m.Payload.Fields {
		f := &t.m.Payload.Fields[i]
		out = append(out, place{f.Slot, f.KSN})
	}
	for i := range t.m.Payload.SlotMACs {
		out = append(out, at(t.m.Payload.SlotMACs[i].MACRef))
	}
	return out
}

// find confirms by the registry that the key of a KSN sits in the slot, and that its key set may be used here.
func (t *transaction) find(ctx context.Context, at place) (*located, error) {
	if !t.terminal.HasSlot(at.slot) {
		return nil, refuse(CodeSlotUnknown, "terminal %s has no slot %d", t.terminal.ID, at.slot)
	}
	slot, ok := t.terminal.Key(at.slot, at.ksn.KeyID())
	if !ok {
		return nil, refuse(CodeKeyIDMismatch, "KSN %v is not of a key in slot %d", at.ksn, at.slot)
	}
	if err := checkSlot(slot, t.m.Payload.Type); err != nil {
		return nil, err
	}
	set, err := t.keySetOf(t.terminal, slot)
	if err != nil {
		return nil, err
	}
	if !set.State.Permits(keyset.Repeat) {
		return nil, refuse(CodeKeySetRetired, "key set %s", set.ID)
	}
	if set.Environment != t.m.Payload.Environment {
		return nil, refuse(CodeEnvironmentMismatch, "a %v message under key set %s, which is %v", t.m.Payload.Environment, set.ID, set.Environment)
	}
	if set.Paths != keyset.Native && set.Paths != keyset.Both {
		return nil, refuse(CodePathNotPermitted, "key set %s", set.ID)
	}
	info, err := t.describe(ctx, set)
	if err != nil {
		return nil, err
	}
	return &located{place: at, state: slot.State, floor: slot.Floor, set: set, info: info}, nil
}

// checkSlot refuses keys that the terminal may not use for a message of this type. A key that drains is as good as an active
// one: what it MACed waits in queues.
func checkSlot(slot keyset.Slot, typ message.Type) error {
	asked := keyset.Process
	if typ == message.SignIn {
		asked = keyset.Confirm
	}
	if !slot.State.Permits(asked) {
		return refuse(CodeSlotNotActive, "the key in slot %d is %v", slot.Slot, slot.State)
	}
	return nil
}

// keySetOf returns the key set of a key, which must hold it.
func (s *Service) keySetOf(terminal *keyset.Terminal, slot keyset.Slot) (*keyset.KeySet, error) {
	set, ok := s.catalog.KeySet(slot.KeySet)
	if !ok || set.Tenant != terminal.Tenant || !set.Contains(slot.KeyID) {
		return nil, refuse(CodeKeySetUnknown, "key set %s of slot %d does not hold its key", slot.KeySet, slot.Slot)
	}
	return set, nil
}

// describe looks at the base key of a set and refuses one that is not the key the set was signed for.
func (s *Service) describe(ctx context.Context, set *keyset.KeySet) (engine.KeyInfo, error) {
	info, err := s.engine.Describe(ctx, set.BaseKey)
	if err != nil {
		return engine.KeyInfo{}, s.engineFailed(ctx, fmt.Errorf("base key of key set %s: %w", set.ID, err))
	}
	if info.Fingerprint != set.BaseKeyFingerprint {
		return engine.KeyInfo{}, s.engineFailed(ctx, fmt.Errorf("base key of key set %s is not the one it was signed for", set.ID))
	}
	if info.Labels.Environment != set.Environment {
		return engine.KeyInfo{}, refuse(CodeEnvironmentMismatch, "key set %s is %v, its base key is %v", set.ID, set.Environment, info.Labels.Environment)
	}
	return info, nil
}

// begin derives the keys of a KSN.
func (t *transaction) begin(ctx context.Context, k *located) error {
	if k.ops != nil {
		return nil
	}
	ops, err := t.engine.Begin(ctx, k.set.BaseKey, k.ksn)
	if err != nil {
		return t.engineFailed(ctx, err)
	}
	k.ops = ops
	return nil
}

// authenticate verifies the MAC of the message, and of a resend also that of the message inside.
func (t *transaction) authenticate(ctx context.Context) error {
	if err := t.verify(ctx, t.received); err != nil {
		return err
	}
	if t.m != t.received {
		return t.verify(ctx, t.m)
	}
	return nil
}

func (t *transaction) verify(ctx context.Context, m *message.Message) error {
	return t.verifyMAC(ctx, m.Payload.MAC, m.PayloadBytes, m.MAC)
}

func (t *transaction) verifyMAC(ctx context.Context, ref message.MACRef, msg, mac []byte) error {
	k := t.keys[place{ref.Slot, ref.KSN}]
	if !k.set.Has(keyset.UsageMAC) {
		return refuse(CodePurposeNotPermitted, "key set %s makes no MACs", k.set.ID)
	}
	if ref.Spec(k.set.MACKey()) != k.set.MACSpec() {
		return refuse(CodeMACNotPermitted, "key set %s has %v MACs of %d bytes", k.set.ID, k.set.MAC.Algorithm, k.set.MAC.Length)
	}
	if err := t.begin(ctx, k); err != nil {
		return err
	}
	err := k.ops.VerifyMAC(k.set.MACSpec(), msg, mac)
	if err == nil || planted.On(planted.GuardMACFirst) {
		return nil
	}
	if errors.Is(err, dukpt.ErrVerify) {
		return refuse(CodeMACInvalid, "KSN %v", ref.KSN)
	}
	return t.engineFailed(ctx, err)
}

// held says why a message must wait: its terminal or a key set is blocked, and it was not answered before.
func (t *transaction) held(ctx context.Context) (Code, error) {
	code := t.blocked()
	if code == "" || planted.On(planted.GuardBlocked) {
		return "", nil
	}
	_, answered, err := t.store.LookupAnswer(ctx, t.m.Digest())
	if err != nil {
		return "", t.storeFailed(ctx, err)
	}
	if answered {
		return "", nil
	}
	return code, nil
}

func (t *transaction) blocked() Code {
	var code Code
	switch t.terminal.Status {
	case keyset.StatusBlocked:
		code = CodeTerminalBlocked
	case keyset.StatusQuarantined:
		code = CodeTerminalQuarantined
	}
	if code != "" {
		if t.grants = t.granted(); len(t.grants) == 0 {
			return code
		}
	}
	for _, k := range t.order {
		if !k.set.State.Permits(keyset.Process) {
			return CodeKeySetBlocked
		}
	}
	return ""
}

// granted returns the drain grants that cover the message: those of the key that MACs what is answered, not what it came in.
// Whether there is room is for the store to say, which counts.
func (t *transaction) granted() []Grant {
	mac := t.m.Payload.MAC
	var out []Grant
	for _, g := range t.terminal.DrainGrants {
		n := mac.KSN.Ordinal()
		if g.Slot == mac.Slot && g.KeyID == mac.KSN.KeyID() && g.First <= n && n <= g.Last && t.now.Before(g.Until) {
			out = append(out, Grant{ID: g.ID, Count: g.Count})
		}
	}
	return out
}

// checkPurposes refuses a field that its key set is not for: a PIN block sent as data would come back in the clear.
func (t *transaction) checkPurposes() error {
	for i := range t.m.Payload.Fields {
		f := &t.m.Payload.Fields[i]
		set := t.keys[place{f.Slot, f.KSN}].set
		var usage keyset.Usage
		switch f.Usage {
		case message.UsagePIN:
			usage = keyset.UsagePIN
		case message.UsageData:
			usage = keyset.UsageData
		default:
			return refuse(CodeMessageMalformed, "field %d has no usage", i+1)
		}
		if !set.Has(usage) && !planted.On(planted.GuardPurpose) {
			return refuse(CodePurposeNotPermitted, "key set %s does not serve %v fields", set.ID, usage)
		}
	}
	return nil
}

// failed records a refusal, unless the store did, and gives it to the caller.
func (t *transaction) failed(ctx context.Context, err error) error {
	return t.settled(ctx, err, t.audited, t.record)
}

// settled makes a refusal of whatever ended the work on a request, and records it unless the store did.
func (s *Service) settled(ctx context.Context, err error, audited bool, record func(result string, code Code) audit.Record) error {
	r, ok := refused(err)
	if !ok && errors.Is(err, engine.ErrUnavailable) {
		return s.engineFailed(ctx, err)
	}
	if !ok { // a fault of our own
		s.log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("error", err.Error()))
		r = refuse(CodeInternal, "nothing was answered and nothing was released")
	}
	if audited {
		return r
	}
	if !ok {
		err = r
	}
	return s.keepRefusal(ctx, err, record("REFUSED", r.Code))
}
