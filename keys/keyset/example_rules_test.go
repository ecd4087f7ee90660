package keyset_test

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Sets over one base key share no key id.
func ExampleDisjointRanges() {
	one, err := newSet()
	if err != nil {
		panic(err)
	}
	other, err := newSet()
	if err != nil {
		panic(err)
	}
	other.ID = "PIN-AES-2"
	if other.FirstID, err = dukpt.ParseKeyID("12345678F0000000"); err != nil {
		panic(err)
	}
	err = keyset.DisjointRanges([]*keyset.KeySet{one, other})
	fmt.Println(errors.Is(err, keyset.ErrKeySet))
	if one.LastID, err = dukpt.ParseKeyID("12345678EFFFFFFF"); err != nil {
		panic(err)
	}
	fmt.Println(keyset.DisjointRanges([]*keyset.KeySet{one, other}))
	// Output:
	// true
	// <nil>
}

// What a form or a configuration says in words becomes a set, or an error that names the rule.
func ExampleNewDefaults() {
	words := struct{ id, tenant, environment, profile string }{"DATA-1", "SHOP", "test", "magtek"}
	var usages []keyset.Usage
	for _, word := range []string{"data", "mac"} {
		u, err := keyset.ParseUsage(word)
		if err != nil {
			panic(err)
		}
		usages = append(usages, u)
	}
	s := keyset.NewDefaults(dukpt.TDES, usages...)
	var errs [4]error
	s.ID, errs[0] = keyset.ParseID(words.id)
	s.Tenant, errs[1] = keyset.ParseTenant(words.tenant)
	s.Environment, errs[2] = keyset.ParseEnvironment(words.environment)
	s.Profile, errs[3] = keyset.ParseProfile(words.profile)
	if err := errors.Join(errs[:]...); err != nil {
		panic(err)
	}
	fmt.Println(s.Profile, s.Profile.DataProfile(), "spares the PIN:", s.Profile.SparesPIN())
	fmt.Println(s.Validate())
	_, err := keyset.ParseTerminal("TILL 1")
	fmt.Println(err)
	// Output:
	// magtek pin-variant spares the PIN: false
	// keyset: set breaks a rule: no base key is named
	// keyset: not a name: terminal name has a character outside A-Z, 0-9 and - at position 5
}

// A set says how both ends compute; a message that says otherwise is refused by whoever compares.
func ExampleKeySet_MACSpec() {
	s, err := newSet()
	if err != nil {
		panic(err)
	}
	s.MAC.Length = 8
	mac := s.MACSpec()
	fmt.Println(mac.Algorithm, mac.Key, mac.Length, mac.Validate(s.Scheme))

	data := keyset.NewTDESData().DataSpec(dukpt.Request, dukpt.CBC, nil)
	fmt.Println(data.Profile, data.Mode, data.Validate(dukpt.TDES))
	// Output:
	// CMAC AES128 8 <nil>
	// one-way CBC <nil>
}

// What may be done with a key is asked of its purpose and its state.
func ExampleKeySet_Permits() {
	s, err := newSet()
	if err != nil {
		panic(err)
	}
	fmt.Println(s.Permits(keyset.UsagePIN, keyset.Process), s.Permits(keyset.UsagePIN, keyset.Protect), s.Permits(keyset.UsageData, keyset.Process))
	if s.State, err = keyset.ParseState("blocked"); err != nil {
		panic(err)
	}
	fmt.Println(s.Permits(keyset.UsagePIN, keyset.Process), s.State.CanBecome(keyset.Active), keyset.Retired.CanBecome(keyset.Active))
	// Output:
	// true false false
	// false true false
}

// Names of keys come from outside, and are safe in a URL once they are parsed.
func ExampleParseKeyRef() {
	r, err := keyset.ParseKeyRef("alias/zone/visa-2026")
	fmt.Println(r, r.IsAlias(), err)
	_, err = keyset.ParseKeyRef("alias/../other")
	fmt.Println(errors.Is(err, keyset.ErrKeyRef))
	// Output:
	// alias/zone/visa-2026 true <nil>
	// true
}
