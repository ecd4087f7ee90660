package pin

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// hostile is an input that must be refused in one way.
type hostile struct {
	name string
	do   func(*Opened) error // what it is read into holds a PIN before
	want error
}

const (
	hostilePAN  = "4929123458769871"
	hostileFill = "0F1E2D3C4B5A6978"
)

// hostileLengths are PIN lengths with a fill of ten, nine, seven and two nibbles.
var hostileLengths = []int{4, 5, 7, 12}

// fieldText is a good PIN field of a format, as text.
func fieldText(f Format, n int) string {
	fill := hostileFill
	if f == Format3 {
		fill = "FABCDEFEDC"
	}
	return spelled(f, "937261480592"[:n], fill)
}

// read says how a PIN field of a format gets to the decoder: with its PAN field, and enciphered in format 4.
func read(t *testing.T, f Format, field, pan string) func(*Opened) error {
	t.Helper()
	c := testCipher(t, f, 0x3C)
	block := mustHex(t, field)
	if f.BlockSize() == format4Size {
		block = append(block, mustHex(t, hostileFill)...)
		c.Encrypt(block, block)
	}
	for i, b := range mustHex(t, spelledPAN(f, pan)) {
		block[i] ^= b
	}
	if f.BlockSize() == format4Size {
		c.Encrypt(block, block)
	}
	return readBlock(t, f, block, hostilePAN)
}

func readBlock(t *testing.T, f Format, block []byte, pan string) func(*Opened) error {
	t.Helper()
	c, parsed := testCipher(t, f, 0x3C), mustPAN(t, pan)
	if f.BlockSize() == format4Size {
		return func(p *Opened) error { return f.Decrypt(p, c, block, parsed) }
	}
	return func(p *Opened) error { return f.Decode(p, block, parsed) }
}

// hostileFields puts every other value in the place of every nibble, and keeps those that break the field.
func hostileFields(t *testing.T) (cases []hostile) {
	t.Helper()
	for _, f := range everyFormat {
		for _, n := range hostileLengths {
			good := fieldText(f, n)
			for at := range good {
				for _, v := range "0123456789ABCDEF" {
					field := good[:at] + string(v) + good[at+1:]
					if goodField(f, mustHex(t, field)) {
						continue
					}
					cases = append(cases, hostile{fmt.Sprintf("%v: field %s for %s", f, field, good), read(t, f, field, hostilePAN), ErrBlock})
				}
			}
		}
	}
	return cases
}

// hostilePANs are blocks for a PAN that differs in one digit, or in its length, from the one they are read with.
func hostilePANs(t *testing.T) (cases []hostile) {
	t.Helper()
	for _, f := range everyFormat {
		for _, n := range hostileLengths {
			if !f.HasPAN() {
				continue
			}
			field := fieldText(f, n)
			var pans []string
			for at := range hostilePAN {
				for step := range 9 {
					digit := '0' + (hostilePAN[at]-'0'+byte(step)+1)%10
					pans = append(pans, hostilePAN[:at]+string(rune(digit))+hostilePAN[at+1:])
				}
			}
			pans = append(pans, hostilePAN[1:], hostilePAN[:15], hostilePAN+"0", "0"+hostilePAN, "12345678")
			for _, pan := range pans {
				if hides(t, f, field, pan) {
					continue
				}
				cases = append(cases, hostile{fmt.Sprintf("%v: field %s for PAN %s", f, field, pan), read(t, f, field, pan), ErrBlock})
			}
		}
	}
	return cases
}

// hides reports whether the PIN field looks right under the other PAN, by the rules of formats 0 and 3: the digits of the two
// PAN fields differ only where the PIN's digits stay digits, and the fill stays fill.
func hides(t *testing.T, f Format, field, pan string) bool {
	t.Helper()
	if f == Format4 {
		return false
	}
	if f == Format4PAN12 {
		return spelledPAN(f, pan) == spelledPAN(f, hostilePAN)
	}
	b := mustHex(t, field)
	one, other := mustHex(t, spelledPAN(f, pan)), mustHex(t, spelledPAN(f, hostilePAN))
	for i := range b {
		b[i] ^= one[i] ^ other[i]
	}
	return goodField(f, b)
}

// hostileBlocks are blocks of every wrong length, and blocks of each format read as each other one.
func hostileBlocks(t *testing.T) (cases []hostile) {
	t.Helper()
	for _, f := range everyFormat {
		for n := range 33 {
			if n == f.BlockSize() {
				continue
			}
			cases = append(cases, hostile{fmt.Sprintf("%v: %d bytes", f, n), readBlock(t, f, make([]byte, n), hostilePAN), ErrBlock})
		}
		for _, other := range everyFormat {
			if f == other {
				continue
			}
			for _, n := range hostileLengths {
				block := madeOf(t, other, "937261480592"[:n])
				cases = append(cases, hostile{fmt.Sprintf("%v read as %v", other, f), readBlock(t, f, block, hostilePAN), ErrBlock})
			}
		}
		cases = append(cases, hostile{fmt.Sprintf("%v: zeros", f), readBlock(t, f, make([]byte, f.BlockSize()), hostilePAN), ErrBlock},
			hostile{fmt.Sprintf("%v: ones", f), readBlock(t, f, bytes.Repeat([]byte{0xFF}, f.BlockSize()), hostilePAN), ErrBlock})
	}
	return cases
}

// madeOf makes a block as its reader wants it: clear, or enciphered in format 4.
func madeOf(t *testing.T, f Format, digits string) []byte {
	t.Helper()
	make := func() ([]byte, error) {
		return f.Append(nil, mustPIN(t, digits), mustPAN(t, hostilePAN), Fill(mustHex(t, hostileFill)))
	}
	if f.BlockSize() == format4Size {
		make = func() ([]byte, error) {
			return f.Encrypt(nil, testCipher(t, f, 0x3C), mustPIN(t, digits), mustPAN(t, hostilePAN), Fill(mustHex(t, hostileFill)))
		}
	}
	block, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// hostileDigits are PINs and PANs of every wrong length, and with every byte that is no digit at both ends and inside.
func hostileDigits() (cases []hostile) {
	const digits = "937261480592937261480592"
	parse := func(s string) func(*Opened) error {
		return func(p *Opened) error {
			*p = Opened{}
			typed, err := ParsePIN([]byte(s))
			if !typed.IsZero() {
				return errors.New("a PIN came with the error")
			}
			return err
		}
	}
	parsePAN := func(s string) func(*Opened) error {
		return func(p *Opened) error {
			*p = Opened{}
			pan, err := ParsePAN(s)
			if !pan.IsZero() {
				return errors.New("a PAN came with the error")
			}
			return err
		}
	}
	for n := range len(digits) + 1 {
		if n < 4 || n > 12 {
			cases = append(cases, hostile{fmt.Sprintf("PIN of %d", n), parse(digits[:n]), ErrPIN})
		}
		if n < 8 || n > 19 {
			cases = append(cases, hostile{fmt.Sprintf("PAN of %d", n), parsePAN(digits[:n]), ErrPAN})
		}
	}
	for v := range 256 {
		if v >= '0' && v <= '9' {
			continue
		}
		for _, at := range []int{0, 2, 5} {
			cases = append(cases, hostile{fmt.Sprintf("PIN with %q", byte(v)), parse(digits[:at] + string([]byte{byte(v)}) + digits[at:5]), ErrPIN},
				hostile{fmt.Sprintf("PAN with %q", byte(v)), parsePAN(digits[:3*at] + string([]byte{byte(v)}) + digits[3*at:15]), ErrPAN})
		}
	}
	return cases
}

// TestHostile demands of every hostile input the error of its class, the very one where the class tells nothing more, and that
// neither a PIN nor a digit of one is left.
func TestHostile(t *testing.T) {
	t.Parallel()
	total := 0
	for group, g := range map[string]struct {
		cases []hostile
		least int // so that a group does not shrink unnoticed
	}{
		"fields": {hostileFields(t), 3490}, "PANs": {hostilePANs(t), 1520}, "blocks": {hostileBlocks(t), 308}, "digits": {hostileDigits(), 1430},
	} {
		if len(g.cases) < g.least {
			t.Errorf("%s: only %d cases, want %d", group, len(g.cases), g.least)
		}
		for _, c := range g.cases {
			p := mustOpened(t, "2468")
			err := c.do(&p)
			if err != c.want {
				t.Errorf("%s, %s: %v, want %v itself", group, c.name, err, c.want)
			}
			if m := p.bytes(); !p.IsZero() || m != nil && *m != (openedMemory{}) {
				t.Errorf("%s, %s: %X is left in memory", group, c.name, m)
			}
			if err != nil && strings.ContainsAny(strings.NewReplacer("4 to 12", "", "8 to 19", "").Replace(err.Error()), "0123456789") {
				t.Errorf("%s, %s: %q shows a digit", group, c.name, err)
			}
		}
		t.Logf("hostile %s: %d", group, len(g.cases))
		total += len(g.cases)
	}
	t.Logf("hostile inputs: %d", total)
}

// TestHiddenPAN pins down what the blocks of formats 0 and 3 cannot tell: another PAN under the PIN's own digits gives another
// PIN. Format 4 tells.
func TestHiddenPAN(t *testing.T) {
	t.Parallel()
	const pan, other = "4929123458769871", "4929023458769871" // the fifth digit stands under the fourth of the PIN
	for _, f := range []Format{Format0, Format3, Format4, Format4PAN12} {
		field := fieldText(f, 4)
		var p Opened
		err := read(t, f, field, other)(&p)
		if f.BlockSize() == format4Size {
			if err != ErrBlock {
				t.Errorf("%v: another PAN gives %s, %v", f, reveal(p), err)
			}
		} else if err != nil || reveal(p) != "9373" {
			t.Errorf("%v: %s read with %s gives %s, %v", f, other, pan, reveal(p), err)
		}
	}
}
