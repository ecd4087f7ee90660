package keyset

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
)

const testFingerprint = "00112233445566778899aabbccddeeff"

func ref(s string) KeyRef {
	r, err := ParseKeyRef(s)
	if err != nil {
		panic(err)
	}
	return r
}

func keyID(s string) dukpt.KeyID {
	id, err := dukpt.ParseKeyID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// tdes fills in the names of a TDES set as the vectors have them, and aes those of an AES set.
func tdes(s *KeySet, id ID) *KeySet {
	s.ID, s.Tenant, s.Environment, s.BaseKey = id, "SHOP", Test, ref("alias/tdes-pin")
	s.FirstID, s.LastID = keyID("FFFF9876543210E00000"), keyID("FFFF98765432FFE00000")
	return fingerprint(s, testFingerprint)
}

func aes(s *KeySet, id ID) *KeySet {
	s.ID, s.Tenant, s.Environment, s.BaseKey = id, "SHOP", Test, ref("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	s.FirstID, s.LastID = keyID("1234567890123456"), keyID("12345678FFFFFFFF")
	return fingerprint(s, testFingerprint)
}

func fingerprint(s *KeySet, hexText string) *KeySet {
	f, err := keys.ParseFingerprint(hexText)
	if err != nil {
		panic(err)
	}
	s.BaseKeyFingerprint = f
	return s
}

// TestVectorsDefaults compares what the constructors give with the sets of the vectors.
func TestVectorsDefaults(t *testing.T) {
	t.Parallel()
	pinSet := tdes(NewTDESPIN(), "PIN-TDES")
	pinSet.OutgoingPINKeys = []KeyRef{ref("alias/zone-1"), ref("alias/zone-2")}
	blocked := aes(NewAESData(), "DATA-AES").NextRevision()
	blocked.State = Blocked
	want := map[string]*KeySet{
		"tdes-pin": pinSet, "tdes-data": tdes(NewTDESData(), "DATA-TDES"),
		"aes-pin": aes(NewAESPIN(), "PIN-AES"), "aes-data": blocked,
	}
	ignore := func(testvec.Vector) (int, error) { return 1, nil }
	all := map[string]testvec.Handler{}
	for feature := range handlers {
		all[feature] = ignore
	}
	met := 0
	all["key_set"] = func(v testvec.Vector) (int, error) {
		s, ok := want[v.ID]
		if !ok {
			return 1, nil
		}
		met++
		b, err := Marshal(s)
		if err != nil {
			return 0, err
		}
		if got := hex.EncodeToString(b); got != v.String("set") {
			return 0, fmt.Errorf("the defaults give %s", got)
		}
		back, err := Unmarshal(v.Hex("set"))
		if err != nil {
			return 0, err
		}
		if !reflect.DeepEqual(back, s) {
			return 0, fmt.Errorf("read back as %+v, want %+v", back, s)
		}
		return 2, nil
	}
	testvec.Run(t, "protocol-keysets", all)
	if met < len(want) {
		t.Errorf("%d of %d sets met their vector", met, len(want))
	}
}

func TestDefaultsNeedNames(t *testing.T) {
	t.Parallel()
	for _, s := range []*KeySet{NewTDESPIN(), NewTDESData(), NewAESPIN(), NewAESData(), NewDefaults(0), {}} {
		if err := s.Validate(); !errors.Is(err, ErrKeySet) {
			t.Errorf("a set without names: %v, want an ErrKeySet", err)
		}
		if _, err := Marshal(s); !errors.Is(err, ErrKeySet) {
			t.Errorf("Marshal of a set without names: %v, want an ErrKeySet", err)
		}
	}
}

func TestContains(t *testing.T) {
	t.Parallel()
	s := tdes(NewTDESPIN(), "PIN-TDES")
	for id, want := range map[string]bool{
		"FFFF9876543210E00000": true, "FFFF98765432FFE00000": true, "FFFF987654321F200000": true,
		"FFFF9876543210C00000": false, "FFFF98765433000000" + "00": false, "1234567890123456": false,
	} {
		if got := s.Contains(keyID(id)); got != want {
			t.Errorf("Contains(%s) = %v, want %v", id, got, want)
		}
	}
	if s.Contains(dukpt.KeyID{}) {
		t.Error("the set contains no key id at all")
	}
}

// TestSpecsFitTheirScheme sees that what a set says can be computed by the engine it is said for.
func TestSpecsFitTheirScheme(t *testing.T) {
	t.Parallel()
	for _, s := range []*KeySet{tdes(NewTDESData(), "A"), aes(NewAESData(), "B")} {
		if err := s.MACSpec().Validate(s.Scheme); err != nil {
			t.Errorf("%v MAC: %v", s.Scheme, err)
		}
		if err := s.DataSpec(dukpt.Request, dukpt.CBC, nil).Validate(s.Scheme); err != nil {
			t.Errorf("%v data: %v", s.Scheme, err)
		}
	}
	for p := ProfileStandard; p <= ProfileBareKey; p++ {
		if p.DataProfile() == 0 {
			t.Errorf("profile %v derives no key", p)
		}
		if p.SparesPIN() != (p.DataProfile() == dukpt.DataOneWay) {
			t.Errorf("profile %v: only the one-way step keeps the PIN key apart", p)
		}
	}
	if Profile(0).DataProfile() != 0 || Profile(0).SparesPIN() || Profile(99).SparesPIN() {
		t.Error("an invalid profile derives something")
	}
	s := aes(NewAESPIN(), "C")
	for a, want := range map[keys.Algorithm]dukpt.WorkingKey{
		keys.AES128: dukpt.KeyAES128, keys.AES192: dukpt.KeyAES192, keys.AES256: dukpt.KeyAES256, keys.TDES2: 0,
	} {
		s.Algorithm = a
		if got := s.WorkingKey(); got != want {
			t.Errorf("working key of %v is %v, want %v", a, got, want)
		}
	}
}

func TestDisjointRanges(t *testing.T) {
	t.Parallel()
	const otherFingerprint = "ffeeddccbbaa99887766554433221100"
	base := func() *KeySet { return tdes(NewTDESPIN(), "A") }
	second := func() *KeySet {
		s := tdes(NewTDESData(), "B")
		s.FirstID, s.LastID = keyID("FFFF9876543300000000"), keyID("FFFF98765433FFE00000")
		return s
	}
	if err := DisjointRanges([]*KeySet{base(), second(), aesElsewhere()}); err != nil {
		t.Errorf("disjoint sets: %v", err)
	}
	if err := DisjointRanges(nil); err != nil {
		t.Errorf("no sets: %v", err)
	}
	for name, change := range map[string]func(s *KeySet){
		"meets at one id":     func(s *KeySet) { s.FirstID = keyID("FFFF98765432FFE00000") },
		"holds the other":     func(s *KeySet) { s.FirstID = keyID("FFFF9876500000000000") },
		"same name":           func(s *KeySet) { s.ID = "A" },
		"other environment":   func(s *KeySet) { s.Environment = Production },
		"other algorithm":     func(s *KeySet) { s.Algorithm = keys.TDES3 },
		"key under two names": func(s *KeySet) { s.BaseKey = ref("alias/again") },
		"two keys, one name":  func(s *KeySet) { fingerprint(s, otherFingerprint) },
	} {
		s := second()
		change(s)
		if err := DisjointRanges([]*KeySet{base(), s}); !errors.Is(err, ErrKeySet) {
			t.Errorf("%s: %v, want an ErrKeySet", name, err)
		}
		if err := DisjointRanges([]*KeySet{s, aesElsewhere(), base()}); !errors.Is(err, ErrKeySet) {
			t.Errorf("%s, the other way round: %v, want an ErrKeySet", name, err)
		}
	}
}

func aesElsewhere() *KeySet {
	return fingerprint(aes(NewAESData(), "C"), "0f0e0d0c0b0a09080706050403020100")
}

func TestCheckSuccessor(t *testing.T) {
	t.Parallel()
	base := tdes(NewTDESPIN(), "A")
	for name, change := range map[string]func(s *KeySet){
		"nothing":           func(*KeySet) {},
		"state":             func(s *KeySet) { s.State = Blocked },
		"retired":           func(s *KeySet) { s.State = Retired },
		"windows":           func(s *KeySet) { s.W, s.J = 200, 300 },
		"horizon":           func(s *KeySet) { s.R = time.Hour },
		"outgoing PIN keys": func(s *KeySet) { s.OutgoingPINKeys = []KeyRef{ref("alias/z")} },
	} {
		next := base.NextRevision()
		change(next)
		if err := CheckSuccessor(base, next); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(s *KeySet){
		"same revision":  func(s *KeySet) { s.Revision-- },
		"skips one":      func(s *KeySet) { s.Revision++ },
		"other id":       func(s *KeySet) { s.ID = "B" },
		"other tenant":   func(s *KeySet) { s.Tenant = "OTHER" },
		"environment":    func(s *KeySet) { s.Environment, s.Delivery = Production, Attested },
		"other base key": func(s *KeySet) { s.BaseKey = ref("alias/b") },
		"fingerprint":    func(s *KeySet) { fingerprint(s, "ff"+testFingerprint[2:]) },
		"wider range":    func(s *KeySet) { s.LastID = keyID("FFFF98765433FFE00000") },
		"more usages":    func(s *KeySet) { s.Usages = []Usage{UsagePIN, UsageData, UsageMAC} },
		"shorter MAC":    func(s *KeySet) { s.MAC.Padding = dukpt.MACPadding1 },
	} {
		next := base.NextRevision()
		change(next)
		if err := CheckSuccessor(base, next); !errors.Is(err, ErrKeySet) {
			t.Errorf("%s: %v, want an ErrKeySet", name, err)
		}
	}
	retired := base.NextRevision()
	retired.State = Retired
	back := retired.NextRevision()
	back.State = Active
	if err := CheckSuccessor(retired, back); !errors.Is(err, ErrKeySet) {
		t.Errorf("back from retirement: %v, want an ErrKeySet", err)
	}
	if base.Revision != 1 || base.State != Active {
		t.Error("a next revision changed its predecessor")
	}
}

func TestCloneSharesNothing(t *testing.T) {
	t.Parallel()
	s := tdes(NewTDESPIN(), "A")
	s.OutgoingPINKeys = []KeyRef{ref("alias/z")}
	c := s.Clone()
	if !reflect.DeepEqual(c, s) {
		t.Fatalf("got %+v, want %+v", c, s)
	}
	c.Usages[0], c.OutgoingPINKeys[0], c.Contents[UsagePIN] = UsageData, KeyRef{}, 7
	if s.Usages[0] != UsagePIN || s.OutgoingPINKeys[0].IsZero() || s.Contents[UsagePIN] != 1 {
		t.Error("the copy changed its original")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"A", "0", "-", "T-0001", strings.Repeat("Z", 32)} {
		id, err := ParseID(good)
		if err != nil || string(id) != good {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a", "A B", "A_B", "A.B", "A\x00", "Ä", "A/B", "A\n", strings.Repeat("Z", 33)} {
		if _, err := ParseID(bad); !errors.Is(err, ErrName) {
			t.Errorf("key set %q: %v, want an ErrName", bad, err)
		}
		if _, err := ParseTenant(bad); !errors.Is(err, ErrName) {
			t.Errorf("tenant %q: %v, want an ErrName", bad, err)
		}
		if _, err := ParseTerminal(bad); !errors.Is(err, ErrName) {
			t.Errorf("terminal %q: %v, want an ErrName", bad, err)
		}
	}
}

func TestKeyRefs(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"alias/a", "alias/A-z_0/9", "alias/" + strings.Repeat("k", 64), "01ARZ3NDEKTSV4RRFFQ69G5FAV"} {
		r, err := ParseKeyRef(good)
		if err != nil || r.String() != good || r.IsZero() {
			t.Errorf("%q: %v, %v", good, r, err)
			continue
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var again KeyRef
		if err := json.Unmarshal(text, &again); err != nil || again != r {
			t.Errorf("%s reads as %v, %v", text, again, err)
		}
		if r.IsAlias() != strings.HasPrefix(good, "alias/") {
			t.Errorf("%q: IsAlias %v", good, r.IsAlias())
		}
	}
	for _, bad := range []string{
		"", "alias/", "alias", "Alias/a", "alias/..", "alias/a.b", "alias/%2e", "alias/%252F", "alias/a\x00", "alias/ä",
		"alias/a b", "alias/" + strings.Repeat("k", 65), "../x", "/etc/passwd", "01ARZ3NDEKTSV4RRFFQ69G5FA",
		"01ARZ3NDEKTSV4RRFFQ69G5FAVA", "01ARZ3NDEKTSV4RRFFQ69G5FAI", "01arz3ndektsv4rrffq69g5fav",
	} {
		r, err := ParseKeyRef(bad)
		if !errors.Is(err, ErrKeyRef) || !r.IsZero() {
			t.Errorf("%q: %v, %v, want an ErrKeyRef", bad, r, err)
		}
		if len(bad) > 8 && strings.Contains(fmt.Sprint(err), bad) {
			t.Errorf("the error repeats %q", bad)
		}
	}
	if text, err := (KeyRef{}).MarshalText(); err == nil {
		t.Errorf("no key is written as %q", text)
	}
}

// TestWords writes and reads every word of every enumeration, and sees that the values beside them have none.
func TestWords(t *testing.T) {
	t.Parallel()
	testWords[Environment](t, environmentWords)
	testWords[State](t, stateWords)
	testWords[Usage](t, usageWords)
	testWords[CounterTrust](t, counterTrustWords)
	testWords[Paths](t, pathsWords)
	testWords[Unknown](t, unknownWords)
	testWords[Delivery](t, deliveryWords)
	testWords[Release](t, releaseWords)
	testWords[Profile](t, profileWords)
	testWords[SlotState](t, slotStateWords)
	testWords[Status](t, statusWords)
	if e, err := ParseEnvironment("test"); err != nil || e != Test {
		t.Errorf("test reads as %v, %v", e, err)
	}
	if p, err := ParseProfile("magtek"); err != nil || p != ProfileMagTek {
		t.Errorf("magtek reads as %v, %v", p, err)
	}
}

func testWords[T interface {
	~uint8
	fmt.Stringer
	MarshalText() ([]byte, error)
}, P interface {
	*T
	UnmarshalText([]byte) error
}](t *testing.T, list words) {
	t.Helper()
	for i, word := range list {
		v := T(i + 1)
		text, err := v.MarshalText()
		if err != nil || string(text) != word || v.String() != word {
			t.Errorf("%T(%d) is written as %q, %v, want %q", v, i+1, text, err, word)
		}
		var again T
		if err := P(&again).UnmarshalText([]byte(word)); err != nil || again != v {
			t.Errorf("%q reads as %d, %v", word, again, err)
		}
	}
	for _, v := range []T{0, T(len(list) + 1)} {
		if text, err := v.MarshalText(); err == nil {
			t.Errorf("%T(%d) is written as %q", v, v, text)
		}
		if want := fmt.Sprintf("invalid(%d)", v); v.String() != want {
			t.Errorf("%T(%d) prints %q, want %q", v, v, v, want)
		}
	}
	var none T
	if err := P(&none).UnmarshalText([]byte("no such word")); err == nil || none != 0 {
		t.Errorf("an unknown word reads as %d, %v", none, err)
	}
}

// One key id under two base keys is refused: a KSN must say by itself which slot it is of.
func TestTerminalOneKeyIDOnce(t *testing.T) {
	t.Parallel()
	r := &Terminal{Version: 1, Tenant: "SHOP", ID: "T", Status: StatusActive, Generation: 1, Slots: []Slot{
		{1, "A", keyID("FFFF9876543210E00000"), SlotActive, 0}, {2, "B", keyID("FFFF9876543220E00000"), SlotActive, 0},
	}}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, state := range []SlotState{SlotPending, SlotActive, SlotDraining, SlotRetired} {
		r.Slots[1] = Slot{2, "B", r.Slots[0].KeyID, state, 0}
		if err := r.Validate(); !errors.Is(err, ErrTerminal) || !strings.Contains(err.Error(), "hold key id") {
			t.Errorf("one key id in two slots, the second %v: %v, want an ErrTerminal", state, err)
		}
	}
}

func TestTerminalSlots(t *testing.T) {
	t.Parallel()
	old, next := keyID("FFFF9876543210E00000"), keyID("FFFF9876543220E00000")
	r := &Terminal{Slots: []Slot{{Slot: 2, KeySet: "A", KeyID: old}, {Slot: 2, KeySet: "B", KeyID: next}}}
	if s, ok := r.Key(2, next); !ok || s.KeySet != "B" {
		t.Errorf("slot 2 with the second key: %v, %v", s, ok)
	}
	if _, ok := r.Key(1, old); ok || r.HasSlot(1) || !r.HasSlot(2) {
		t.Error("the key is in another slot")
	}
	if err := (&Terminal{}).Validate(); !errors.Is(err, ErrTerminal) {
		t.Errorf("zero value: %v, want an ErrTerminal", err)
	}
	if _, err := MarshalTerminal(r); !errors.Is(err, ErrTerminal) {
		t.Errorf("an invalid record: %v, want an ErrTerminal", err)
	}
}
