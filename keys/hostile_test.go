package keys_test

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// hostile is one input that must be refused: by which class of error, and about which component (0: about the whole).
type hostile struct {
	name   string
	a      keys.Algorithm
	p      keys.Parity
	sheets []keys.Sheet
	want   error
	number int
}

// good draws the sheets of a fresh key; parity is odd.
func good(t *testing.T, a keys.Algorithm, n int) []keys.Sheet {
	t.Helper()
	k, err := keys.GenerateKey(attributes(a))
	if err != nil {
		t.Fatal(err)
	}
	list, err := keys.Split(k, keys.ParityAdjusted, n)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// without takes the check value of the key away, so that nothing but the rule in question refuses.
func without(list []keys.Sheet) []keys.Sheet {
	for i := range list {
		list[i].KeyCheckValue = keys.CheckValue{}
	}
	return list
}

// sheet numbers one component among several, with its right check value.
func sheet(t *testing.T, a keys.Algorithm, number, of int, material []byte) keys.Sheet {
	t.Helper()
	s := sheets(t, a, fmt.Sprintf("%X", material))[0]
	s.Number, s.Of = number, of
	return s
}

// TestHostileSheets gives Combine what it must refuse, and holds it to the class of the error, to the component that is named
// and to silence about digits.
func TestHostileSheets(t *testing.T) {
	t.Parallel()
	var table []hostile
	for _, a := range all {
		table = append(table, hostileCounts(t, a)...)
		table = append(table, hostileNumbers(t, a)...)
		table = append(table, hostileCheckValues(t, a)...)
		table = append(table, hostileDependence(t, a)...)
	}
	table = append(table, hostileAlgorithms(t)...)
	table = append(table, hostileTDES(t)...)
	if len(table) < 200 {
		t.Errorf("%d cases, want 200", len(table))
	}
	secretDigits := regexp.MustCompile(`[0-9A-Fa-f]{11}`) // longer than a check value
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			before := fmt.Sprint(c.sheets)
			k, err := keys.Combine(attributes(c.a), c.p, c.sheets)
			if !errors.Is(err, c.want) || !k.IsZero() {
				t.Fatalf("%v, %v; want %v", k, err, c.want)
			}
			var at *keys.ComponentError
			if errors.As(err, &at) != (c.number != 0) || at != nil && at.Number != c.number {
				t.Errorf("%v: want component %d", err, c.number)
			}
			if at != nil && !strings.HasPrefix(err.Error(), fmt.Sprintf("component %d", c.number)) {
				t.Errorf("%v does not say which component", err)
			}
			if at != nil && !at.CheckValue.IsZero() && !strings.Contains(err.Error(), at.CheckValue.String()) {
				t.Errorf("%v does not say which check value", err)
			}
			if secretDigits.MatchString(err.Error()) {
				t.Errorf("%v has digits", err)
			}
			if fmt.Sprint(c.sheets) != before {
				t.Error("the sheets changed")
			}
		})
	}
	t.Logf("hostile sheets: %d", len(table))
}

func hostileCounts(t *testing.T, a keys.Algorithm) []hostile {
	t.Helper()
	ten := good(t, a, 9)
	ten = append(ten, ten[0])
	for i := range ten {
		ten[i].Of = 10
	}
	ten[9].Number = 10
	one := good(t, a, 2)[:1]
	one[0].Of = 1
	return []hostile{
		{fmt.Sprintf("%v: none", a), a, keys.ParityAdjusted, nil, keys.ErrComponents, 0},
		{fmt.Sprintf("%v: one", a), a, keys.ParityAdjusted, one, keys.ErrComponents, 0},
		{fmt.Sprintf("%v: one of two", a), a, keys.ParityAdjusted, good(t, a, 2)[:1], keys.ErrComponents, 0},
		{fmt.Sprintf("%v: ten", a), a, keys.ParityAdjusted, ten, keys.ErrComponents, 0},
		{fmt.Sprintf("%v: two of three", a), a, keys.ParityAdjusted, good(t, a, 3)[:2], keys.ErrComponents, 1},
		{fmt.Sprintf("%v: three of two", a), a, keys.ParityAdjusted, append(good(t, a, 2), good(t, a, 2)[0]), keys.ErrComponents, 1},
		{fmt.Sprintf("%v: eight of nine", a), a, keys.ParityAdjusted, good(t, a, 9)[1:], keys.ErrComponents, 2},
	}
}

func hostileNumbers(t *testing.T, a keys.Algorithm) []hostile {
	t.Helper()
	var table []hostile
	for _, n := range []int{-1, 4, 1 << 30, -1 << 30} {
		list := good(t, a, 3)
		list[1].Number = n
		table = append(table, hostile{fmt.Sprintf("%v: number %d of 3", a, n), a, keys.ParityAdjusted, list, keys.ErrComponents, n})
	}
	twice := good(t, a, 3)
	twice[2].Number = 1
	otherOf := good(t, a, 2)
	otherOf[1].Of = 3
	otherKey := []keys.Sheet{good(t, a, 2)[0], good(t, a, 2)[1]}
	empty := good(t, a, 2)
	empty[1].Component = keys.Component{}
	wiped := good(t, a, 2)
	wiped[0].Component.Wipe()
	return append(table,
		hostile{fmt.Sprintf("%v: number 1 twice", a), a, keys.ParityAdjusted, twice, keys.ErrComponents, 1},
		hostile{fmt.Sprintf("%v: one of 2, one of 3", a), a, keys.ParityAdjusted, otherOf, keys.ErrComponents, 2},
		hostile{fmt.Sprintf("%v: of two keys", a), a, keys.ParityAdjusted, otherKey, keys.ErrComponents, 2},
		hostile{fmt.Sprintf("%v: a sheet without a component", a), a, keys.ParityAdjusted, empty, keys.ErrComponents, 2},
		hostile{fmt.Sprintf("%v: a wiped component", a), a, keys.ParityAdjusted, wiped, keys.ErrComponents, 1},
	)
}

func hostileCheckValues(t *testing.T, a keys.Algorithm) []hostile {
	t.Helper()
	var table []hostile
	kind := a.CheckValueKind()
	for i := range 3 {
		for name, change := range map[string]func(*keys.CheckValue){
			"another":        func(v *keys.CheckValue) { v.KCV = otherKCV(t, v.KCV) },
			"none":           func(v *keys.CheckValue) { *v = keys.CheckValue{} },
			"a kind alone":   func(v *keys.CheckValue) { v.KCV = keys.KCV{} },
			"digits alone":   func(v *keys.CheckValue) { v.Kind = 0 },
			"another length": func(v *keys.CheckValue) { v.KCV = kcv(t, (v.KCV.String() + "0000")[:16-len(v.KCV.String())]) },
			"unknown kind":   func(v *keys.CheckValue) { v.Kind = 77 },
		} {
			list := good(t, a, 3)
			change(&list[i].CheckValue)
			table = append(table, hostile{fmt.Sprintf("%v: check value %d is %s", a, i+1, name), a, keys.ParityAdjusted, list, keys.ErrCheckValue, i + 1})
		}
		for _, other := range allKinds {
			if other == kind {
				continue
			}
			list := good(t, a, 3)
			list[i].CheckValue.Kind = other
			table = append(table, hostile{fmt.Sprintf("%v: check value %d is called %v", a, i+1, other), a, keys.ParityAdjusted, list, keys.ErrCheckValue, i + 1})
		}
	}
	swapped := good(t, a, 2)
	swapped[0].CheckValue, swapped[1].CheckValue = swapped[1].CheckValue, swapped[0].CheckValue
	whole := good(t, a, 2)
	for i := range whole {
		whole[i].KeyCheckValue.KCV = otherKCV(t, whole[i].KeyCheckValue.KCV)
	}
	return append(table,
		hostile{fmt.Sprintf("%v: check values swapped", a), a, keys.ParityAdjusted, swapped, keys.ErrCheckValue, 1},
		hostile{fmt.Sprintf("%v: check value of another key", a), a, keys.ParityAdjusted, whole, keys.ErrCheckValue, 0},
	)
}

func otherKCV(t *testing.T, k keys.KCV) keys.KCV {
	t.Helper()
	s := []byte(k.String())
	s[len(s)-1] = "123456789ABCDEF0"[strings.IndexByte("0123456789ABCDEF", s[len(s)-1])]
	return kcv(t, string(s))
}

// hostileDependence: for TDES a difference in parity bits is none.
func hostileDependence(t *testing.T, a keys.Algorithm) []hostile {
	t.Helper()
	parts := make([][]byte, 4)
	for i, s := range good(t, a, 4) {
		parts[i] = xor(t, []keys.Sheet{s})
	}
	sum := func(of ...int) []byte {
		out := bytes.Clone(parts[of[0]])
		for _, i := range of[1:] {
			for j := range out {
				out[j] ^= parts[i][j]
			}
		}
		return out
	}
	flip := func(b []byte) []byte {
		out := bytes.Clone(b)
		if a.IsTDES() {
			out[3] ^= 1
		}
		return out
	}
	var table []hostile
	add := func(name string, values ...[]byte) {
		var list []keys.Sheet
		for i, v := range values {
			list = append(list, sheet(t, a, i+1, len(values), v))
		}
		table = append(table, hostile{fmt.Sprintf("%v: %s", a, name), a, keys.ParityIgnored, list, keys.ErrDependent, 0})
	}
	add("two equal, zero together", parts[0], flip(parts[0]))
	add("the first two of three equal", parts[0], flip(parts[0]), parts[1])
	add("the outer two of three equal", parts[0], parts[1], flip(parts[0]))
	add("the last two of three equal", parts[1], parts[0], flip(parts[0]))
	add("three are zero together", parts[0], parts[1], flip(sum(0, 1)))
	add("three of four cancel, the last is the key", parts[0], parts[1], flip(sum(0, 1)), parts[3])
	add("three of four cancel, the first is the key", parts[3], parts[0], parts[1], flip(sum(0, 1)))
	add("four are zero together", parts[0], parts[1], parts[2], flip(sum(0, 1, 2)))
	add("three of five cancel, two know the key", parts[0], parts[1], parts[2], parts[3], flip(sum(0, 3)))
	add("all nine equal", slices.Repeat([][]byte{parts[0]}, 9)...)
	return table
}

func hostileAlgorithms(t *testing.T) []hostile {
	t.Helper()
	var table []hostile
	for _, a := range all {
		for _, b := range all {
			if a == b {
				continue
			}
			mixed := without(good(t, a, 2))
			mixed[1].Component = good(t, b, 2)[1].Component
			table = append(table, hostile{fmt.Sprintf("%v with %v", a, b), a, keys.ParityAdjusted, mixed, keys.ErrComponents, 2})
		}
	}
	return append(table,
		hostile{"all of another algorithm", keys.AES192, keys.ParityAdjusted, good(t, keys.TDES3, 2), keys.ErrComponents, 1},
		hostile{"all of another length", keys.AES192, keys.ParityAdjusted, good(t, keys.AES128, 2), keys.ErrComponents, 1},
	)
}

// hostileTDES: components without odd parity where it is required, and components of a weak key.
func hostileTDES(t *testing.T) []hostile {
	t.Helper()
	var table []hostile
	for _, a := range []keys.Algorithm{keys.TDES2, keys.TDES3} {
		for i := range 3 {
			for _, at := range []int{0, a.KeyBytes() / 2, a.KeyBytes() - 1} {
				list := good(t, a, 3)
				b := xor(t, list[i:i+1])
				b[at] ^= 1
				s := sheet(t, a, i+1, 3, b)
				s.KeyCheckValue = list[i].KeyCheckValue
				list[i] = s
				table = append(table, hostile{fmt.Sprintf("%v: byte %d of component %d is even", a, at, i+1), a, keys.ParityRequired, list, keys.ErrParity, i + 1})
			}
		}
	}
	strong := []string{"0123456789ABCDEF", "89ABCDEF01234567"}
	for _, w := range weak(t) {
		for name, key := range map[string]string{
			"first": w + strong[0], "last": strong[0] + w, "first of three": w + strong[0] + strong[1],
			"second of three": strong[0] + w + strong[1], "last of three": strong[0] + strong[1] + w,
		} {
			table = append(table, madeOf(t, fmt.Sprintf("weak key %s as the %s", w, name), key))
		}
	}
	return append(table,
		madeOf(t, "2TDEA with equal halves", strong[0]+strong[0]),
		madeOf(t, "2TDEA with halves equal but for parity", strong[0]+"0022446688AACCEE"),
		madeOf(t, "3TDEA, first two equal", strong[0]+strong[0]+strong[1]),
		madeOf(t, "3TDEA, last two equal", strong[1]+strong[0]+strong[0]),
		madeOf(t, "3TDEA, outer two equal", strong[0]+strong[1]+strong[0]),
		madeOf(t, "3TDEA, all equal", strong[0]+strong[0]+strong[0]),
	)
}

// madeOf splits a weak key by hand.
func madeOf(t *testing.T, name, key string) hostile {
	t.Helper()
	k, a := unhex(t, key), keys.TDES2
	if len(k) == 24 {
		a = keys.TDES3
	}
	one := unhex(t, "1357924680ACE02468BDF13579FECA8631415926535897E1"[:2*len(k)])
	other := bytes.Clone(k)
	for i := range other {
		other[i] ^= one[i]
	}
	list := []keys.Sheet{sheet(t, a, 1, 2, one), sheet(t, a, 2, 2, other)}
	return hostile{name, a, keys.ParityIgnored, list, keys.ErrWeak, 0}
}

// TestCombineRefusesCalls: what is wrong with the call and not with a sheet.
func TestCombineRefusesCalls(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a keys.Attributes
		p keys.Parity
	}{
		"no algorithm":       {attributes(0), keys.ParityIgnored},
		"no attributes":      {keys.Attributes{}, keys.ParityIgnored},
		"usage of HMAC":      {keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsageHMAC, Mode: keys.ModeNone, Exportability: keys.Exportable}, keys.ParityIgnored},
		"no parity":          {attributes(keys.AES128), 0},
		"unknown parity":     {attributes(keys.AES128), 4},
		"no parity for TDES": {attributes(keys.TDES2), 0},
	} {
		a := c.a.Algorithm
		if !a.IsValid() {
			a = keys.AES128
		}
		if k, err := keys.Combine(c.a, c.p, good(t, a, 2)); err == nil || !k.IsZero() {
			t.Errorf("%s: %v", name, k)
		}
	}
}

// TestDependentNames: the error names the components that cancel each other out, by their numbers on the sheets.
func TestDependentNames(t *testing.T) {
	t.Parallel()
	one, two, four := strings.Repeat("01", 16), strings.Repeat("02", 16), strings.Repeat("04", 16)
	for want, digits := range map[string][]string{
		"components 1 and 3 are equal":                 {one, two, one},
		"components 2 and 3 are equal":                 {one, two, two},
		"components [1 2 4] cancel each other out":     {one, two, four, strings.Repeat("03", 16)},
		"components [1 2 3 4] cancel each other out":   {one, two, four, strings.Repeat("07", 16)},
		"components [2 3 4] cancel each other out":     {strings.Repeat("10", 16), one, two, strings.Repeat("03", 16)},
		"components [1 2 3] cancel each other out":     {one, two, strings.Repeat("03", 16)},
		"components [3 4 5] cancel each other out":     {strings.Repeat("10", 16), strings.Repeat("20", 16), one, two, strings.Repeat("03", 16)},
		"components are not independent: components 1": {one, one},
	} {
		list := sheets(t, keys.AES128, digits...)
		slices.Reverse(list)
		_, err := keys.Combine(attributes(keys.AES128), keys.ParityIgnored, list)
		if !errors.Is(err, keys.ErrDependent) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s", err, want)
		}
	}
}

// TestNumberZero: a sheet that nobody numbered is named as it is.
func TestNumberZero(t *testing.T) {
	t.Parallel()
	list := good(t, keys.AES128, 2)
	list[0].Number = 0
	_, err := keys.Combine(attributes(keys.AES128), keys.ParityIgnored, list)
	if at := new(keys.ComponentError); !errors.As(err, &at) || at.Number != 0 || !errors.Is(err, keys.ErrComponents) {
		t.Errorf("%v", err)
	}
}
