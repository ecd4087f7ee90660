package keys

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// How many components a key can have. One would be the key itself.
const (
	MinComponents = 2
	MaxComponents = 9
)

var (
	// ErrComponents says that components do not make one key: too few or too many, one missing or there twice, of different
	// algorithms, or of different keys.
	ErrComponents = errors.New("keys: not the components of one key")
	// ErrDependent says that somebody who holds some of the components would know more than their share: a component is
	// zero, two are equal, or some cancel each other out.
	ErrDependent = errors.New("keys: components are not independent")
)

// ComponentError says which component of several is refused, and what stands on its sheet: its number and its check value
// are public. The digits of a component are in no error.
type ComponentError struct {
	Number     int        // from 1
	CheckValue CheckValue // as the sheet has it; zero if it has none
	Err        error      // why; see the errors of this package
}

// Error returns the text with the number and the check value.
func (e *ComponentError) Error() string {
	if e.CheckValue.IsZero() {
		return fmt.Sprintf("component %d: %v", e.Number, e.Err)
	}
	return fmt.Sprintf("component %d, check value %v: %v", e.Number, e.CheckValue, e.Err)
}

// Unwrap returns the reason.
func (e *ComponentError) Unwrap() error { return e.Err }

// Component is one of the parts of a key of which nobody holds all: a string as long as the key, and the key is the XOR of
// all of them, so that whoever lacks one knows nothing about it (ANSI X9.24-1:2017, 7.2; PCI PIN v3.1, 21-1). The halves of a
// key are no components. The zero value is none. Copies share the bytes: wiping one wipes all.
type Component struct {
	algorithm Algorithm
	material  secret.Bytes
}

// NewComponent returns a component with a copy of material, which the caller still owns and wipes. It has exactly the length
// of a key of the algorithm, else ErrLength, and is not all zeros, else ErrDependent. For TDES the parity bits may have any
// value and do not count; see [Combine].
func NewComponent(a Algorithm, material []byte) (Component, error) {
	if !a.IsValid() {
		return Component{}, fmt.Errorf("keys: unknown algorithm %d", uint8(a))
	}
	if len(material) != a.KeyBytes() {
		return Component{}, fmt.Errorf("%w: %s component of %d bytes: want %d", ErrLength, a, len(material), a.KeyBytes())
	}
	if isZero(material, keyMask(a)) {
		return Component{}, fmt.Errorf("%w: all bits of one are zero", ErrDependent)
	}
	return Component{algorithm: a, material: secret.From(material)}, nil
}

// keyMask has the bits of a byte that are key.
func keyMask(a Algorithm) byte {
	if a.IsTDES() {
		return keyBits
	}
	return 0xff
}

// Algorithm returns the algorithm of the key.
func (c Component) Algorithm() Algorithm { return c.algorithm }

// IsZero reports whether c is no component: the zero value, or wiped.
func (c Component) IsZero() bool { return c.material.IsZero() }

// Wipe zeroes the bytes of c and of all its copies.
func (c Component) Wipe() { c.material.Wipe() }

// CheckValue returns the check value of the component, which is that of a key with its bytes. A kind that does not go with
// the algorithm is an error; TDES where Go's FIPS mode forbids it is ErrForbidden.
func (c Component) CheckValue(kind KCVKind) (CheckValue, error) {
	return newCheckValue(c.algorithm, kind, c.material.Expose())
}

// Verify refuses a component that has not the check value: with ErrCheckValue, or with the error of CheckValue.
func (c Component) Verify(want CheckValue) error {
	got, err := c.CheckValue(want.Kind)
	if err != nil {
		return err
	}
	return got.verify(want)
}

// Format prints the algorithm under every verb, never the bytes.
func (c Component) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// String returns the algorithm, never the bytes.
func (c Component) String() string {
	if c.IsZero() {
		return "[no component]"
	}
	return fmt.Sprintf("[%v component]", c.algorithm)
}

// GoString returns the algorithm, never the bytes.
func (c Component) GoString() string { return c.String() }

// MarshalText refuses: components leave on sheets, see [Sheet.Text].
func (c Component) MarshalText() ([]byte, error) { return nil, errEncode }

// MarshalBinary refuses: components leave on sheets, see [Sheet.Text].
func (c Component) MarshalBinary() ([]byte, error) { return nil, errEncode }

// Split makes n components of a key, from MinComponents to MaxComponents, for as many custodians: all but one are drawn at
// random, none is zero, no two are equal, none is the key. Each stands on a sheet with its number, its check value and that of
// the key, of the default kind of the algorithm. The caller wipes them.
//
// The XOR of all is the key, bit for bit, under ParityIgnored. Under the others each TDES component has odd parity, as
// payment HSMs want them, and the XOR is the key but for its parity bits: [Combine] sets these.
func Split(k Key, p Parity, n int) ([]Sheet, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	if k.IsZero() {
		return nil, errors.New("keys: no key to split")
	}
	if n < MinComponents || n > MaxComponents {
		return nil, fmt.Errorf("%w: %d, want %d to %d", ErrComponents, n, MinComponents, MaxComponents)
	}
	whole, err := k.CheckValue(k.attributes.Algorithm.CheckValueKind())
	if err != nil {
		return nil, err
	}
	var parts []secret.Bytes
	secret.Do(func() { parts = drawParts(k, p, n) })
	defer wipeAll(parts)
	sheets := make([]Sheet, 0, n)
	for i, part := range parts {
		c, err := NewComponent(k.attributes.Algorithm, part.Expose())
		if err != nil {
			return nil, err
		}
		v, err := c.CheckValue(whole.Kind)
		if err != nil {
			return nil, err
		}
		sheets = append(sheets, Sheet{Number: i + 1, Of: n, Component: c, CheckValue: v, KeyCheckValue: whole})
	}
	return sheets, nil
}

// drawParts draws until the parts are independent, which they are at once but for luck that nobody has.
func drawParts(k Key, p Parity, n int) []secret.Bytes {
	for {
		parts := []secret.Bytes{k.material.Clone()}
		last := parts[0].Expose()
		for range n - 1 {
			part := secret.New(len(last))
			_, _ = rand.Read(part.Expose()) // never fails
			subtle.XORBytes(last, last, part.Expose())
			parts = append(parts, part)
		}
		if k.attributes.Algorithm.IsTDES() && p != ParityIgnored {
			for _, part := range parts {
				setOddParity(part.Expose())
			}
		}
		if checkIndependent(k.attributes.Algorithm, parts) == nil {
			return parts
		}
		wipeAll(parts)
	}
}

// Combine makes a key of the sheets of its components, in any order. There are MinComponents to MaxComponents, all of the
// algorithm of the attributes, each number once, and every one is held to the check value on its sheet before anything is
// combined. The caller still wipes the sheets.
//
// For TDES p says what becomes of parity: ParityRequired refuses a component without odd parity, and the key gets odd parity
// as under ParityAdjusted, because the XOR of an even number of components has not; ParityIgnored leaves the XOR as it is.
//
// Refused are components that are not of one key (ErrComponents), that have not their check value (ErrCheckValue) or parity
// (ErrParity), and that are equal or cancel each other out, so that one custodian would know the key (ErrDependent). The key
// is one that [ImportKey] takes, else ErrWeak or ErrForbidden, and has the check value that the sheets say it has, else
// ErrCheckValue. Errors about one component are a *ComponentError.
func Combine(a Attributes, p Parity, sheets []Sheet) (Key, error) {
	if err := a.Validate(); err != nil {
		return Key{}, err
	}
	if err := p.validate(); err != nil {
		return Key{}, err
	}
	if err := a.permitted(); err != nil {
		return Key{}, err
	}
	whole, err := checkSheets(a.Algorithm, sheets)
	if err != nil {
		return Key{}, err
	}
	for _, s := range sheets {
		if err := s.Verify(p); err != nil {
			return Key{}, err
		}
	}
	sum := secret.New(a.Algorithm.KeyBytes())
	defer sum.Wipe()
	secret.Do(func() { err = addParts(sum.Expose(), a.Algorithm, sheets) })
	if err != nil {
		return Key{}, err
	}
	if p == ParityRequired { // of the components
		p = ParityAdjusted
	}
	k, err := ImportKey(a, p, sum.Expose())
	if err != nil {
		return Key{}, err
	}
	if !whole.IsZero() {
		err = k.Verify(whole)
	}
	if err != nil {
		k.Wipe()
		return Key{}, fmt.Errorf("the key of these components: %w", err)
	}
	return k, nil
}

// addParts adds all components to sum, if they are independent.
func addParts(sum []byte, a Algorithm, sheets []Sheet) error {
	parts := make([]secret.Bytes, 0, len(sheets))
	for _, s := range slices.SortedFunc(slices.Values(sheets), func(x, y Sheet) int { return x.Number - y.Number }) {
		parts = append(parts, s.Component.material)
		subtle.XORBytes(sum, sum, s.Component.material.Expose())
	}
	return checkIndependent(a, parts)
}

// checkSheets holds sheets to what is public about them, and returns the check value of the key if any of them has it.
func checkSheets(a Algorithm, sheets []Sheet) (whole CheckValue, err error) {
	n := len(sheets)
	if n < MinComponents || n > MaxComponents {
		return whole, fmt.Errorf("%w: %d, want %d to %d", ErrComponents, n, MinComponents, MaxComponents)
	}
	var seen [MaxComponents + 1]bool
	for _, s := range sheets {
		refuse := func(format string, args ...any) (CheckValue, error) {
			why := fmt.Errorf("%w: %s", ErrComponents, fmt.Sprintf(format, args...))
			return CheckValue{}, &ComponentError{Number: s.Number, CheckValue: s.CheckValue, Err: why}
		}
		switch {
		case s.Of != n:
			return refuse("it is one of %d, %d are here", s.Of, n)
		case s.Number < 1 || s.Number > n:
			return refuse("want numbers 1 to %d", n)
		case seen[s.Number]:
			return refuse("it is here twice")
		case s.Component.IsZero():
			return refuse("the sheet has none")
		case s.Component.algorithm != a:
			return refuse("it is of %s, the key of %s", s.Component.algorithm, a)
		case !whole.IsZero() && !s.KeyCheckValue.IsZero() && whole != s.KeyCheckValue:
			return refuse("it is of a key with the check value %v, another one of %v", s.KeyCheckValue, whole)
		}
		seen[s.Number] = true
		if whole.IsZero() {
			whole = s.KeyCheckValue
		}
	}
	return whole, nil
}

// checkIndependent refuses components of which some cancel each other out: the others alone give the key. One alone does if
// it is zero, two do if they are equal, and all do if the key is zero. Parity bits do not count. Every set of them is looked
// at, whatever was found before; which ones are refused is no secret.
func checkIndependent(a Algorithm, parts []secret.Bytes) error {
	var cancel []int
	sum := secret.New(a.KeyBytes())
	defer sum.Wipe()
	for set := 1; set < 1<<len(parts); set++ {
		clear(sum.Expose())
		var numbers []int
		for i, part := range parts {
			if set>>i&1 == 1 {
				subtle.XORBytes(sum.Expose(), sum.Expose(), part.Expose())
				numbers = append(numbers, i+1)
			}
		}
		if isZero(sum.Expose(), keyMask(a)) && cancel == nil {
			cancel = numbers
		}
	}
	switch len(cancel) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%w: component %d is zero", ErrDependent, cancel[0])
	case 2:
		return fmt.Errorf("%w: components %d and %d are equal", ErrDependent, cancel[0], cancel[1])
	}
	return fmt.Errorf("%w: components %v cancel each other out", ErrDependent, cancel)
}

func wipeAll(parts []secret.Bytes) {
	for _, p := range parts {
		p.Wipe()
	}
}
