package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/fleet"
)

var injected = fleet.Defaults{Slots: defaults.Slots, Endpoints: defaults.Endpoints, Import: true}

// TestBrokenKeys has one line of each kind that is wrong, between two that are right.
func TestBrokenKeys(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ line, want string }{
		"no key":                    {"T-2,,", "keys: there is none"},
		"no counter":                {"T-2,,1=FFFF9876543210E00000", "keys: want NUMBER=KEYID/COUNTER"},
		"no slot":                   {"T-2,,FFFF9876543210E00000/000001", "keys: want NUMBER=KEYID/COUNTER"},
		"slot 0":                    {"T-2,,0=FFFF9876543210E00000/000001", "keys: want NUMBER=KEYID/COUNTER"},
		"slot 01":                   {"T-2,,01=FFFF9876543210E00000/000001", "keys: want NUMBER=KEYID/COUNTER"},
		"slot 17":                   {"T-2,,17=FFFF9876543210E00000/000001", "keys: want NUMBER=KEYID/COUNTER"},
		"a slot that is not there":  {"T-2,,2=FFFF9876543210E00000/000001", "there is no key for slot 1"},
		"a slot without a key":      {"T-2,1=DATA-1;2=PIN-1,1=FFFF9876543210E00000/000001", "1 keys for 2 slots"},
		"a slot twice":              {"T-2,,1=FFFF9876543210E00000/000001;1=FFFF9876543220E00000/000001", "keys: slot 1 is there twice"},
		"one key in two slots":      {"T-2,1=DATA-1;2=PIN-1,1=FFFF9876543210E00000/000001;2=FFFF9876543210E00000/000001", "slots 1 and 2 have key id"},
		"a key id that is a KSN":    {"T-2,,1=FFFF9876543210E00001/000001", "keys: slot 1: that is not a key id"},
		"a key id that is short":    {"T-2,,1=FFFF9876543210E0/000001", "keys: slot 1: want the counter with 8 digits"},
		"a key id of no digits":     {"T-2,,1=FFFF9876543210EX0000/000001", "keys: slot 1: that is not a key id"},
		"a counter of few digits":   {"T-2,,1=FFFF9876543210E00000/10", "keys: slot 1: want the counter with 6 digits"},
		"a counter of many digits":  {"T-2,,1=FFFF9876543210E00000/0000001", "keys: slot 1: want the counter with 6 digits"},
		"a counter in small digits": {"T-2,,1=FFFF9876543210E00000/00000a", "keys: slot 1: want the counter with 6 digits"},
		"a signed counter":          {"T-2,,1=FFFF9876543210E00000/+00001", "keys: slot 1: want the counter with 6 digits"},
		"a TDES counter too high":   {"T-2,,1=FFFF9876543210E00000/200000", "keys: slot 1: counter 200000 is none that a terminal gets to"},
		"11 one-bits":               {"T-2,,1=FFFF9876543210E00000/0007FF", "keys: slot 1: counter 0007FF is none that a terminal gets to"},
		"an AES counter too high":   {"T-2,,1=1234567890123456/FFFF0001", "keys: slot 1: counter FFFF0001 is none that a terminal gets to"},
		"17 one-bits":               {"T-2,,1=1234567890123456/0001FFFF", "keys: slot 1: counter 0001FFFF is none that a terminal gets to"},
		"a key id of line 4":        {"T-2,,1=FFFF9876543230E00000/000001", "key id FFFF9876543230E00000 is on line 4 too"},
	} {
		entries, faults, err := fleet.Parse(strings.NewReader("terminal,slots,keys\nT-1,,1=FFFF9876543220E00000/000000\n"+c.line+"\nT-3,,1=FFFF9876543230E00000/0003FF\n"), injected)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		good := 2
		if strings.Contains(name, "line 4") {
			good = 1
		}
		if len(faults) != 3-good || faults[0].Line != 3 || !strings.Contains(faults[0].Reason, c.want) || len(entries) != good {
			t.Errorf("%s: %d entries, faults %v, want line 3: %s", name, len(entries), faults, c.want)
		}
	}
	for name, c := range map[string]struct {
		text string
		d    fleet.Defaults
	}{
		"keys of terminals that are registered": {"terminal,keys\n", defaults}, "no keys of terminals that are imported": {"terminal,slots\n", injected},
	} {
		if _, _, err := fleet.Parse(strings.NewReader(c.text), c.d); !errors.Is(err, fleet.ErrList) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestImportList reads the keys of TDES and AES, of which none or the last was used.
func TestImportList(t *testing.T) {
	t.Parallel()
	entries, faults, err := fleet.Parse(strings.NewReader("terminal,slots,keys\n"+
		"T-1,2=PIN-1;1=DATA-1,2=FFFF9876543210E00000/1FF800;1=1234567890123456/FFFF0000\nT-2,,1=1234567890123457/00000000\n"), injected)
	if err != nil || len(faults) != 0 || len(entries) != 2 {
		t.Fatalf("%v, %v, %v", entries, faults, err)
	}
	if got := fmt.Sprint(entries[0].Keys, entries[1].Keys); got != `[{1 1234567890123456 4294901760} {2 FFFF9876543210E00000 2095104}] [{1 1234567890123457 0}]` {
		t.Error(got)
	}
}

// FuzzImportList reads lists with keys. Every entry has a key for each slot, of which no other entry has any, and a list of the entries
// reads as the same.
func FuzzImportList(f *testing.F) {
	f.Add("terminal,slots,keys\nT-1,2=PIN-1;1=DATA-1,2=FFFF9876543210E00000/1FF800;1=1234567890123456/FFFF0000\nT-2,,1=1234567890123457/00000000\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, _, err := fleet.Parse(strings.NewReader(text), injected)
		if err != nil {
			return
		}
		var b strings.Builder
		b.WriteString("terminal,slots,endpoints,group,labels,keys\n")
		seen := map[string]bool{}
		for _, e := range entries {
			if len(e.Keys) == 0 || len(e.Keys) != len(e.Slots) {
				t.Fatalf("line %d: %d keys of %d slots", e.Line, len(e.Keys), len(e.Slots))
			}
			var keys []string
			for i, k := range e.Keys {
				name := fmt.Sprint(e.Slots[i].KeySet, k.KeyID)
				if seen[name] {
					t.Fatalf("line %d: %s is there twice", e.Line, name)
				}
				seen[name] = true
				digits := 8
				if k.KeyID.Scheme() == dukpt.TDES {
					digits = 6
				}
				keys = append(keys, fmt.Sprintf("%d=%v/%0*X", k.Slot, k.KeyID, digits, k.Counter))
			}
			b.WriteString(written(e) + "," + strings.Join(keys, ";") + "\n")
		}
		again, faults, err := fleet.Parse(strings.NewReader(b.String()), fleet.Defaults{Import: true})
		if err != nil || len(faults) > 0 || len(again) != len(entries) {
			t.Fatalf("written again: %d entries, %v, %v", len(again), faults, err)
		}
		for i := range again {
			if fmt.Sprint(again[i].Registration) != fmt.Sprint(entries[i].Registration) {
				t.Fatalf("%v reads as %v", entries[i], again[i])
			}
		}
	})
}
