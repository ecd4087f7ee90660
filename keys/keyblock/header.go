package keyblock

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/latchkey-pos/latchkey/keys"
)

// ErrVersion says that the protection key does not read key blocks of this version: D takes an AES key, and A, B and C take
// a TDES key.
var ErrVersion = errors.New("keyblock: the version of the block does not go with the protection key")

const (
	headerSize = 16   // the fixed part, in characters
	maxBlock   = 9999 // the length field has four decimal digits
)

// form is what of a version shows in the text.
type form struct {
	block int // of the cipher, in bytes: the optional blocks have a multiple of it in characters, the content in bytes
	mac   int // in bytes
}

var forms = map[byte]form{'A': {8, 4}, 'B': {8, 8}, 'C': {8, 4}, 'D': {16, 16}}

// Header is what stands readable in a key block. It is plain data: only one that Unwrap returns has been authenticated.
type Header struct {
	Version       byte               // 'A' to 'D'
	Usage         string             // two characters, such as P0
	Algorithm     byte               // 'A', 'T', 'H', 'R', …
	Mode          keys.Mode          // one letter
	KeyVersion    string             // two characters; 00 when versions are not used, c and another for a component
	Exportability keys.Exportability // one letter
	Reserved      string             // two characters: the key context, and 0
	Optional      []OptionalBlock    // in order, PB left out

	loose []Warning // what the text tells beyond the fields: how lengths and padding are written
}

// KeyContext says where a key block may be used (6.2, table 1). The zero value stands for ContextAny where a block is written.
type KeyContext byte

// The key contexts.
const (
	ContextAny      KeyContext = '0' // as the protection key says
	ContextStorage  KeyContext = '1' // storage only
	ContextExchange KeyContext = '2' // key exchange only
)

// String returns the character.
func (c KeyContext) String() string { return string(rune(c)) }

// Context returns the key context, the first of the reserved characters. Editions before 2021 have none: their 0 is ContextAny.
// Other characters than those of the three contexts come with a warning.
func (h Header) Context() KeyContext {
	if h.Reserved == "" {
		return 0
	}
	return KeyContext(h.Reserved[0])
}

func reserved(c KeyContext) (string, error) {
	switch c {
	case 0:
		return "00", nil
	case ContextAny, ContextStorage, ContextExchange:
		return c.String() + "0", nil
	}
	return "", fmt.Errorf("%w: unknown key context %q", ErrHeader, byte(c))
}

// Inspect reads the header of a key block of any version without a key. Nothing of it is authenticated: show it, do not act on
// it. The error says what is malformed. Optional blocks that Unwrap would refuse are read, with a warning.
func Inspect(block string) (Header, error) {
	h, _, err := parseHeader(block)
	return h, err
}

// parseHeader returns the header of block and the length of it in characters, optional blocks included.
func parseHeader(block string) (Header, int, error) {
	if len(block) < headerSize {
		return Header{}, 0, fmt.Errorf("keyblock: %d characters: a header has %d", len(block), headerSize)
	}
	if i := strings.IndexFunc(block, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
		return Header{}, 0, fmt.Errorf("keyblock: character %d is not printable ASCII", i)
	}
	f, ok := forms[block[0]]
	if !ok {
		return Header{}, 0, fmt.Errorf("keyblock: unknown version %q", block[0])
	}
	length, err := decimal(block[1:5])
	if err != nil || length != len(block) {
		return Header{}, 0, fmt.Errorf("keyblock: length field %q for %d characters", block[1:5], len(block))
	}
	h := Header{
		Version: block[0], Usage: block[5:7], Algorithm: block[7], Mode: keys.Mode(block[8]), KeyVersion: block[9:11],
		Exportability: keys.Exportability(block[11]), Reserved: block[14:16],
	}
	count, err := decimal(block[12:14])
	if err != nil {
		return Header{}, 0, fmt.Errorf("keyblock: number of optional blocks %q", block[12:14])
	}
	end, err := h.parseOptionals(block, count, f.block)
	if err != nil {
		return Header{}, 0, err
	}
	return h, end, nil
}

// parseOptionals reads the optional blocks into h and returns where they end. It notes in what the text differs from what
// format writes.
func (h *Header) parseOptionals(block string, count, size int) (int, error) {
	end, padding, last := headerSize, 0, ""
	seen := make(map[string]bool)
	for range count {
		ob, next, short, err := parseOptional(block, end)
		if err != nil {
			return 0, err
		}
		if seen[ob.ID] {
			return 0, fmt.Errorf("keyblock: optional block %q comes twice", ob.ID)
		}
		seen[ob.ID], last = true, ob.ID
		if !short {
			h.loose = append(h.loose, Warning{WarnLengthField, ob.ID})
		}
		if ob.ID == OptionalPB {
			padding = next - end
		} else {
			h.Optional = append(h.Optional, ob)
		}
		end = next
	}
	if padding != paddingSize(end-headerSize-padding, size) && end%size == 0 || padding > 0 && last != OptionalPB {
		h.loose = append(h.loose, Warning{WarnPadding, OptionalPB})
	}
	return end, nil
}

// paddingSize returns the length of the PB that takes optional blocks of n characters to a multiple of size; 0 for none.
// An optional block has at least 4 characters.
func paddingSize(n, size int) int {
	fill := (size - n%size) % size
	if fill > 0 && fill < 4 {
		fill += size
	}
	return fill
}

func decimal(s string) (int, error) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(s)
}

func hexadecimal(s string) (int, error) {
	if !isHex(s) {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(s, 16, 31)
	return int(n), err
}

// component is what the key version of a component of a key begins with.
const component = "c"

const hexDigits = "0123456789ABCDEF"

// isHex reports whether s has nothing but hexadecimal digits in the one spelling of the standard, upper case.
func isHex(s string) bool { return strings.Trim(s, hexDigits) == "" }

// format writes the header for a block with a content of so many bytes, padded with PB (6.3.6).
func (h Header) format(content int) (string, error) {
	f, ok := forms[h.Version]
	if !ok {
		return "", ErrVersion
	}
	var b strings.Builder
	count := len(h.Optional)
	for _, ob := range h.Optional {
		if err := writeOptional(&b, ob); err != nil {
			return "", err
		}
	}
	if fill := paddingSize(b.Len(), f.block); fill > 0 {
		if err := writeOptional(&b, OptionalBlock{ID: OptionalPB, Data: strings.Repeat("0", fill-4)}); err != nil {
			return "", err
		}
		count++
	}
	total := headerSize + b.Len() + 2*content + 2*f.mac
	if total > maxBlock || count > 99 {
		return "", fmt.Errorf("keyblock: %d characters with %d optional blocks: too long", total, count)
	}
	return fmt.Sprintf("%c%04d%s%02d%s%s", h.Version, total, h.text(), count, h.Reserved, b.String()), nil
}

// text is the part of a header that says what the key is.
func (h Header) text() string {
	return h.Usage + string([]byte{h.Algorithm, byte(h.Mode)}) + h.KeyVersion + string([]byte{byte(h.Exportability)})
}
