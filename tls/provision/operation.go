package provision

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Actor is who asks for something, from where.
type Actor struct {
	Identity identity.Identity // from the certificate of a finished handshake
	Source   string            // network address
}

// Action is what an operator can do to a terminal.
type Action string

// The actions.
const (
	ActionRegister    Action = "register"    // make it known, with its slots and endpoints
	ActionCode        Action = "code"        // hand out a one-time code; the one before is void
	ActionBlock       Action = "block"       // hold its sales
	ActionUnblock     Action = "unblock"     // end a block or a quarantine
	ActionCompromised Action = "compromised" // cut it off: its keys may be in other hands
	ActionRevoke      Action = "revoke"      // cut it off
	ActionRekey       Action = "rekey"       // have it fetch a new initial key
	ActionDrain       Action = "drain"       // let a part of what a held terminal has queued through
	ActionRetire      Action = "retire"      // take it out of service
	ActionLabel       Action = "label"       // put it into a group, and note something about it
)

// The actions on more than one terminal.
const (
	// ActionFleet permits a list of terminals to be registered, with a code for each. Enlist takes the list, part by part.
	ActionFleet Action = "register-fleet"
	// ActionImport permits a list of terminals to be imported whose keys were injected elsewhere: they are registered, and nothing is
	// accepted up to the counters that the list has. Enlist takes the list, part by part.
	ActionImport Action = "import-fleet"
	// ActionCodes permits one-time codes for a list of terminals that are registered; the ones before are void. Enlist takes the list,
	// part by part.
	ActionCodes Action = "code-fleet"
	// ActionCompromiseSet ends the delivery of a key set whose base key may be in other hands, and has its terminals fetch
	// keys of another set.
	ActionCompromiseSet Action = "compromise-set"
)

// Operation is an action with what it needs. Fields that an action does not use are zero.
type Operation struct {
	Action    Action
	Terminal  keyset.TerminalID
	Slots     []SlotAssignment // register: all; rekey: slots that get a key of this set
	Endpoints []string         // register: https URLs of the acquirer
	Group     Group            // register, label: none when empty
	Labels    []Label          // register, label: all of them, ascending by key
	Short     bool             // code, register-fleet, code-fleet: 12 characters and a check character
	Lifetime  time.Duration    // code, register-fleet, code-fleet: 15 minutes when zero, at most 24 hours
	Slot      uint8            // rekey: zero for all of them; drain: of the key that MACs the messages
	KeyID     dukpt.KeyID      // drain
	First     uint32           // drain: ordinals, both included
	Last      uint32
	Count     uint32    // drain: messages at most
	Until     time.Time // drain
	Reason    string    // for the record; at most 200 characters
	Total     int       // of lists: terminals
	Parts     []Digest  // of lists: what stands for each part, in order
	KeySet    keyset.ID // compromise-set
	Successor keyset.ID // compromise-set: what its slots are moved to
}

// SlotAssignment says which key set a slot is for.
type SlotAssignment struct {
	Slot   uint8
	KeySet keyset.ID
}

// Outcome is what came of an operation. Approval alone means that it waits for a second person.
type Outcome struct {
	Approval *Approval    // that it waits for, that it got, or that the operator gave himself in a test environment
	Terminal *Terminal    // as it is afterwards
	Ticket   secret.Bytes // code: the code, a hyphen and the pin of the trust list. The caller wipes it
}

const (
	defaultLifetime = 15 * time.Minute // of a one-time code
	minLifetime     = time.Minute
	maxLifetime     = 24 * time.Hour
	maxGrantTerm    = 31 * 24 * time.Hour
	idLength        = 26
)

// newID draws the id of an approval, a task or a drain grant.
func newID() string {
	var b [17]byte
	_, _ = rand.Read(b[:]) // cannot fail
	return string(crockford.Append(nil, b[:], idLength))
}

func isID(s string) bool { return len(s) == idLength && strings.Trim(s, crockford.Alphabet) == "" }

// fields returns what the action uses of an operation, beside action, terminal and reason.
func (o *Operation) fields() (Operation, error) {
	switch o.Action {
	case ActionRegister:
		return Operation{Slots: o.Slots, Endpoints: o.Endpoints, Group: o.Group, Labels: o.Labels}, nil
	case ActionLabel:
		return Operation{Group: o.Group, Labels: o.Labels}, nil
	case ActionFleet, ActionCodes:
		return Operation{Short: o.Short, Lifetime: o.Lifetime, Total: o.Total, Parts: o.Parts}, nil
	case ActionImport:
		return Operation{Total: o.Total, Parts: o.Parts}, nil
	case ActionCode:
		return Operation{Short: o.Short, Lifetime: o.Lifetime}, nil
	case ActionCompromiseSet:
		return Operation{KeySet: o.KeySet, Successor: o.Successor}, nil
	case ActionRekey:
		return Operation{Slots: o.Slots, Slot: o.Slot}, nil
	case ActionDrain:
		return Operation{Slot: o.Slot, KeyID: o.KeyID, First: o.First, Last: o.Last, Count: o.Count, Until: o.Until}, nil
	case ActionBlock, ActionUnblock, ActionCompromised, ActionRevoke, ActionRetire:
		return Operation{}, nil
	}
	return Operation{}, fmt.Errorf("unknown action")
}

// check reports what is wrong with the operation by itself. Its texts are public.
func (o *Operation) check() error {
	if err := o.checkTerminal(); err != nil {
		return err
	}
	used, err := o.fields()
	if err != nil {
		return err
	}
	used.Action, used.Terminal, used.Reason = o.Action, o.Terminal, o.Reason
	if !o.same(&used) {
		return fmt.Errorf("operation %s takes less than what was given", o.Action)
	}
	if !plainText(o.Reason) {
		return fmt.Errorf("reason: want at most %d printable characters of ASCII", maxText)
	}
	if err := o.checkSlots(); err != nil {
		return err
	}
	if o.Lifetime != 0 && (o.Lifetime < minLifetime || o.Lifetime > maxLifetime || o.Lifetime%time.Second != 0) {
		return fmt.Errorf("lifetime %v, want %v to %v in whole seconds", o.Lifetime, minLifetime, maxLifetime)
	}
	if err := checkMarks(o.Group, o.Labels); err != nil {
		return err
	}
	switch o.Action {
	case ActionDrain:
		return o.checkDrain()
	case ActionFleet, ActionImport, ActionCodes:
		return o.checkFleet()
	case ActionCompromiseSet:
		return o.checkCompromise()
	}
	return nil
}

// OfList reports whether an action is on a list of terminals, which Enlist takes.
func (a Action) OfList() bool { return a == ActionFleet || a == ActionImport || a == ActionCodes }

// Wholesale reports whether an action is on more than one terminal, and names none.
func (a Action) Wholesale() bool { return a.OfList() || a == ActionCompromiseSet }

// checkTerminal wants the name of a terminal, and none for what is about more than one.
func (o *Operation) checkTerminal() error {
	if o.Action.Wholesale() {
		if o.Terminal != "" {
			return fmt.Errorf("operation %s names no terminal", o.Action)
		}
		return nil
	}
	_, err := keyset.ParseTerminal(string(o.Terminal))
	return err
}

// same compares two operations, nil and empty lists being one.
func (o *Operation) same(p *Operation) bool {
	return o.Action == p.Action && o.Terminal == p.Terminal && slices.Equal(o.Slots, p.Slots) &&
		slices.Equal(o.Endpoints, p.Endpoints) && o.Short == p.Short && o.Lifetime == p.Lifetime && o.Slot == p.Slot &&
		o.Group == p.Group && slices.Equal(o.Labels, p.Labels) && o.Total == p.Total && slices.Equal(o.Parts, p.Parts) &&
		o.KeySet == p.KeySet && o.Successor == p.Successor &&
		o.KeyID == p.KeyID && o.First == p.First && o.Last == p.Last && o.Count == p.Count && o.Until.Equal(p.Until) &&
		o.Reason == p.Reason
}

func (o *Operation) checkSlots() error {
	if o.Action == ActionRegister && len(o.Slots) == 0 {
		return fmt.Errorf("a terminal needs a slot")
	}
	if len(o.Slots) > keyset.MaxSlots || len(o.Endpoints) > maxEndpoints {
		return fmt.Errorf("%d slots and %d endpoints, want at most %d and %d", len(o.Slots), len(o.Endpoints), keyset.MaxSlots, maxEndpoints)
	}
	if o.Slot > keyset.MaxSlots {
		return fmt.Errorf("slot %d, want 1 to %d", o.Slot, keyset.MaxSlots)
	}
	if o.Slot != 0 && len(o.Slots) > 0 {
		return fmt.Errorf("name one slot, or slots with key sets, not both")
	}
	for i, s := range o.Slots {
		if s.Slot < 1 || s.Slot > keyset.MaxSlots || i > 0 && o.Slots[i-1].Slot >= s.Slot {
			return fmt.Errorf("slots are 1 to %d, ascending, each once", keyset.MaxSlots)
		}
		if _, err := keyset.ParseID(string(s.KeySet)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Operation) checkDrain() error {
	switch {
	case o.Slot < 1 || o.KeyID.IsZero():
		return fmt.Errorf("name the slot and the key id that the messages are MACed under")
	case o.First < 1 || o.Last < o.First || o.Last > o.KeyID.Scheme().MaxOrdinal():
		return fmt.Errorf("ordinals %d to %d", o.First, o.Last)
	case o.Count < 1 || o.Count-1 > o.Last-o.First:
		return fmt.Errorf("%d messages of the ordinals %d to %d", o.Count, o.First, o.Last)
	case o.Until.Unix() < 1 || o.Until.Nanosecond() != 0:
		return fmt.Errorf("say until when, in whole seconds")
	}
	return nil
}

// plainText reports whether a remark is short and printable.
func plainText(s string) bool {
	return len(s) <= maxText && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
