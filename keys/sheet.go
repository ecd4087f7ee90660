package keys

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// ErrSyntax says that a text is not in the form of what it should be. The text is not repeated.
var ErrSyntax = errors.New("keys: wrong form")

// Sheet is what one custodian has in hand: a component, which one of how many it is, and the check values to compare (ANSI
// X9.24-1:2017, 7.2). The zero value is none.
type Sheet struct {
	Number, Of    int        // 1 to Of; MinComponents to MaxComponents
	Component     Component  // the secret part
	CheckValue    CheckValue // of the component
	KeyCheckValue CheckValue // of the key that all components make; zero when it is not known yet
}

// Names of the lines of a sheet.
const (
	lineComponent = "component: "
	lineAlgorithm = "algorithm: "
	lineValue     = "value: "
	lineKCV       = "kcv: "
	lineKeyKCV    = "key-kcv: "
)

// groupDigits is how many digits stand together on a sheet.
const groupDigits = 4

// ParseComponent reads a component as a custodian types it: hexadecimal digits, twice as many as a key has bytes, either
// without spaces or in groups of four with one space between them. Other characters are ErrSyntax, another number of digits
// ErrLength, zeros ErrDependent; no error repeats a digit. The caller still owns digits, and wipes them. It does not branch on
// what the digits are.
func ParseComponent(a Algorithm, digits []byte) (Component, error) {
	if !a.IsValid() {
		return Component{}, fmt.Errorf("keys: unknown algorithm %d", uint8(a))
	}
	var material secret.Bytes
	var err error
	secret.Do(func() { material, err = parseMaterial(a, digits) })
	if err != nil {
		return Component{}, err
	}
	defer material.Wipe()
	return NewComponent(a, material.Expose())
}

// ParseSheet reads a sheet as [Sheet.Text] writes it. Digits may also be small and the value without spaces, the check value of
// the key and the last line end may be missing; everything else is ErrSyntax, lines that end in CR LF included, or the error of
// [ParseComponent]. It does not compare the check value: [Sheet.Verify] does. It looks for line ends, and else does with the value
// as ParseComponent does. The caller still owns text, and wipes it; and wipes the component.
func ParseSheet(text []byte) (s Sheet, err error) {
	secret.Do(func() { s, err = parseSheet(text) }) // a search for line ends leaves digits in registers
	return s, err
}

func parseSheet(text []byte) (Sheet, error) {
	if bytes.IndexByte(text, '\r') >= 0 {
		return Sheet{}, fmt.Errorf("%w: a line of a sheet ends in CR or CR LF: want LF alone", ErrSyntax)
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	names := []string{lineComponent, lineAlgorithm, lineValue, lineKCV, lineKeyKCV}
	if len(lines) != len(names) && len(lines) != len(names)-1 {
		return Sheet{}, fmt.Errorf("%w: sheet of %d lines, want 4 or 5", ErrSyntax, len(lines))
	}
	for i := range lines {
		value, ok := bytes.CutPrefix(lines[i], []byte(names[i]))
		if !ok {
			return Sheet{}, fmt.Errorf("%w: line %d of a sheet starts with %q", ErrSyntax, i+1, names[i])
		}
		lines[i] = value
	}
	var s Sheet
	var err error
	if s.Number, s.Of, err = parseNumbers(lines[0]); err != nil {
		return Sheet{}, err
	}
	a, err := ParseAlgorithm(string(lines[1]))
	if err != nil {
		return Sheet{}, fmt.Errorf("%w: unknown algorithm", ErrSyntax)
	}
	if s.CheckValue, err = parseFitting(a, lines[3]); err != nil {
		return Sheet{}, err
	}
	if len(lines) == len(names) {
		if s.KeyCheckValue, err = parseFitting(a, lines[4]); err != nil {
			return Sheet{}, err
		}
	}
	s.Component, err = ParseComponent(a, lines[2])
	if err != nil {
		return Sheet{}, err
	}
	return s, nil
}

// Text returns the sheet as it is written down, with a line end after each line, for one custodian and nobody else:
//
//	component: 1 of 3
//	algorithm: 2TDEA
//	value: 0123 4567 89AB CDEF FEDC BA98 7654 3210
//	kcv: legacy:08D7B4
//	key-kcv: legacy:7B0B9D
//
// The last line is missing when the check value of the key is. A sheet without a component or its check value is an error, and
// so are numbers that no sheet has. The caller wipes the text.
func (s Sheet) Text() (secret.Bytes, error) {
	if s.Component.IsZero() || s.CheckValue.IsZero() || !numbersFit(s.Number, s.Of) {
		return secret.Bytes{}, errors.New("keys: sheet is not complete")
	}
	var head, tail bytes.Buffer
	fmt.Fprintf(&head, "%s%d of %d\n%s%v\n%s", lineComponent, s.Number, s.Of, lineAlgorithm, s.Component.algorithm, lineValue)
	fmt.Fprintf(&tail, "\n%s%v\n", lineKCV, s.CheckValue)
	if !s.KeyCheckValue.IsZero() {
		fmt.Fprintf(&tail, "%s%v\n", lineKeyKCV, s.KeyCheckValue)
	}
	raw := s.Component.material.Expose()
	text := secret.New(head.Len() + groupedLen(2*len(raw)) + tail.Len())
	out := text.Expose()
	n := copy(out, head.Bytes())
	secret.Do(func() { n += writeGrouped(out[n:], raw) })
	copy(out[n:], tail.Bytes())
	return text, nil
}

// Verify holds a sheet to its own check value, and for TDES to the parity that p requires: what a custodian does before the
// component goes anywhere. Without a check value there is nothing to hold it to, which is ErrCheckValue. The error is a
// *ComponentError around ErrCheckValue, ErrParity or the error of [Component.CheckValue].
func (s Sheet) Verify(p Parity) error {
	if err := s.check(p); err != nil {
		return &ComponentError{Number: s.Number, CheckValue: s.CheckValue, Err: err}
	}
	return nil
}

func (s Sheet) check(p Parity) error {
	if err := p.validate(); err != nil {
		return err
	}
	if s.CheckValue.IsZero() {
		return fmt.Errorf("%w: there is none to compare with", ErrCheckValue)
	}
	if err := s.Component.Verify(s.CheckValue); err != nil {
		return err
	}
	if p == ParityRequired && s.Component.algorithm.IsTDES() && !hasOddParity(s.Component.material.Expose()) {
		return ErrParity
	}
	return nil
}

// Wipe zeroes the component of s and of all its copies.
func (s Sheet) Wipe() { s.Component.Wipe() }

// parseNumbers reads "1 of 3". Both are single digits: there are no more than 9.
func parseNumbers(b []byte) (number, of int, err error) {
	if len(b) == len("1 of 3") && string(b[1:5]) == " of " {
		number, of = int(b[0])-'0', int(b[5])-'0'
	}
	if !numbersFit(number, of) {
		return 0, 0, fmt.Errorf("%w: want numbers as in: %s1 of 3", ErrSyntax, lineComponent)
	}
	return number, of, nil
}

func numbersFit(number, of int) bool {
	return of >= MinComponents && of <= MaxComponents && number >= 1 && number <= of
}

// parseFitting reads a check value of a kind that keys of the algorithm have.
func parseFitting(a Algorithm, b []byte) (CheckValue, error) {
	v, err := ParseCheckValue(string(b))
	if err != nil {
		return CheckValue{}, err
	}
	if !v.Kind.Fits(a) {
		return CheckValue{}, fmt.Errorf("%w: %v keys have no check value of kind %v", ErrSyntax, a, v.Kind)
	}
	return v, nil
}

func groupedLen(digits int) int { return digits + digits/groupDigits - 1 }

// parseMaterial reads digits with or without spaces. Where spaces stand is no secret.
func parseMaterial(a Algorithm, digits []byte) (secret.Bytes, error) {
	n := 2 * a.KeyBytes()
	spaced := len(digits) == groupedLen(n)
	if !spaced && len(digits) != n {
		return secret.Bytes{}, fmt.Errorf("%w: %d characters: %s has %d hexadecimal digits", ErrLength, len(digits), a, n)
	}
	packed := secret.New(n)
	defer packed.Wipe()
	if !spaced {
		copy(packed.Expose(), digits)
		return decodeHex(packed.Expose())
	}
	for i, c := range digits {
		group, at := i/(groupDigits+1), i%(groupDigits+1)
		if at < groupDigits {
			packed.Expose()[group*groupDigits+at] = c
		} else if secret.Public(c) != ' ' {
			return secret.Bytes{}, fmt.Errorf("%w: digits stand in groups of %d with one space between them, or without spaces", ErrSyntax, groupDigits)
		}
	}
	return decodeHex(packed.Expose())
}

// decodeHex reads hexadecimal digits of either case, without a branch or a table on what they are.
func decodeHex(digits []byte) (secret.Bytes, error) {
	raw := secret.New(len(digits) / 2)
	out := raw.Expose()
	bad := byte(0)
	for i, c := range digits {
		decimal, upper, lower := between(c, '0', '9'), between(c, 'A', 'F'), between(c, 'a', 'f')
		out[i/2] = out[i/2]<<4 | (c-'0')&decimal | (c-'A'+10)&upper | (c-'a'+10)&lower
		bad |= ^(decimal | upper | lower)
	}
	if secret.Public(bad) != 0 {
		raw.Wipe()
		return secret.Bytes{}, fmt.Errorf("%w: a character is no hexadecimal digit", ErrSyntax)
	}
	return raw, nil
}

// between returns FF if lo <= c <= hi, else 0.
func between(c, lo, hi byte) byte {
	outside := (int(c) - int(lo)) | (int(hi) - int(c)) // negative if either is
	return ^byte(outside >> 8)
}

// writeGrouped writes raw as upper-case digits in groups of four, and returns how many bytes that took.
func writeGrouped(dst, raw []byte) int {
	n := 0
	for i, b := range raw {
		if i > 0 && i%(groupDigits/2) == 0 {
			dst[n] = ' '
			n++
		}
		dst[n], dst[n+1] = digit(b>>4), digit(b&15)
		n += 2
	}
	return n
}

// digit returns the hexadecimal digit of a nibble, without a table.
func digit(nibble byte) byte {
	over := byte((9 - int(nibble)) >> 8) // FF from 10 on
	return '0' + nibble + over&('A'-'9'-1)
}
