package keyset

import (
	"errors"
	"fmt"
	"slices"
)

// ErrTransition is wrapped by every error about a change of state that a key cannot make.
var ErrTransition = errors.New("keyset: no such change of state")

// KeyState is the state of a key in its life (NIST SP 800-57 part 1 rev. 5, section 7). Nothing stores it: the states that
// are stored ([State], [SlotState], [Status]) say which it is.
type KeyState uint8

// The values of KeyState, each with the section that defines it.
const (
	// KeyPreActivation is made and not in use: it proves that somebody has it, and nothing else (7.1).
	KeyPreActivation KeyState = iota + 1
	// KeyActive protects and processes (7.2).
	KeyActive
	// KeySuspended is held for now; it may come back (7.3).
	KeySuspended
	// KeyDeactivated protects nothing new; what was protected under it is still processed (7.4).
	KeyDeactivated
	// KeyCompromised may be known to others. The standard lets who accepts the risk process under it; nobody here does (7.5).
	KeyCompromised
	// KeyDestroyed is no more, and stays so: what is public about it is kept (7.6).
	KeyDestroyed
)

var keyStateWords = words{"pre-activation", "active", "suspended", "deactivated", "compromised", "destroyed"}

// String returns the word of the standard, or "invalid(n)".
func (k KeyState) String() string { return keyStateWords.spell(uint8(k)) }

// Operation is what may be asked of a key.
type Operation uint8

// The values of Operation.
const (
	// Deliver hands out new keys that follow from it.
	Deliver Operation = iota + 1
	// Confirm proves that a terminal has it: a sign-in.
	Confirm
	// Protect encrypts and makes MACs under it, at the host.
	Protect
	// Process decrypts, verifies and translates what came in under it, and answers that.
	Process
	// Repeat gives again what was answered before.
	Repeat
)

var operationWords = words{"deliver", "confirm", "protect", "process", "repeat"}

// String returns the word, or "invalid(n)".
func (o Operation) String() string { return operationWords.spell(uint8(o)) }

// permitted says what each state lets be done. The lists contain one another, in the order of strictness.
var permitted = map[KeyState][]Operation{
	KeyActive:        {Deliver, Confirm, Protect, Process, Repeat},
	KeyDeactivated:   {Confirm, Process, Repeat},
	KeySuspended:     {Confirm, Repeat},
	KeyPreActivation: {Confirm},
	KeyCompromised:   {},
	KeyDestroyed:     {},
}

// transitions are the changes of state that figure 3 of the standard permits. Making a key is the only way in.
var transitions = map[KeyState][]KeyState{
	KeyPreActivation: {KeyActive, KeyCompromised, KeyDestroyed},
	KeyActive:        {KeySuspended, KeyDeactivated, KeyCompromised, KeyDestroyed},
	KeySuspended:     {KeyActive, KeyDeactivated, KeyCompromised, KeyDestroyed},
	KeyDeactivated:   {KeyCompromised, KeyDestroyed},
	KeyCompromised:   {KeyDestroyed},
	KeyDestroyed:     {},
}

// strictness lists the states from the one that permits least.
var strictness = []KeyState{KeyDestroyed, KeyCompromised, KeyPreActivation, KeySuspended, KeyDeactivated, KeyActive}

// Permits reports whether a key in this state may be used so. An unknown state permits nothing.
func (k KeyState) Permits(o Operation) bool { return slices.Contains(permitted[k], o) }

// CanBecome reports whether a key may go from this state into another one at once.
func (k KeyState) CanBecome(next KeyState) bool { return slices.Contains(transitions[k], next) }

// CheckTransition refuses a change of state that a key cannot make, staying as it is among them. The error wraps
// ErrTransition.
func CheckTransition(from, to KeyState) error {
	if !from.CanBecome(to) {
		return fmt.Errorf("%w: from %v to %v", ErrTransition, from, to)
	}
	return nil
}

// Strictest returns the state that permits least: that of a key whose set, slot and terminal stand each in one of these.
// Without any it is KeyDestroyed, and with an unknown one too.
func Strictest(states ...KeyState) KeyState {
	least := len(strictness)
	for _, k := range states {
		least = min(least, max(0, slices.Index(strictness, k)))
	}
	if least == len(strictness) {
		return KeyDestroyed
	}
	return strictness[least]
}

// usagePermits says what the host may do with keys of a purpose. No PIN block is made for a terminal, and a sign-in is proved
// by a MAC.
var usagePermits = map[Usage][]Operation{
	UsagePIN:  {Deliver, Process, Repeat},
	UsageData: {Deliver, Protect, Process, Repeat},
	UsageMAC:  {Deliver, Confirm, Protect, Process, Repeat},
}

// Permits reports whether the host may use keys of this purpose so, whatever their state.
func (u Usage) Permits(o Operation) bool { return slices.Contains(usagePermits[u], o) }

// Permits reports whether the set lets keys of a purpose be used so: it serves the purpose, the purpose permits it, and so
// does the state of the set.
func (s *KeySet) Permits(u Usage, o Operation) bool {
	return s.Has(u) && u.Permits(o) && s.State.Permits(o)
}

// keyStates of sets: what nobody has signed yet is in KeyPreActivation and has no State. A retired set is as good as
// destroyed for all of its key ids; the bytes of its base key go when no other set is over it.
var setKeyStates = map[State]KeyState{Active: KeyActive, Blocked: KeySuspended, Retired: KeyDestroyed}

// KeyState returns the state of the keys of a set in state s, and 0 for an unknown one.
func (s State) KeyState() KeyState { return setKeyStates[s] }

// Permits reports whether keys of a set in this state may be used so.
func (s State) Permits(o Operation) bool { return s.KeyState().Permits(o) }

// CanBecome reports whether the next revision of a set may have a state: it may stay as it is, unless it is final.
func (s State) CanBecome(next State) bool { return becomes(s.KeyState(), next.KeyState()) }

var slotKeyStates = map[SlotState]KeyState{
	SlotPending: KeyPreActivation, SlotActive: KeyActive, SlotDraining: KeyDeactivated, SlotRetired: KeyDestroyed,
}

// KeyState returns the state of the key of a slot, and 0 for an unknown one.
func (s SlotState) KeyState() KeyState { return slotKeyStates[s] }

// Permits reports whether the key of a slot in this state may be used so.
func (s SlotState) Permits(o Operation) bool { return s.KeyState().Permits(o) }

// CanBecome reports whether the key of a slot may go into a state: it may stay as it is, unless it is final.
func (s SlotState) CanBecome(next SlotState) bool { return becomes(s.KeyState(), next.KeyState()) }

var statusKeyStates = map[Status]KeyState{
	StatusPending: KeyPreActivation, StatusActive: KeyActive, StatusBlocked: KeySuspended, StatusQuarantined: KeySuspended,
	StatusCompromised: KeyCompromised, StatusRevoked: KeyCompromised, StatusRetired: KeyDestroyed,
}

// KeyState returns the state in which a terminal of this status leaves its keys, and 0 for an unknown one. A status is no
// state of a key: it holds all keys of the terminal and lets go of them again, so its own changes are not those of a key. A
// revoked terminal is treated as a compromised one. Drain grants let through what a suspended one has queued.
func (s Status) KeyState() KeyState { return statusKeyStates[s] }

// Permits reports whether keys of a terminal of this status may be used so, without a drain grant.
func (s Status) Permits(o Operation) bool { return s.KeyState().Permits(o) }

func becomes(from, to KeyState) bool {
	stays := from == to && len(transitions[from]) > 0
	return stays || from.CanBecome(to)
}
