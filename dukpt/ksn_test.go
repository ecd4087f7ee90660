package dukpt

import (
	"bytes"
	"encoding"
	"errors"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustKSN(t testing.TB, s string) KSN {
	t.Helper()
	k, err := ParseKSNHex(s)
	if err != nil {
		t.Fatalf("ParseKSNHex(%q): %v", s, err)
	}
	return k
}

func mustKeyID(t testing.TB, s string) KeyID {
	t.Helper()
	id, err := ParseKeyID(s)
	if err != nil {
		t.Fatalf("ParseKeyID(%q): %v", s, err)
	}
	return id
}

// testIDs has a key id of each scheme.
func testIDs(t testing.TB) map[Scheme]KeyID {
	return map[Scheme]KeyID{TDES: mustKeyID(t, "FFFF9876543210E00000"), AES: mustKeyID(t, "1234567890123456")}
}

func TestParseKSNRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"empty":              "",
		"8 bytes":            "9876543210E00001",
		"9 bytes":            "FF9876543210E00001",
		"11 bytes":           "FFFF9876543210E0000100",
		"13 bytes":           "12345678901234560000000100",
		"TDES counter 0":     "FFFF9876543210E00000",
		"TDES 11 ones":       "FFFF9876543210E007FF",
		"TDES all ones":      "FFFF9876543210FFFFFF",
		"TDES above last":    "FFFF9876543210FFF801",
		"AES counter 0":      "123456789012345600000000",
		"AES 17 ones":        "12345678901234560001FFFF",
		"AES above last":     "1234567890123456FFFF0001",
		"AES update counter": "1234567890123456FFFFFFFF",
		"not hexadecimal":    "FFFF9876543210E0000G",
		"odd digits":         "FFFF9876543210E0000",
		"spaces":             "FFFF9876 543210E00001",
		"leading space":      " FFFF9876543210E00001",
	} {
		if k, err := ParseKSNHex(s); !errors.Is(err, ErrKSN) || !k.IsZero() {
			t.Errorf("%s: ParseKSNHex(%q) = %v, %v, want ErrKSN", name, s, k, err)
		}
	}
	for _, n := range []int{0, 7, 9, 10, 12} {
		if k, err := ParseShortKSN(bytes.Repeat([]byte{1}, n)); !errors.Is(err, ErrKSN) {
			t.Errorf("ParseShortKSN of %d bytes = %v, %v, want ErrKSN", n, k, err)
		}
	}
}

func TestKSNForms(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"FFFF9876543210E00001", "FFFF9876543210FFF800", "123456789012345600000001", "1234567890123456FFFF0000"} {
		k := mustKSN(t, s)
		if k.String() != s || !strings.EqualFold(mustKSN(t, strings.ToLower(s)).String(), s) {
			t.Errorf("%s prints as %s", s, k)
		}
		if again, err := k.KeyID().KSN(k.Counter()); err != nil || again != k {
			t.Errorf("%s taken apart gives %v, %v", s, again, err)
		}
		checkMarshal(t, k, new(KSN))
		checkMarshal(t, k.KeyID(), new(KeyID))
		id := k.KeyID()
		if again, err := ParseKeyID(id.String()); err != nil || again != id {
			t.Errorf("ParseKeyID(%s) = %v, %v", id, again, err)
		}
		if again, err := ParseInitialKSN(k.Append(nil)); err != nil || again != id {
			t.Errorf("ParseInitialKSN(%s) = %v, %v", k, again, err)
		}
	}
	if got := mustKSN(t, "FFFF9876543210F00003").KeyID().String(); got != "FFFF9876543210E00000" {
		t.Errorf("TDES key id %s", got)
	}
	if got := mustKSN(t, "123456789012345600000003").KeyID().String(); got != "1234567890123456" {
		t.Errorf("AES key id %s", got)
	}
	if mustKeyID(t, "123456789012345600000000") != mustKeyID(t, "1234567890123456") {
		t.Error("the long form of an AES key id is another one")
	}
}

// checkMarshal takes v through text and bytes into fresh, and refuses trailing bytes and the zero value.
func checkMarshal[T interface {
	comparable
	encoding.TextMarshaler
	encoding.BinaryMarshaler
}, P interface {
	*T
	encoding.TextUnmarshaler
	encoding.BinaryUnmarshaler
}](t *testing.T, v T, fresh P) {
	t.Helper()
	text, err := v.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.UnmarshalText(text); err != nil || *fresh != v {
		t.Errorf("%v as text comes back as %v, %v", v, *fresh, err)
	}
	var zero T
	*fresh = zero
	b, err := v.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.UnmarshalBinary(b); err != nil || *fresh != v {
		t.Errorf("%v as bytes comes back as %v, %v", v, *fresh, err)
	}
	before := *fresh
	if err := fresh.UnmarshalBinary(append(b, 0)); err == nil || *fresh != before {
		t.Errorf("%v: a trailing byte gives %v, %v", v, *fresh, err)
	}
	if err := fresh.UnmarshalText(nil); err == nil {
		t.Errorf("%v: no text was accepted", v)
	}
	if _, err := zero.MarshalText(); !errors.Is(err, ErrKSN) {
		t.Errorf("the zero value as text: %v", err)
	}
	if _, err := zero.MarshalBinary(); !errors.Is(err, ErrKSN) {
		t.Errorf("the zero value as bytes: %v", err)
	}
}

// TestNextKeyID steps over the boundaries of bytes, over the counter and to the end of each scheme.
func TestNextKeyID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, want string }{
		{"FFFF9876543210E00000", "FFFF9876543211000000"},
		{"FFFF987654FFFFE00000", "FFFF9876550000000000"},
		{"00000000000000000000", "00000000000000200000"},
		{"FFFFFFFFFFFFFFC00000", "FFFFFFFFFFFFFFE00000"},
		{"12FFFFFFFFFFFFE00000", "13000000000000000000"},
		{"FFFFFFFFFFFFFFE00000", ""},
		{"1234567890123456", "1234567890123457"},
		{"12345678FFFFFFFF", "1234567900000000"},
		{"0000000000000000", "0000000000000001"},
		{"12FFFFFFFFFFFFFF", "1300000000000000"},
		{"FFFFFFFFFFFFFFFF", ""},
	} {
		from := mustKeyID(t, c.from)
		got, ok := from.Next()
		if c.want == "" {
			if ok || !got.IsZero() {
				t.Errorf("after %s comes %v", c.from, got)
			}
			continue
		}
		if !ok || got != mustKeyID(t, c.want) || got.Compare(from) <= 0 || from.Compare(got) >= 0 || got.Compare(got) != 0 {
			t.Errorf("after %s: got %v, %v; want %s", c.from, got, ok, c.want)
		}
		if (KeyID{}).Compare(from) >= 0 {
			t.Errorf("%s is before no key id", c.from)
		}
	}
	if got, ok := (KeyID{}).Next(); ok {
		t.Errorf("after no key id comes %v", got)
	}
}

func TestParseKeyIDRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "12345678901234", "FFFF9876543210E00001", "123456789012345600000001", "12345678901234567", "123456789012345G", "FFFF9876543210E0000000"} {
		if id, err := ParseKeyID(s); !errors.Is(err, ErrKSN) || !id.IsZero() {
			t.Errorf("ParseKeyID(%q) = %v, %v, want ErrKSN", s, id, err)
		}
	}
	var id KeyID
	if err := id.UnmarshalBinary(make([]byte, 12)); !errors.Is(err, ErrKSN) {
		t.Errorf("12 bytes: %v, want one binary form only", err)
	}
	if _, err := (KeyID{}).KSN(1); !errors.Is(err, ErrKSN) {
		t.Errorf("a KSN of no key id: %v", err)
	}
	if _, err := (KeyID{}).AtOrdinal(1); !errors.Is(err, ErrKSN) {
		t.Errorf("a KSN of no key id: %v", err)
	}
	if _, err := mustKeyID(t, "FFFF9876543210E00000").KSN(0x200000); !errors.Is(err, ErrKSN) {
		t.Errorf("a counter of 22 bits: %v", err)
	}
}

func TestZeroKSN(t *testing.T) {
	t.Parallel()
	var k KSN
	if _, ok := k.Next(); ok || k.Ordinal() != 0 || k.Remaining() != 0 || len(k.Append(nil)) != 0 || k.String() != "[no KSN]" {
		t.Errorf("the zero KSN behaves like one: %v %d %d", k, k.Ordinal(), k.Remaining())
	}
}

// TestOrdinalsOfTDES walks the whole life of a TDES key.
func TestOrdinalsOfTDES(t *testing.T) {
	t.Parallel()
	n, last := uint32(0), uint32(0)
	for c := uint32(1); c < 1<<21; c++ {
		valid := bits.OnesCount32(c) <= 10
		if TDES.validCounter(c) != valid {
			t.Fatalf("validCounter(%X) = %v", c, !valid)
		}
		if !valid {
			continue
		}
		n++
		if next := TDES.nextCounter(last); next != c {
			t.Fatalf("after %X comes %X, want %X", last, next, c)
		}
		if TDES.ordinal(c) != n || TDES.atOrdinal(n) != c {
			t.Fatalf("counter %X: ordinal %d, want %d; counter of %d: %X", c, TDES.ordinal(c), n, n, TDES.atOrdinal(n))
		}
		last = c
	}
	if n != 1_048_575 || n != TDES.MaxOrdinal() || last != 0x1FF800 || TDES.nextCounter(last) != 0 {
		t.Errorf("%d keys to %X, then %X", n, last, TDES.nextCounter(last))
	}
}

func TestLifeOfAES(t *testing.T) {
	t.Parallel()
	id := testIDs(t)[AES]
	if AES.MaxOrdinal() != 2_448_023_842 {
		t.Errorf("MaxOrdinal = %d", AES.MaxOrdinal())
	}
	last, err := id.AtOrdinal(AES.MaxOrdinal())
	if err != nil || last.Counter() != 0xFFFF0000 || last.Remaining() != 0 {
		t.Errorf("the last key is %v with %d left, %v", last, last.Remaining(), err)
	}
	if next, ok := last.Next(); ok {
		t.Errorf("after the last comes %v", next)
	}
	for _, n := range []uint32{0, AES.MaxOrdinal() + 1, 1<<32 - 1} {
		if k, err := id.AtOrdinal(n); !errors.Is(err, ErrKSN) {
			t.Errorf("AtOrdinal(%d) = %v, %v, want ErrKSN", n, k, err)
		}
	}
}

// edgeCounters draws counters near the places where carries and skips happen.
func edgeCounters(s Scheme) *rapid.Generator[uint32] {
	n := s.counterBits()
	return rapid.Custom(func(t *rapid.T) uint32 {
		if rapid.Bool().Draw(t, "anywhere") {
			return s.atOrdinal(rapid.Uint32Range(1, s.MaxOrdinal()).Draw(t, "ordinal"))
		}
		ones := rapid.IntRange(1, s.maxOnes()).Draw(t, "ones")
		shift := rapid.IntRange(0, n-ones).Draw(t, "shift")
		c := uint32(uint64(1)<<ones-1) << shift
		for range rapid.IntRange(0, 3).Draw(t, "nexts") {
			if next := s.nextCounter(c); next != 0 {
				c = next
			}
		}
		return c
	})
}

func TestOrdinalProperties(t *testing.T) {
	t.Parallel()
	for scheme, id := range testIDs(t) {
		rapid.Check(t, func(t *rapid.T) {
			k, err := id.KSN(edgeCounters(scheme).Draw(t, "counter"))
			if err != nil {
				t.Fatal(err)
			}
			if back, err := id.AtOrdinal(k.Ordinal()); err != nil || back != k {
				t.Fatalf("%v has ordinal %d, which is %v, %v", k, k.Ordinal(), back, err)
			}
			if k.Ordinal()+k.Remaining() != scheme.MaxOrdinal() {
				t.Fatalf("%v: ordinal %d, remaining %d", k, k.Ordinal(), k.Remaining())
			}
			next, ok := k.Next()
			if ok != (k.Remaining() > 0) {
				t.Fatalf("%v: %d remain, Next says %v", k, k.Remaining(), ok)
			}
			if ok && (next.Ordinal() != k.Ordinal()+1 || next.Counter() <= k.Counter()) {
				t.Fatalf("%v (%d) is followed by %v (%d)", k, k.Ordinal(), next, next.Ordinal())
			}
			other, err := id.KSN(edgeCounters(scheme).Draw(t, "other"))
			if err != nil {
				t.Fatal(err)
			}
			if (other.Counter() < k.Counter()) != (other.Ordinal() < k.Ordinal()) {
				t.Fatalf("order of %v (%d) and %v (%d)", k, k.Ordinal(), other, other.Ordinal())
			}
		})
	}
}

// FuzzParseKSN holds the parser to the rule of counters, stated here bit by bit, and to its inverses.
func FuzzParseKSN(f *testing.F) {
	for _, s := range []string{"FFFF9876543210E00001", "FFFF9876543210FFF800", "FFFF9876543210E003FF", "123456789012345600000001", "1234567890123456FFFF0000", "12345678901234560000FFFF"} {
		f.Add(mustKSN(f, s).Append(nil))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKSN(b)
		if reachable(b) != (err == nil) {
			t.Fatalf("ParseKSN(%X) = %v, %v, want success %v", b, k, err, reachable(b))
		}
		if err != nil {
			return
		}
		if !bytes.Equal(k.Append(nil), b) {
			t.Fatalf("%X is written as %X", b, k.Append(nil))
		}
		if again, err := ParseKSNHex(k.String()); err != nil || again != k {
			t.Fatalf("%v reads as %v, %v", k, again, err)
		}
		if again, err := k.KeyID().AtOrdinal(k.Ordinal()); err != nil || again != k {
			t.Fatalf("%v has ordinal %d, which is %v, %v", k, k.Ordinal(), again, err)
		}
		if again, err := ParseInitialKSN(b); err != nil || again != k.KeyID() {
			t.Fatalf("key id %v, or %v, %v", k.KeyID(), again, err)
		}
	})
}

// reachable counts the one bits of the last 21 bits of 10 bytes, or the last 32 of 12.
func reachable(b []byte) bool {
	ones, width, most := 0, 21, 10
	if len(b) == 12 {
		width, most = 32, 16
	} else if len(b) != 10 {
		return false
	}
	for i := range width {
		ones += int(b[len(b)-1-i/8] >> (i % 8) & 1)
	}
	return 0 < ones && ones <= most
}
