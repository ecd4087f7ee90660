package keys_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

var allParities = []keys.Parity{keys.ParityAdjusted, keys.ParityRequired, keys.ParityIgnored}

// sheets makes the sheets of components given as digits, with their right check values where there can be any.
func sheets(t *testing.T, a keys.Algorithm, digits ...string) []keys.Sheet {
	t.Helper()
	var out []keys.Sheet
	for i, d := range digits {
		c, err := keys.NewComponent(a, unhex(t, d))
		if err != nil {
			t.Fatal(err)
		}
		v, _ := c.CheckValue(a.CheckValueKind()) // none where TDES is forbidden
		out = append(out, keys.Sheet{Number: i + 1, Of: len(digits), Component: c, CheckValue: v})
	}
	return out
}

// xor adds up the values on sheets, by their text alone.
func xor(t *testing.T, list []keys.Sheet) []byte {
	t.Helper()
	var sum []byte
	for _, s := range list {
		text, err := s.Text()
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Split(string(text.Expose()), "\n")[2]
		b := unhex(t, strings.ReplaceAll(strings.TrimPrefix(line, "value: "), " ", ""))
		if sum == nil {
			sum = make([]byte, len(b))
		}
		for i := range b {
			sum[i] ^= b[i]
		}
	}
	return sum
}

// TestSplitAndCombine goes there and back for every algorithm, number of components and parity.
func TestSplitAndCombine(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		k, err := keys.GenerateKey(attributes(a))
		if err != nil {
			t.Fatal(err)
		}
		for n := 2; n <= 9; n++ {
			for _, p := range allParities {
				list, err := keys.Split(k, p, n)
				if err != nil || len(list) != n {
					t.Fatalf("%v, %d, %v: %d sheets, %v", a, n, p, len(list), err)
				}
				seen := map[string]bool{}
				for i, s := range list {
					text, err := s.Text()
					if err != nil || s.Number != i+1 || s.Of != n || s.Verify(p) != nil || s.KeyCheckValue.KCV != k.KCV() {
						t.Fatalf("%v, %d, %v: sheet %v, %v, %v", a, n, p, s, err, s.Verify(p))
					}
					seen[strings.Split(string(text.Expose()), "\n")[2]] = true
				}
				if len(seen) != n {
					t.Errorf("%v, %d, %v: components are equal", a, n, p)
				}
				sum := xor(t, list)
				exact := p == keys.ParityIgnored || !a.IsTDES()
				for i, b := range k.Material().Expose() {
					if sum[i]&0xfe != b&0xfe || exact && sum[i] != b {
						t.Fatalf("%v, %d, %v: the XOR is %x, the key %x", a, n, p, sum, k.Material().Expose())
					}
				}
				slices.Reverse(list)
				back, err := keys.Combine(attributes(a), p, list)
				if err != nil || !back.Material().Equal(k.Material()) || back.Attributes() != attributes(a) {
					t.Errorf("%v, %d, %v: back as %v, %v", a, n, p, back, err)
				}
			}
		}
	}
}

// TestSplitIsFresh: two splits of one key have no component in common, and TDES components have the parity that was asked.
func TestSplitIsFresh(t *testing.T) {
	t.Parallel()
	k, err := keys.GenerateKey(attributes(keys.TDES3))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	even := false
	for range 20 {
		for _, p := range allParities {
			list, err := keys.Split(k, p, 3)
			if err != nil {
				t.Fatal(err)
			}
			for i := range list {
				b := xor(t, list[i:i+1])
				if seen[string(b)] {
					t.Fatal("a component came twice")
				}
				seen[string(b)] = true
				for _, v := range b {
					if bits.OnesCount8(v)%2 == 0 {
						even = true
						if p != keys.ParityIgnored {
							t.Fatalf("%v: a component has the byte %02x", p, v)
						}
					}
				}
			}
		}
	}
	if !even {
		t.Error("no component has an even byte where parity is ignored: its bits are not random")
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	k, err := keys.GenerateKey(attributes(keys.AES128))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{-1, 0, 1, 10, 11, 1 << 20} {
		if list, err := keys.Split(k, keys.ParityIgnored, n); !errors.Is(err, keys.ErrComponents) || list != nil {
			t.Errorf("%d components: %v", n, err)
		}
	}
	for _, p := range []keys.Parity{0, 4} {
		if _, err := keys.Split(k, p, 2); err == nil {
			t.Errorf("parity %v", p)
		}
	}
	if _, err := keys.Split(keys.Key{}, keys.ParityIgnored, 2); err == nil {
		t.Error("no key was split")
	}
}

// TestCombineParity: an even number of odd components has an even XOR, an odd number an odd one.
func TestCombineParity(t *testing.T) {
	t.Parallel()
	odd := []string{
		"0123456789ABCDEFFEDCBA9876543210", "1315192A34456B7A8C9EA1B3C2D5E6F8", "2034585BAB3B7C7A7F80838568896BEC",
	}
	for i, s := range odd {
		b := unhex(t, s)
		for j := range b {
			if bits.OnesCount8(b[j])%2 == 0 {
				b[j] ^= 1
			}
		}
		odd[i] = fmt.Sprintf("%X", b)
	}
	two, three := sheets(t, keys.TDES2, odd[:2]...), sheets(t, keys.TDES2, odd...)
	for _, c := range []struct {
		name string
		list []keys.Sheet
		p    keys.Parity
		even bool
	}{
		{"two, ignored", two, keys.ParityIgnored, true},
		{"two, adjusted", two, keys.ParityAdjusted, false},
		{"two, required", two, keys.ParityRequired, false},
		{"three, ignored", three, keys.ParityIgnored, false},
		{"three, adjusted", three, keys.ParityAdjusted, false},
		{"three, required", three, keys.ParityRequired, false},
	} {
		k, err := keys.Combine(attributes(keys.TDES2), c.p, c.list)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		sum := xor(t, c.list)
		for i, b := range k.Material().Expose() {
			if (bits.OnesCount8(b)%2 == 0) != c.even || b&0xfe != sum[i]&0xfe {
				t.Errorf("%s: byte %02x of XOR %02x", c.name, b, sum[i])
			}
		}
	}
}

// TestCombineWhole: the check value of the key is on all sheets, on some or on none, of any kind, and is held to.
func TestCombineWhole(t *testing.T) {
	t.Parallel()
	k, err := keys.GenerateKey(attributes(keys.AES256))
	if err != nil {
		t.Fatal(err)
	}
	list, err := keys.Split(k, keys.ParityIgnored, 3)
	if err != nil {
		t.Fatal(err)
	}
	other, err := keys.ParseCheckValue("cmac:0000000000")
	if err != nil {
		t.Fatal(err)
	}
	right := list[0].KeyCheckValue
	legacy, err := k.CheckValue(keys.KCVLegacy)
	if err != nil {
		t.Fatal(err)
	}
	none := keys.CheckValue{}
	for _, c := range []struct {
		name   string
		values [3]keys.CheckValue
		want   error
		number int
	}{
		{"all", [3]keys.CheckValue{right, right, right}, nil, 0},
		{"none", [3]keys.CheckValue{}, nil, 0},
		{"the first", [3]keys.CheckValue{right, none, none}, nil, 0},
		{"the last", [3]keys.CheckValue{none, none, right}, nil, 0},
		{"another kind", [3]keys.CheckValue{legacy, none, legacy}, nil, 0},
		{"two kinds", [3]keys.CheckValue{legacy, right, none}, keys.ErrComponents, 2},
		{"two keys", [3]keys.CheckValue{right, none, other}, keys.ErrComponents, 3},
		{"another key", [3]keys.CheckValue{other, other, other}, keys.ErrCheckValue, 0},
		{"another key, on the last", [3]keys.CheckValue{none, none, other}, keys.ErrCheckValue, 0},
	} {
		for i, v := range c.values {
			list[i].KeyCheckValue = v
		}
		back, err := keys.Combine(attributes(keys.AES256), keys.ParityIgnored, list)
		if c.want == nil && (err != nil || !back.Material().Equal(k.Material())) || !errors.Is(err, c.want) || (err != nil) != back.IsZero() {
			t.Errorf("%s: %v", c.name, err)
		}
		var at *keys.ComponentError
		if errors.As(err, &at) != (c.number != 0) || at != nil && at.Number != c.number {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestCombineLeavesSheets: the sheets are the caller's, before and after.
func TestCombineLeavesSheets(t *testing.T) {
	t.Parallel()
	list := sheets(t, keys.AES128, strings.Repeat("11", 16), strings.Repeat("22", 16))
	k, err := keys.Combine(attributes(keys.AES128), keys.ParityIgnored, list)
	if err != nil {
		t.Fatal(err)
	}
	k.Wipe()
	list[1], list[0] = list[0], list[1]
	if k, err = keys.Combine(attributes(keys.AES128), keys.ParityIgnored, list); err != nil || list[0].Number != 2 {
		t.Errorf("again: %v", err)
	}
	for _, s := range list {
		c := s.Component
		s.Wipe()
		if !c.IsZero() || k.IsZero() {
			t.Error("Wipe of a sheet reaches its component, and no key")
		}
	}
}

func TestNewComponentRefuses(t *testing.T) {
	t.Parallel()
	for _, a := range all {
		for n := range 50 {
			material := make([]byte, n)
			for i := range material {
				material[i] = 0x10
			}
			c, err := keys.NewComponent(a, material)
			if (err == nil) != (n == a.KeyBytes()) || err != nil && (!errors.Is(err, keys.ErrLength) || !c.IsZero()) {
				t.Errorf("%v of %d bytes: %v", a, n, err)
			}
		}
	}
	for _, a := range []keys.Algorithm{0, 99} {
		if c, err := keys.NewComponent(a, nil); err == nil {
			t.Errorf("%v: %v", a, c)
		}
	}
}

func TestComponentPrint(t *testing.T) {
	t.Parallel()
	raw := []byte("sixteen secrets!")
	c, err := keys.NewComponent(keys.AES128, raw)
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.CheckValue(keys.KCVCMAC)
	if err != nil {
		t.Fatal(err)
	}
	s := keys.Sheet{Number: 1, Of: 2, Component: c, CheckValue: v}
	type holder struct{ hidden keys.Component }
	type sheetHolder struct {
		hidden *keys.Sheet
		list   []keys.Sheet
	}
	var out strings.Builder
	for _, x := range []any{c, &c, s, &s, holder{c}, &holder{c}, sheetHolder{&s, []keys.Sheet{s}}, []keys.Component{c}, &keys.ComponentError{Number: 1, CheckValue: v, Err: s.Verify(0)}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%q", "%d", "%p", "%o", "%b", "%c", "%U", "%t", "%e"} {
			fmt.Fprintf(&out, verb, x)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("c", "c", x)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("c", "c", x)
		if b, err := json.Marshal(x); err == nil {
			out.Write(b)
		}
	}
	for _, leak := range []string{
		string(raw[:8]), hex.EncodeToString(raw[:8]), strings.ToUpper(hex.EncodeToString(raw[8:])), strings.Trim(fmt.Sprint(raw[:4]), "[]"),
		base64.StdEncoding.EncodeToString(raw)[:16],
	} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed %q", leak)
		}
	}
	if got := fmt.Sprintf("%x|%s|%#v", c, keys.Component{}, c); got != "[AES-128 component]|[no component]|[AES-128 component]" {
		t.Errorf("components print as %s", got)
	}
	if c.GoString() != c.String() {
		t.Errorf("GoString is %s", c.GoString())
	}
	if c.Algorithm() != keys.AES128 {
		t.Errorf("algorithm %v", c.Algorithm())
	}
	if b, err := c.MarshalBinary(); err == nil {
		t.Errorf("a component was encoded as %x", b)
	}
	if b, err := c.MarshalText(); err == nil {
		t.Errorf("a component was encoded as %x", b)
	}
}
