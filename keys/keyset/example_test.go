package keyset_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// newSet fills in the names of a set for PIN blocks under AES.
func newSet() (*keyset.KeySet, error) {
	base, err := keyset.ParseKeyRef("alias/pin-2026")
	if err != nil {
		return nil, err
	}
	fingerprint, err := keys.ParseFingerprint("00112233445566778899aabbccddeeff")
	if err != nil {
		return nil, err
	}
	first, err := dukpt.ParseKeyID("1234567800000000")
	if err != nil {
		return nil, err
	}
	last, err := dukpt.ParseKeyID("12345678FFFFFFFF")
	if err != nil {
		return nil, err
	}
	s := keyset.NewAESPIN()
	s.ID, s.Tenant, s.Environment = "PIN-AES", "SHOP", keyset.Test
	s.BaseKey, s.BaseKeyFingerprint = base, fingerprint
	s.FirstID, s.LastID = first, last
	return s, nil
}

// A set starts from defaults, gets its names, and is stored in one deterministic form.
func Example() {
	s, err := newSet()
	if err != nil {
		panic(err)
	}
	stored, err := keyset.Marshal(s)
	if err != nil {
		panic(err)
	}
	s, err = keyset.Unmarshal(stored)
	if err != nil {
		panic(err)
	}
	id, err := dukpt.ParseKeyID("1234567890123456")
	if err != nil {
		panic(err)
	}
	fmt.Println(s.ID, "revision", s.Revision, s.State, "contains", id, s.Contains(id))
	// Output:
	// PIN-AES revision 1 active contains 1234567890123456 true
}

// A change is a new revision, which must follow the last one.
func ExampleCheckSuccessor() {
	s, err := newSet()
	if err != nil {
		panic(err)
	}
	next := s.NextRevision()
	next.State = keyset.Blocked
	fmt.Println(keyset.CheckSuccessor(s, next))
	next.Tenant = "OTHER"
	fmt.Println(keyset.CheckSuccessor(s, next))
	// Output:
	// <nil>
	// keyset: set breaks a rule: a new revision changes more than windows, horizon, paths, unknown keys, outgoing PIN keys and state
}

// A set that could give away PINs is refused.
func ExampleKeySet_Validate() {
	s, err := newSet()
	if err != nil {
		panic(err)
	}
	s.Delivery, s.Environment = keyset.Code, keyset.Production
	fmt.Println(s.Validate())
	// Output:
	// keyset: set breaks a rule: delivery by code is for test sets
}

// What is stored says in which state of SP 800-57 a key is: of its set, of its slot and of its terminal the strictest counts.
func ExampleStrictest() {
	state := keyset.Strictest(
		keyset.Active.KeyState(), keyset.SlotDraining.KeyState(), keyset.StatusActive.KeyState())
	fmt.Println(state, state.Permits(keyset.Protect), state.Permits(keyset.Process))
	state = keyset.Strictest(state, keyset.StatusCompromised.KeyState())
	fmt.Println(state, state.Permits(keyset.Protect), state.Permits(keyset.Process))
	// Output:
	// deactivated false true
	// compromised false false
}

// A key does not come back once it is deactivated.
func ExampleCheckTransition() {
	fmt.Println(keyset.CheckTransition(keyset.KeySuspended, keyset.KeyActive))
	err := keyset.CheckTransition(keyset.KeyDeactivated, keyset.KeyActive)
	fmt.Println(errors.Is(err, keyset.ErrTransition), err)
	// Output:
	// <nil>
	// true keyset: no such change of state: from deactivated to active
}

// One set takes over from another: new keys come of it, and what terminals have queued under the old ones is still processed.
func ExampleNewRotation() {
	old, err := newSet()
	if err != nil {
		panic(err)
	}
	next, err := newSet()
	if err != nil {
		panic(err)
	}
	next.ID = "PIN-AES-2"
	if next.BaseKey, err = keyset.ParseKeyRef("alias/pin-2027"); err != nil {
		panic(err)
	}
	if next.BaseKeyFingerprint, err = keys.ParseFingerprint("ffeeddccbbaa99887766554433221100"); err != nil {
		panic(err)
	}
	from := time.Date(2027, time.January, 1, 0, 0, 0, 0, time.UTC)
	r, err := keyset.NewRotation(old, next, from, from.Add(45*24*time.Hour))
	if err != nil {
		panic(err)
	}
	for _, days := range []int{-1, 1, 46} {
		now := from.Add(time.Duration(days) * 24 * time.Hour)
		was, is := r.KeyStates(now)
		set, _ := r.Delivering(now)
		fmt.Println(now.Format(time.DateOnly), was, is, set.ID)
	}
	// Output:
	// 2026-12-31 active pre-activation PIN-AES
	// 2027-01-02 deactivated active PIN-AES-2
	// 2027-02-16 destroyed active PIN-AES-2
}
