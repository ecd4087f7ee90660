package keyblock

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
)

// wellFormed has one optional block of each form that the standard knows.
var wellFormed = []OptionalBlock{
	{"AL", "0100"}, {"AL", "0101"}, {"BI", "00FFFF987654"}, {"BI", "0112345678"}, {"CT", "00AAEC"}, {"CT", "01AAECAw=="},
	{"CT", "02000004AAEC010008AAECAw=="}, {"CT", "02000004AAEC"}, {"DA", "01B1TXN"}, {"DA", "01P0AEED0ABSM6TCN"}, {"HM", "21"}, {"HM", "33"},
	{"IK", "1234567890ABCDEF"}, {"KC", "00ABCDEF"}, {"KC", "01ABCDEF0123"}, {"KP", "00ABCDEF"}, {"KP", "01ABCDEF0123"},
	{"KS", "FFFF9876543210E00000"}, {"KS", "00000000000000000000"}, {"KS", "FFFFFFFFFFFFFFE00000"}, {"LB", ""}, {"LB", "any text ~!"}, {"PK", "00ABCDEF"}, {"PK", "01ABCDEF0123"},
	{"TC", "20260228235959Z"}, {"TC", "2026022823595999Z"}, {"TS", "2026-02-28T23:59:59Z"}, {"TS", "2026-02-28T23:59:59.99Z"},
	{"WP", "000"}, {"WP", "001"}, {"WP", "002"}, {"WP", "003"},
}

// malformed has optional blocks that no system should write, each with what is wrong.
var malformed = []struct{ what, id, data string }{
	{"no data", "AL", ""}, {"no life", "AL", "01"}, {"another version", "AL", "0000"}, {"another life", "AL", "0102"}, {"long", "AL", "01000"},
	{"no data", "BI", ""}, {"no id", "BI", "00"}, {"another type", "BI", "0212345678"}, {"key set id short", "BI", "00FFFF98765"},
	{"key set id long", "BI", "00FFFF9876543"}, {"AES id short", "BI", "011234567"}, {"AES id long", "BI", "01123456789"}, {"not hexadecimal", "BI", "011234567G"},
	{"key set id as long as one of AES", "BI", "0012345678"},
	{"no data", "CT", ""}, {"no certificate", "CT", "00"}, {"another format", "CT", "03AAEC"}, {"not base64", "CT", "00A!EC"}, {"base64 unpadded", "CT", "01AAECAw"},
	{"base64 with stray bits", "CT", "01AAECAx=="}, {"empty chain", "CT", "02"}, {"chain cut in the length", "CT", "0200000"},
	{"chain cut in the certificate", "CT", "02000008AAEC"}, {"chain with a length not hexadecimal", "CT", "0200000gAAEC"},
	{"chain in a chain", "CT", "02020004AAEC"}, {"chain with an empty certificate", "CT", "02000000"}, {"chain with one digit behind", "CT", "02000004AAEC0"},
	{"no data", "DA", ""}, {"no derivation", "DA", "01"}, {"another version", "DA", "02B1TXN"}, {"cut", "DA", "01B1TX"}, {"one more", "DA", "01B1TXNB"},
	{"twice the same", "DA", "01B1TXNB1TXN"}, {"unknown algorithm", "DA", "01B1ZXN"}, {"unknown mode", "DA", "01B1TQN"},
	{"unknown exportability", "DA", "01B1TXX"}, {"usage not alphanumeric", "DA", "01B-TXN"},
	{"no data", "HM", ""}, {"one digit", "HM", "2"}, {"three digits", "HM", "210"}, {"not hexadecimal", "HM", "2G"},
	{"no data", "IK", ""}, {"short", "IK", "123456789012345"}, {"long", "IK", "12345678901234567"}, {"not hexadecimal", "IK", "123456789012345G"},
	{"no data", "KC", ""}, {"no value", "KC", "00"}, {"legacy of 4 bytes", "KC", "00ABCDEF01"}, {"CMAC of 6 bytes", "KC", "01ABCDEF012345"},
	{"odd", "KC", "00ABC"}, {"unknown method", "KC", "02ABCDEF"}, {"not hexadecimal", "KC", "00ABCDEG"}, {"long legacy", "KP", "00ABCDEF0123"}, {"no value", "PK", "01"},
	{"no data", "KS", ""}, {"short", "KS", "FFFF9876543210E"}, {"between the two lengths", "KS", "FFFF9876543210E000"}, {"long", "KS", "FFFF9876543210E000000"},
	{"free text", "KS", "VM9A"}, {"free text as long as a serial number", "KS", "FFFF987654321 E00000"}, {"not hexadecimal", "KS", "GFFF9876543210E00000"},
	{"no data", "TC", ""}, {"no zone", "TC", "20260228235959"}, {"another zone", "TC", "20260228235959+"}, {"no such day", "TC", "20260229235959Z"},
	{"no such month", "TS", "2026-13-01T00:00:00Z"}, {"no such hour", "TS", "2026-01-01T24:00:00Z"}, {"blank for T", "TS", "2026-01-01 00:00:00Z"},
	{"no zone", "TS", "2018-06-18T20:42:39.22"}, {"one digit of a second", "TS", "2018-06-18T20:42:39.2Z"}, {"comma", "TS", "2018-06-18T20:42:39,22Z"},
	{"fraction with letters", "TC", "202602282359590xZ"}, {"small z", "TC", "20260228235959z"},
	{"no data", "WP", ""}, {"no pedigree", "WP", "00"}, {"another version", "WP", "010"}, {"another pedigree", "WP", "004"}, {"long", "WP", "0000"},
}

// spelled has optional blocks that others write, and that are read with a warning.
var spelled = []OptionalBlock{
	{"BI", "00ffff987654"}, {"BI", "01abcdef01"}, {"IK", "1234567890abcdef"}, {"KS", "ffff9876543210e00000"}, {"KS", "FFFF9876543210E0"},
	{"KS", "ffff9876543210e0"}, {"KS", "FFFF9876543210E00001"}, {"KS", "FFFF9876543210E80000"}, {"KS", "FFFF9876543210F00000"}, {"KS", "FFFF9876543210E10000"}, {"KS", "FFFF98765432101FFFFF"}, {"KC", "00ABCD"}, {"KC", "00AB"}, {"KC", "00abcdef"}, {"KP", "01ABCDEF"}, {"KP", "01ABCDEF01"}, {"PK", "01abcdef0123"},
}

// homes says for which key an optional block is made.
var homes = map[string]Header{
	"AL": {Version: 'D', Usage: "S0", Algorithm: 'R', Mode: 'S', Reserved: "00"}, "CT": {Version: 'D', Usage: "K3", Algorithm: 'E', Mode: 'X', Reserved: "00"},
	"DA": {Version: 'D', Usage: "B0", Algorithm: 'A', Mode: 'X', Reserved: "00"}, "HM": {Version: 'D', Usage: "M7", Algorithm: 'H', Mode: 'C', Reserved: "00"},
	"IK": {Version: 'D', Usage: "B1", Algorithm: 'A', Mode: 'X', Reserved: "00"}, "KS": {Version: 'B', Usage: "B1", Algorithm: 'T', Mode: 'X', Reserved: "00"},
	"BI00": {Version: 'D', Usage: "B0", Algorithm: 'T', Mode: 'X', Reserved: "00"}, "BI01": {Version: 'D', Usage: "B0", Algorithm: 'A', Mode: 'X', Reserved: "00"},
	"KC00": {Version: 'D', Usage: "P0", Algorithm: 'T', Mode: 'E', Reserved: "00"}, "KC01": {Version: 'D', Usage: "P0", Algorithm: 'A', Mode: 'E', Reserved: "00"},
	"KP00": {Version: 'B', Usage: "P0", Algorithm: 'T', Mode: 'E', Reserved: "00"}, "KP01": {Version: 'D', Usage: "P0", Algorithm: 'T', Mode: 'E', Reserved: "00"},
}

// home returns the header that an optional block goes with.
func home(ob OptionalBlock) Header {
	h, ok := homes[ob.ID]
	if !ok && len(ob.Data) >= 2 {
		h, ok = homes[ob.ID+ob.Data[:2]]
	}
	if !ok {
		h = Header{Version: 'D', Usage: "D0", Algorithm: 'A', Mode: 'B', Reserved: "00"}
	}
	h.Optional = []OptionalBlock{ob}
	return complete(h)
}

// complete fills in what no optional block depends on, and the HM that an HMAC key has.
func complete(h Header) Header {
	h.KeyVersion, h.Exportability = "00", keys.Exportable
	if h.lacksHash() {
		h.Optional = append(h.Optional, OptionalBlock{OptionalHM, "21"})
	}
	return h
}

func TestWellFormed(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, ob := range wellFormed {
		h := home(ob)
		seen[ob.ID] = true
		if err := h.check(); err != nil {
			t.Errorf("%v is not written: %v", ob, err)
		}
		if w := h.Warnings(); len(w) > 0 {
			t.Errorf("%v is read with %v", ob, w)
		}
		if got, err := valueOf(h, ob.ID); err != nil || got != ob.Data {
			t.Errorf("%v has the value %q, %v", ob, got, err)
		}
	}
	for id := range rules {
		if !seen[id] {
			t.Errorf("no optional block %s was tried", id)
		}
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	for _, c := range malformed {
		h := home(OptionalBlock{c.id, c.data})
		if err := h.check(); !errors.Is(err, ErrOptional) {
			t.Errorf("%s %q (%s) is written: %v", c.id, c.data, c.what, err)
		}
		if w := h.Warnings(); !slices.Equal(w, []Warning{{WarnMalformed, c.id}}) || !h.malformed() {
			t.Errorf("%s %q (%s) has the warnings %v", c.id, c.data, c.what, w)
		}
		if got, err := valueOf(h, c.id); !errors.Is(err, ErrOptional) {
			t.Errorf("%s %q (%s) has the value %q, %v", c.id, c.data, c.what, got, err)
		}
	}
}

func TestSpelled(t *testing.T) {
	t.Parallel()
	for _, ob := range spelled {
		h := home(ob)
		if err := h.check(); !errors.Is(err, ErrOptional) {
			t.Errorf("%v is written: %v", ob, err)
		}
		if w := h.Warnings(); !slices.Equal(w, []Warning{{WarnSpelling, ob.ID}}) || h.malformed() {
			t.Errorf("%v has the warnings %v", ob, w)
		}
		if got, err := valueOf(h, ob.ID); !errors.Is(err, ErrOptional) {
			t.Errorf("%v has the value %q, %v", ob, got, err)
		}
	}
}

// TestMisplaced puts every optional block that has a place with every other kind of key.
func TestMisplaced(t *testing.T) {
	t.Parallel()
	misplaced := 0
	for _, ob := range wellFormed {
		own := home(ob)
		for name, other := range homes {
			h := other
			h.Optional = []OptionalBlock{ob}
			h = complete(h)
			fits := goesWith(ob, h)
			if same := h.Usage == own.Usage && h.Algorithm == own.Algorithm && h.Mode == own.Mode && h.Version == own.Version; same && !fits {
				t.Fatalf("%v does not go with its own home", ob)
			}
			if err := h.check(); (err == nil) != fits || err != nil && !errors.Is(err, ErrOptional) {
				t.Errorf("%v with %s: %v, want written %t", ob, name, err, fits)
			}
			if w := h.Warnings(); slices.Contains(w, Warning{WarnMisplaced, ob.ID}) == fits {
				t.Errorf("%v with %s: warnings %v, want one %t", ob, name, w, !fits)
			}
			if !fits {
				misplaced++
			}
		}
	}
	if misplaced < 100 {
		t.Errorf("only %d misplaced", misplaced)
	}
}

// goesWith says in other words what the rules say.
func goesWith(ob OptionalBlock, h Header) bool {
	kind := string(h.Algorithm) + h.Usage
	switch ob.ID {
	case "AL", "CT":
		return kind == "RS0" || kind == "EK3"
	case "HM":
		return kind == "HM7"
	case "IK":
		return kind == "AB1"
	case "KS":
		return kind == "TB1"
	case "BI":
		return kind == map[string]string{"00": "TB0", "01": "AB0"}[ob.Data[:2]]
	case "KC":
		return h.Algorithm == map[string]byte{"00": 'T', "01": 'A'}[ob.Data[:2]]
	case "KP":
		return (h.Version == 'D') == (ob.Data[:2] == "01")
	case "DA":
		return h.Mode == keys.ModeDerive
	}
	return true
}

func TestTwice(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"LB", "XX", "TS"} {
		ob := OptionalBlock{id, "2026-02-28T23:59:59Z"}
		h := home(ob)
		h.Optional = append(h.Optional, OptionalBlock{"ZZ", ""}, ob)
		if err := h.check(); !errors.Is(err, ErrOptional) {
			t.Errorf("%s twice: %v", id, err)
		}
	}
	h := home(OptionalBlock{"PB", "0000"})
	if err := h.check(); !errors.Is(err, ErrOptional) {
		t.Errorf("PB of the caller: %v", err)
	}
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	h := Header{Optional: []OptionalBlock{{"ZZ", "00"}}}
	for id := range rules {
		if got, err := valueOf(h, id); !errors.Is(err, ErrAbsent) {
			t.Errorf("%s that is absent: %q, %v", id, got, err)
		}
	}
	if _, err := h.CheckValue("ZZ"); !errors.Is(err, ErrOptional) {
		t.Errorf("a check value in ZZ: %v", err)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]time.Time{
		"20260228235959Z":         time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC),
		"2026022823595907Z":       time.Date(2026, 2, 28, 23, 59, 59, 70e6, time.UTC),
		"2026-02-28T23:59:59Z":    time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC),
		"2026-02-28T23:59:59.25Z": time.Date(2026, 2, 28, 23, 59, 59, 250e6, time.UTC),
	} {
		h := Header{Optional: []OptionalBlock{{"TC", data}, {"TS", data}}}
		for name, read := range map[string]func() (time.Time, error){"TC": h.Created, "TS": h.Stamped} {
			if got, err := read(); err != nil || !got.Equal(want) {
				t.Errorf("%s %s: %v, %v", name, data, got, err)
			}
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{HashSHA256.String(), "SHA-256"}, {Hash("10").String(), "SHA-1"}, {Hash("99").String(), "hash 99"},
		{ContextStorage.String(), "1"}, {Header{Reserved: "20"}.Context().String(), "2"}, {fmt.Sprint(byte(Header{}.Context())), "0"},
		{Warning{Kind: WarnVersion}.String(), "the version is deprecated: its binding is weak"},
		{Warning{WarnMisplaced, "KS"}.String(), "optional block KS does not go with the key"},
		{Warning{}.String(), "unknown warning"}, {Warning{WarnUnchecked + 1, "KS"}.String(), "unknown warning"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for k := WarnVersion; k <= WarnUnchecked; k++ {
		if s := (Warning{Kind: k}).String(); s == "" || s == (Warning{}).String() {
			t.Errorf("warning %d has no text", k)
		}
	}
}
