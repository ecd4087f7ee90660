package keyset_test

import (
	"fmt"

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
