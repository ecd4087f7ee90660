package keyset_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// newRecord is a terminal that has just renewed its certificate: the one before still connects for a day.
func newRecord() *keyset.Terminal {
	id, err := dukpt.ParseKeyID("1234567890123456")
	if err != nil {
		panic(err)
	}
	return &keyset.Terminal{
		Version: keyset.FormatVersion, Tenant: "SHOP", ID: "T-1", Status: keyset.StatusActive, Generation: 7,
		Slots:  []keyset.Slot{{Slot: 1, KeySet: "PIN-AES", KeyID: id, State: keyset.SlotActive}},
		Serial: "4a01", PreviousSerial: "39ff", PreviousUntil: time.Date(2027, time.January, 2, 0, 0, 0, 0, time.UTC),
	}
}

// A record is stored in one form, and read in no other: what was read is valid, and can be compared byte by byte.
func ExampleUnmarshalTerminal() {
	stored, err := keyset.MarshalTerminal(newRecord())
	if err != nil {
		panic(err)
	}
	t, err := keyset.UnmarshalTerminal(stored)
	if err != nil {
		panic(err)
	}
	slot := t.Slots[0]
	fmt.Println(t.Tenant, t.ID, t.Status, "slot", slot.Slot, slot.KeySet, slot.KeyID, slot.State)

	_, err = keyset.UnmarshalTerminal(append(stored, 0))
	fmt.Println(errors.Is(err, keyset.ErrFormat))
	t.Status = 0
	_, err = keyset.MarshalTerminal(t)
	fmt.Println(errors.Is(err, keyset.ErrTerminal), err)
	// Output:
	// SHOP T-1 active slot 1 PIN-AES 1234567890123456 active
	// true
	// true keyset: terminal record breaks a rule: status is not set
}

// Certificates are told apart by the text of their serials, so there is one way to write each.
func ExampleTerminal_CheckSerials() {
	t := newRecord()
	fmt.Println(t.CheckSerials())
	t.Serial = "4A01"
	fmt.Println(t.CheckSerials())
	t = newRecord()
	t.PreviousSerial = ""
	fmt.Println(t.CheckSerials())
	// Output:
	// <nil>
	// keyset: terminal record breaks a rule: serial is not lower-case hex of 1 to 20 bytes
	// keyset: terminal record breaks a rule: there is an end for a previous serial and no such serial
}

// PINs and card data go under sets of their own, with base keys of their own, and both have MACs.
func ExampleNewAESData() {
	data, pins := keyset.NewAESData(), keyset.NewTDESPIN()
	for _, s := range []*keyset.KeySet{data, pins} {
		fmt.Println(s.Scheme, s.Algorithm, s.Usages, s.MACSpec().Algorithm, s.Counter)
	}
	fmt.Println("contents of one KSN:", data.Contents[keyset.UsageData], pins.Contents[keyset.UsagePIN])
	fmt.Println(data.Validate())
	// Output:
	// AES AES-128 [data mac] CMAC authenticated
	// TDES 2TDEA [pin mac] ISO9797_ALGORITHM3 authenticated
	// contents of one KSN: 1 1
	// keyset: set breaks a rule: keyset: not a name: key set name has 0 characters, want 1 to 32
}
