package feed

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// full returns a record that uses every member.
func full() *Record {
	t := newTerminal("T-1")
	t.PreviousSerial, t.PreviousUntil, t.Status, t.Generation = "0c", time.Unix(1767225600, 0).UTC(), keyset.StatusBlocked, 7
	t.Slots = []keyset.Slot{
		{Slot: 1, KeySet: "A", KeyID: keyID("1234567890123456"), State: keyset.SlotDraining},
		{Slot: 1, KeySet: "A", KeyID: keyID("1234567890123457"), State: keyset.SlotActive},
		{Slot: 1, KeySet: "A", KeyID: keyID("1234567890123458"), State: keyset.SlotPending},
		{Slot: 2, KeySet: "B", KeyID: keyID("FFFF9876543210E00000"), State: keyset.SlotRetired},
	}
	t.DrainGrants = []keyset.DrainGrant{
		{ID: strings.Repeat("0", 26), Slot: 1, KeyID: keyID("1234567890123456"), First: 1, Last: 10, Count: 10, Until: time.Unix(1, 0).UTC()},
		{ID: strings.Repeat("Z", 26), Slot: 2, KeyID: keyID("FFFF9876543210E00000"), First: 5, Last: 1048575, Count: 1, Until: time.Unix(1767225600, 0).UTC()},
	}
	return &Record{Epoch: 3, Sequence: 9, Previous: [32]byte{1}, Kind: KindTerminal, Issuer: "RA-1", Terminal: t}
}

func TestRecordComesBack(t *testing.T) {
	t.Parallel()
	least := &Record{Epoch: 1, Sequence: 1, Kind: KindTerminal, Issuer: "RA", Terminal: keyset.Terminal{
		Version: 1, Tenant: tenant, ID: "T", Status: keyset.StatusPending, Generation: 1,
	}}
	for _, r := range []*Record{full(), least} {
		b, err := r.Marshal()
		check(t, err)
		got, err := ParseRecord(b)
		check(t, err)
		if !reflect.DeepEqual(got, r) {
			t.Errorf("got %+v, want %+v", got, r)
		}
		for n := range b {
			if _, err := ParseRecord(b[:n]); !errors.Is(err, ErrFormat) {
				t.Fatalf("cut to %d bytes: %v, want ErrFormat", n, err)
			}
		}
		if _, err := ParseRecord(append(bytes.Clone(b), 0)); !errors.Is(err, ErrFormat) {
			t.Errorf("with a byte more: %v, want ErrFormat", err)
		}
	}
}

func TestRecordRules(t *testing.T) {
	t.Parallel()
	slot := func(change func(*keyset.Slot)) func(*Record) { return func(r *Record) { change(&r.Terminal.Slots[2]) } }
	grant := func(change func(*keyset.DrainGrant)) func(*Record) {
		return func(r *Record) { change(&r.Terminal.DrainGrants[1]) }
	}
	for name, change := range map[string]func(*Record){
		"epoch 0":                    func(r *Record) { r.Epoch = 0 },
		"sequence 0":                 func(r *Record) { r.Sequence = 0 },
		"no previous hash":           func(r *Record) { r.Previous = [32]byte{} },
		"first with a previous hash": func(r *Record) { r.Sequence = 1 },
		"no kind":                    func(r *Record) { r.Kind = 0 },
		"kind key-id":                func(r *Record) { r.Kind = 3 },
		"no issuer":                  func(r *Record) { r.Issuer = "" },
		"issuer in lower case":       func(r *Record) { r.Issuer = "ra" },
		"another version":            func(r *Record) { r.Terminal.Version = 2 },
		"no tenant":                  func(r *Record) { r.Terminal.Tenant = "" },
		"no terminal":                func(r *Record) { r.Terminal.ID = "" },
		"no status":                  func(r *Record) { r.Terminal.Status = 0 },
		"generation 0":               func(r *Record) { r.Terminal.Generation = 0 },
		"serial in upper case":       func(r *Record) { r.Terminal.Serial = "0A" },
		"serial of 21 bytes":         func(r *Record) { r.Terminal.Serial = strings.Repeat("0a", 21) },
		"the same serial twice":      func(r *Record) { r.Terminal.PreviousSerial = r.Terminal.Serial },
		"previous without current":   func(r *Record) { r.Terminal.Serial = "" },
		"end without serial":         func(r *Record) { r.Terminal.PreviousSerial = "" },
		"previous without end":       func(r *Record) { r.Terminal.PreviousUntil = time.Time{} },
		"end in parts of a second":   func(r *Record) { r.Terminal.PreviousUntil = time.Unix(1, 1) },
		"slot 0":                     slot(func(s *keyset.Slot) { s.Slot = 0 }),
		"slot 17":                    slot(func(s *keyset.Slot) { s.Slot = 17 }),
		"no key set":                 slot(func(s *keyset.Slot) { s.KeySet = "" }),
		"one key id twice in a slot": slot(func(s *keyset.Slot) { s.KeyID = keyID("1234567890123457") }),
		"no key id":                  slot(func(s *keyset.Slot) { *s = keyset.Slot{Slot: 1, KeySet: "A", State: keyset.SlotPending} }),
		"no state":                   slot(func(s *keyset.Slot) { s.State = 0 }),
		"two active keys":            slot(func(s *keyset.Slot) { s.State = keyset.SlotActive }),
		"slots out of order":         func(r *Record) { r.Terminal.Slots[0].Slot = 2 },
		"one key id in two slots":    func(r *Record) { r.Terminal.Slots[3].KeyID = r.Terminal.Slots[0].KeyID },
		"65 keys":                    func(r *Record) { r.Terminal.Slots = many(65) },
		"grant without id":           grant(func(g *keyset.DrainGrant) { g.ID = "" }),
		"grant with a letter I":      grant(func(g *keyset.DrainGrant) { g.ID = strings.Repeat("I", 26) }),
		"grants out of order":        grant(func(g *keyset.DrainGrant) { g.ID = strings.Repeat("0", 26) }),
		"grant for no key": grant(func(g *keyset.DrainGrant) {
			*g = keyset.DrainGrant{ID: g.ID, Slot: 1, First: 1, Last: 1, Count: 1, Until: g.Until}
		}),
		"grant for slot 0":             grant(func(g *keyset.DrainGrant) { g.Slot = 0 }),
		"grant from 0":                 grant(func(g *keyset.DrainGrant) { g.First = 0 }),
		"grant to beyond the last key": grant(func(g *keyset.DrainGrant) { g.Last = 1048576 }),
		"grant of nothing":             grant(func(g *keyset.DrainGrant) { g.Count = 0 }),
		"grant of more than its range": grant(func(g *keyset.DrainGrant) { g.First, g.Last, g.Count = 5, 6, 3 }),
		"grant upside down":            grant(func(g *keyset.DrainGrant) { g.First, g.Last = 6, 5 }),
		"grant without end":            grant(func(g *keyset.DrainGrant) { g.Until = time.Time{} }),
	} {
		r := full()
		change(r)
		if b, err := r.Marshal(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %x, %v, want ErrFormat", name, b, err)
		}
	}
	r := full()
	r.Terminal.Slots = many(64)
	if _, err := r.Marshal(); err != nil {
		t.Errorf("64 keys: %v", err)
	}
}

// many returns n retired keys, sixteen in each slot.
func many(n int) []keyset.Slot {
	var out []keyset.Slot
	for i := range n {
		out = append(out, keyset.Slot{Slot: uint8(1 + i/16), KeySet: "A", KeyID: keyID(fmt.Sprintf("%016X", i+1)), State: keyset.SlotRetired})
	}
	return out
}

func TestKind(t *testing.T) {
	t.Parallel()
	if KindTerminal.String() != "terminal" || Kind(2).String() != "invalid(2)" {
		t.Errorf("%v, %v", KindTerminal, Kind(2))
	}
}

func TestHeadRules(t *testing.T) {
	t.Parallel()
	good := Head{Tenant: tenant, Epoch: 1, Sequence: 2, Hash: [32]byte{1}, Time: time.UnixMilli(1767225600123).UTC(), Snapshot: [32]byte{2}, Objects: 1}
	empty := Head{Tenant: tenant, Epoch: 1, Time: time.UnixMilli(1).UTC()}
	for _, h := range []Head{good, empty} {
		b, err := h.Marshal()
		check(t, err)
		got, err := ParseHead(b)
		check(t, err)
		if *got != h {
			t.Errorf("got %+v, want %+v", got, h)
		}
		for n := range b {
			if _, err := ParseHead(b[:n]); !errors.Is(err, ErrFormat) {
				t.Fatalf("cut to %d bytes: %v, want ErrFormat", n, err)
			}
		}
	}
	for name, change := range map[string]func(*Head){
		"no tenant":             func(h *Head) { h.Tenant = "" },
		"epoch 0":               func(h *Head) { h.Epoch = 0 },
		"no hash":               func(h *Head) { h.Hash = [32]byte{} },
		"no record":             func(h *Head) { h.Sequence, h.Objects = 0, 0 },
		"no terminals":          func(h *Head) { h.Objects = 0 },
		"more than its records": func(h *Head) { h.Objects = 3 },
		"no time":               func(h *Head) { h.Time = time.Time{} },
		"microseconds":          func(h *Head) { h.Time = time.UnixMicro(1767225600123456) },
	} {
		h := good
		change(&h)
		if _, err := h.Marshal(); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}
