package keyblock

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-pos/latchkey/keys"
)

// ErrVersion says that the key block is of a version that this package does not read.
var ErrVersion = errors.New("keyblock: version is not D")

const (
	headerSize = 16   // the fixed part, in characters
	maxBlock   = 9999 // the length field has four decimal digits
	blockSize  = 16   // of AES: headers and contents are multiples of it
	macDigits  = 32   // the MAC, as hexadecimal digits
	minDigits  = 32   // one encrypted block, as hexadecimal digits
)

// Header is what stands readable in a key block. It is plain data: only one that Unwrap returns has been authenticated.
type Header struct {
	Version       byte               // 'D'
	Usage         string             // two characters, such as P0
	Algorithm     byte               // 'A', 'T', 'H', 'R', …
	Mode          keys.Mode          // one letter
	KeyVersion    string             // two characters; 00 when versions are not used
	Exportability keys.Exportability // one letter
	Reserved      string             // two characters; 00, or the key context of newer editions
	Optional      []OptionalBlock    // in order, PB left out
}

// Inspect reads the header of a key block of any version without a key. Nothing of it is authenticated: show it, do not act on
// it. The error says what is malformed.
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
	if !slices.Contains([]byte("ABCD"), block[0]) {
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
	end := headerSize
	for range count {
		var ob OptionalBlock
		if ob, end, err = parseOptional(block, end); err != nil {
			return Header{}, 0, err
		}
		if ob.ID != OptionalPB {
			h.Optional = append(h.Optional, ob)
		}
	}
	return h, end, nil
}

func decimal(s string) (int, error) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(s)
}

func hexadecimal(s string) (int, error) {
	if strings.Trim(s, hexDigits) != "" {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(s, 16, 31)
	return int(n), err
}

const hexDigits = "0123456789ABCDEF"

// format writes the header for a block with contentDigits of encrypted content, padded with PB to a multiple of the AES block.
func (h Header) format(contentDigits int) (string, error) {
	var b strings.Builder
	count := len(h.Optional)
	for _, ob := range h.Optional {
		if err := writeOptional(&b, ob); err != nil {
			return "", err
		}
	}
	if count > 0 && b.Len()%blockSize != 0 {
		fill := blockSize - b.Len()%blockSize
		if fill < 4 {
			fill += blockSize
		}
		if err := writeOptional(&b, OptionalBlock{ID: OptionalPB, Data: strings.Repeat("0", fill-4)}); err != nil {
			return "", err
		}
		count++
	}
	total := headerSize + b.Len() + contentDigits + macDigits
	if total > maxBlock || count > 99 {
		return "", fmt.Errorf("keyblock: %d characters with %d optional blocks: too long", total, count)
	}
	return fmt.Sprintf("%c%04d%s%c%c%s%c%02d%s%s", h.Version, total, h.Usage, h.Algorithm, byte(h.Mode), h.KeyVersion,
		byte(h.Exportability), count, h.Reserved, b.String()), nil
}
