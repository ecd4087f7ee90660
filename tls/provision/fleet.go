package provision

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

const (
	// MaxPart is how many terminals of a list are registered at once, at most.
	MaxPart = 250
	// MaxFleet is how many terminals a list has, at most.
	MaxFleet = 100_000
	// SeedSize is the length of the seed that the codes of a list are made from, in bytes.
	SeedSize = 32
	// fleetTerm is how long an approved list may be worked on.
	fleetTerm = 7 * 24 * time.Hour
)

// Digest is a SHA-256.
type Digest [32]byte

// String returns the digest in hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads what String gives.
func ParseDigest(s string) (Digest, error) {
	b, err := hex.DecodeString(s)
	var d Digest
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != s {
		return d, errors.New("provision: a digest has 64 digits of lower-case hex")
	}
	copy(d[:], b)
	return d, nil
}

// Registration is one terminal of a list: what ActionRegister takes, and of one that is imported the keys that it has.
type Registration struct {
	Terminal  keyset.TerminalID
	Slots     []SlotAssignment
	Endpoints []string
	Group     Group
	Labels    []Label
	Keys      []InjectedKey // one for each slot, in their order; none: the terminal is to fetch its keys
}

// isName reports whether there is a name and nothing else: the terminal is registered, and gets a code.
func (r *Registration) isName() bool {
	return len(r.Slots) == 0 && len(r.Endpoints) == 0 && r.Group == "" && len(r.Labels) == 0 && len(r.Keys) == 0
}

// operation is the registration as an operation of its own.
func (r *Registration) operation() Operation {
	if r.isName() {
		return Operation{Action: ActionCode, Terminal: r.Terminal}
	}
	return Operation{
		Action: ActionRegister, Terminal: r.Terminal, Slots: r.Slots, Endpoints: r.Endpoints, Group: r.Group, Labels: r.Labels,
	}
}

// Check reports what is wrong with the registration by itself. The text is public.
func (r *Registration) Check() error {
	op := r.operation()
	op.Action = ActionRegister
	if err := op.check(); err != nil {
		return err
	}
	if err := r.checkKeys(); err != nil {
		return err
	}
	return checkEndpoints(&Terminal{Tenant: "X", ID: r.Terminal, Endpoints: r.Endpoints, Registered: time.Unix(1, 0)})
}

var listForm = canon.New(MaxPart+6, 8)

// PartDigest is what an approval names a part of a list by: the SHA-256 of its registrations, in order.
func PartDigest(part []Registration) (Digest, error) {
	if len(part) == 0 || len(part) > MaxPart {
		return Digest{}, fmt.Errorf("provision: a part of %d terminals, want 1 to %d", len(part), MaxPart)
	}
	var all []wireOperation
	for i := range part {
		op := part[i].operation()
		w := op.wire()
		for _, k := range part[i].Keys {
			w.Keys = append(w.Keys, wireInjected{k.Slot, k.KeyID.Append(nil), k.Counter})
		}
		all = append(all, w)
	}
	b, err := listForm.Marshal(struct {
		Version uint            `cbor:"v"`
		Part    []wireOperation `cbor:"part"`
	}{formatVersion, all})
	return sha256.Sum256(b), err
}

// Digest is what people compare of a list: the SHA-256 of the digests of its parts.
func (o *Operation) Digest() Digest { return sha256.Sum256(joinDigests(o.Parts)) }

func joinDigests(all []Digest) (b []byte) {
	for _, d := range all {
		b = append(b, d[:]...)
	}
	return b
}

func (r *reader) digests(b []byte) (out []Digest) {
	if len(b)%len(Digest{}) != 0 {
		r.Fail("%d bytes of digests", len(b))
		return nil
	}
	for len(b) > 0 {
		out, b = append(out, Digest(b[:32])), b[32:]
	}
	return out
}

// checkFleet has the number of parts follow from that of terminals: every part but the last has MaxPart.
func (o *Operation) checkFleet() error {
	parts := len(o.Parts)
	if o.Total < 1 || o.Total > MaxFleet || parts != (o.Total+MaxPart-1)/MaxPart {
		return fmt.Errorf("a list of %d terminals in %d parts, want at most %d terminals and %d in every part but the last", o.Total, parts, MaxFleet, MaxPart)
	}
	return nil
}

// sizeOf is how many terminals a part of a list has: with the total, that is what people have approved.
func (o *Operation) sizeOf(part int) int { return min(MaxPart, o.Total-part*MaxPart) }

// Part is a part of a list that is to be registered.
type Part struct {
	Approval string       // of the list
	Seed     secret.Bytes // SeedSize bytes, one for the whole list; the codes are made from it. Not wiped
	All      []Registration
	Codes    bool // the terminals are registered, and get codes: All has names and nothing else
	Dry      bool // only say what would be refused; Approval and Seed are not looked at
}

// Enlisted is what became of one terminal of a list.
type Enlisted struct {
	Terminal keyset.TerminalID
	Code     Code         // why it was not registered, or has no code that is good; empty for none
	Detail   string       // to Code; public
	Ticket   secret.Bytes // as in Outcome; zero when there is none. The caller wipes it
	Expires  time.Time    // of the code
}

// Enlist registers the terminals of a part of an approved list, each with a one-time code, in one transaction. What is
// wrong with one of them does not keep the others from it. The same part with the same seed gives the same again: a code
// is made from the seed and the pepper, neither of which the other knows, so an answer that was lost is not a code that
// was lost, and no terminal has a second one. The list is that of the actor, and was approved. Errors are a *Refusal.
func (e *Engine) Enlist(ctx context.Context, actor Actor, p Part) ([]Enlisted, error) {
	record := actor.record("terminal/"+string(p.action()), "")
	if err := e.permitted(actor, identity.Operator); err != nil {
		return nil, e.refused(ctx, record, err)
	}
	digest, err := p.check()
	if err != nil {
		return nil, e.refused(ctx, record, refuse(CodeOperationMalformed, "%v", err))
	}
	if p.Dry {
		return e.rehearse(ctx, actor, p)
	}
	record.Object = p.Approval
	if p.imports() {
		out, err := e.importPart(ctx, actor, p, digest)
		if err != nil {
			return nil, e.refused(ctx, record, err)
		}
		return out, nil
	}
	_, pin, err := e.config.TrustList()
	if err != nil || pin == "" {
		return nil, e.refused(ctx, record, &Refusal{Code: CodeTrustListUnavailable, Cause: err})
	}
	var out []Enlisted
	err = e.update(ctx, func(t *transaction) error {
		wipeEnlisted(out) // of a run that did not count
		out = nil
		a, err := t.granted(actor, &p, digest)
		if err != nil {
			return err
		}
		repeated := 0
		for i := range p.All {
			enlist := t.enlist
			if p.Codes {
				enlist = t.reissue
			}
			one, again, err := enlist(actor, a, &p.All[i], p.Seed, pin)
			if err != nil {
				return err
			}
			out = append(out, one)
			if again {
				repeated++
			}
		}
		return t.handedOutAgain(actor, a, repeated)
	})
	if err != nil {
		wipeEnlisted(out)
		return nil, e.refused(ctx, record, err)
	}
	return out, nil
}

func wipeEnlisted(all []Enlisted) {
	for _, one := range all {
		one.Ticket.Wipe()
	}
}

func (p *Part) check() (Digest, error) {
	switch imports := p.imports(); {
	case !p.Dry && !isID(p.Approval):
		return Digest{}, errors.New("a part names the approval of its list")
	case !p.Dry && !imports && p.Seed.Len() != SeedSize:
		return Digest{}, fmt.Errorf("a part has a seed of %d bytes", SeedSize)
	case imports && p.Seed.Len() != 0:
		return Digest{}, errors.New("terminals that are imported get no codes: a part of them has no seed")
	}
	seen := make(map[keyset.TerminalID]bool, len(p.All))
	for i := range p.All {
		r := &p.All[i]
		if err := p.checkOne(r); err != nil {
			return Digest{}, fmt.Errorf("terminal %d of the part: %w", i+1, err)
		}
		if seen[r.Terminal] {
			return Digest{}, fmt.Errorf("%s is in the part twice", r.Terminal)
		}
		seen[r.Terminal] = true
		if (len(r.Keys) > 0) != p.imports() {
			return Digest{}, fmt.Errorf("%s: a list has keys for all of its terminals, or for none", r.Terminal)
		}
	}
	if err := p.checkKeyIDs(); err != nil {
		return Digest{}, err
	}
	return PartDigest(p.All)
}

// checkOne reports what is wrong with one terminal of the part.
func (p *Part) checkOne(r *Registration) error {
	if !p.Codes {
		return r.Check()
	}
	if !r.isName() {
		return errors.New("a terminal that gets a code is there with its name alone")
	}
	_, err := keyset.ParseTerminal(string(r.Terminal))
	return err
}

// granted returns the approval of the list that a part with this digest is of.
func (t *transaction) granted(actor Actor, p *Part, part Digest) (*Approval, error) {
	id, size := p.Approval, len(p.All)
	a, ok, err := t.Approval(id)
	switch {
	case err != nil:
		return nil, err
	case !ok || a.Operation.Action != p.action():
		return nil, refuse(CodeApprovalUnknown, "%s", id)
	case a.Requester != actor.Identity:
		return nil, refuse(CodeRoleNotPermitted, "the list is that of %s", a.Requester.Name)
	case a.Approver.IsZero() && a.Waits(t.now):
		return nil, refuse(CodeApprovalWaits, "%s", id)
	case a.Approver.IsZero() || !t.now.Before(a.Approved.Add(fleetTerm)):
		return nil, refuse(CodeApprovalSettled, "%s", id)
	}
	for i, d := range a.Operation.Parts {
		if d == part && size == a.Operation.sizeOf(i) {
			return a, nil
		}
	}
	return nil, refuse(CodeOperationMalformed, "the list that was approved has no such part")
}

// handedOutAgain audits that somebody has had codes of a part that had been handed out before.
func (t *transaction) handedOutAgain(actor Actor, a *Approval, codes int) error {
	if codes == 0 {
		return nil
	}
	r := actor.record("terminal/"+string(a.Operation.Action), a.ID)
	r.Result, r.Reason, r.Approvals = resultRepeated, fmt.Sprintf("%d codes of approval %s handed out again", codes, a.ID), a.names()
	return t.note(r)
}

// enlist registers one terminal of a list, or finds that it has been: again says that its code was handed out before.
func (t *transaction) enlist(actor Actor, a *Approval, r *Registration, seed secret.Bytes, pin string) (out Enlisted, again bool, _ error) {
	out.Terminal = r.Terminal
	code := t.engine.seededCode(seed, r.Terminal, a.Operation.Short)
	defer code.Wipe()
	check := t.engine.checkValue(r.Terminal, code)
	old, ok, err := t.Terminal(r.Terminal)
	if err != nil {
		return out, false, err
	}
	if ok && planted.On(planted.FleetCodeDrawn) {
		err := t.drawn(&out, actor, a, pin)
		return out, false, err
	}
	if ok {
		err := t.again(&out, old, check, code, pin)
		return out, out.Ticket.Len() > 0, err
	}
	p := &execution{op: r.operation(), actor: actor, approval: a}
	if _, err := t.register(p); err != nil {
		err := out.refused(err)
		return out, false, err
	}
	c := &OneTimeCode{
		Terminal: r.Terminal, Check: check, State: StateOpen, Created: t.now,
		Expires: t.now.Add(cmp.Or(a.Operation.Lifetime, defaultLifetime)), Author: actor.Identity.Name,
	}
	if err := t.PutOneTimeCode(c); err != nil {
		return out, false, err
	}
	out.Ticket, out.Expires = ticketOf(code, pin), c.Expires
	record := p.record()
	record.Reason = "list of approval " + a.ID
	if a.SelfApproved {
		record.Reason = selfApproved + ": " + record.Reason
	}
	return out, false, t.note(record)
}

// drawn is the planted fault: who asks again gets another code.
func (t *transaction) drawn(out *Enlisted, actor Actor, a *Approval, pin string) error {
	code := newCode(a.Operation.Short)
	defer code.Wipe()
	out.Ticket, out.Expires = ticketOf(code, pin), t.now.Add(defaultLifetime)
	return t.PutOneTimeCode(&OneTimeCode{
		Terminal: out.Terminal, Check: t.engine.checkValue(out.Terminal, code), State: StateOpen, Created: t.now, Expires: out.Expires,
		Author: actor.Identity.Name,
	})
}

// refused keeps what is about this terminal alone; other errors end the transaction.
func (out *Enlisted) refused(err error) error {
	switch refusal, ok := errors.AsType[*Refusal](err); {
	case err == nil:
		return nil
	case !ok || refusal.Unavailable():
		return err
	default:
		out.Code, out.Detail = refusal.Code, refusal.Detail
		return nil
	}
}

// again says of a terminal that is there whether this list has registered it, and with which code.
func (t *transaction) again(out *Enlisted, row *Terminal, check [32]byte, code secret.Bytes, pin string) error {
	c, ok, err := t.OneTimeCode(row.ID)
	if err != nil {
		return err
	}
	if !ok || subtle.ConstantTimeCompare(check[:], c.Check[:]) != 1 {
		out.Code, out.Detail = CodeTerminalExists, fmt.Sprintf("%s is %v", row.ID, row.Status)
		return nil
	}
	out.Expires = c.Expires
	switch {
	case c.State == StateSpent:
		out.Code = CodeOneTimeCodeSpent
	case c.State == StateVoid && t.now.Before(c.Expires):
		out.Code = CodeOneTimeCodeVoid
	case !t.now.Before(c.Expires):
		out.Code = CodeOneTimeCodeExpired
	default:
		out.Ticket = ticketOf(code, pin)
	}
	return nil
}

// rehearse says what would be refused, and changes nothing.
func (e *Engine) rehearse(ctx context.Context, actor Actor, p Part) ([]Enlisted, error) {
	var out []Enlisted
	err := e.view(ctx, func(tx Tx) error {
		out = nil
		t := &transaction{Tx: tx, engine: e, now: e.now()}
		for i := range p.All {
			one := Enlisted{Terminal: p.All[i].Terminal}
			var refusal error
			switch {
			case p.imports():
				refusal = t.importable(&p.All[i])
			case p.Codes:
				_, refusal = t.codable(one.Terminal)
			}
			if err := one.refused(refusal); err != nil {
				return err
			}
			if p.imports() || p.Codes {
				out = append(out, one)
				continue
			}
			row, ok, err := t.Terminal(one.Terminal)
			if err != nil {
				return err
			}
			if ok {
				one.Code, one.Detail = CodeTerminalExists, fmt.Sprintf("%s is %v", row.ID, row.Status)
			} else if _, err = t.unregistered(&execution{op: p.All[i].operation(), actor: actor}); err != nil {
				if err := one.refused(err); err != nil {
					return err
				}
			}
			out = append(out, one)
		}
		return nil
	})
	return out, err
}

// seededCode makes the code of a terminal from the seed of its list: what newCode draws, from an HMAC under the pepper. The
// caller wipes it.
func (e *Engine) seededCode(seed secret.Bytes, id keyset.TerminalID, isShort bool) secret.Bytes {
	for n := byte(0); ; n++ { // a third try is rare, and one in 256 tries that fail is the end of the universe
		mac := hmac.New(sha256.New, e.config.Pepper.Expose())
		mac.Write([]byte("latchkey-fleet-code-v1\x00"))
		mac.Write(seed.Expose())
		mac.Write([]byte(id))
		mac.Write([]byte{0, n})
		entropy := secret.From(mac.Sum(nil))
		if code, ok := codeFrom(entropy, isShort); ok {
			entropy.Wipe()
			return code
		}
		entropy.Wipe()
	}
}

// ticketOf is what goes on the slip of paper: CODE-PIN.
func ticketOf(code secret.Bytes, pin string) secret.Bytes {
	ticket := secret.New(code.Len() + 1 + len(pin))
	b := append(ticket.Expose()[:0], code.Expose()...)
	b = append(b, '-')
	copy(ticket.Expose()[len(b):], pin)
	return ticket
}
