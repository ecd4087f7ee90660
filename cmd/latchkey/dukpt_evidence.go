package main

import (
	"bytes"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/pin"
)

// What evidence counts in the ranking. Text of fewer than minText bytes and a printable share say little: they only order.
const (
	scorePAN      = 1000
	scoreTLV      = 800
	scoreTrack    = 600
	scoreText     = 400
	scoreBehindIV = 300
	minText       = 16
)

// judge says what of clear looks like card data. Nothing of clear is in the result but a masked card number.
func judge(clear []byte, blockSize int) attempt {
	a := attempt{Evidence: []string{}}
	data := unpadded(clear)
	printables := countPrintable(data)
	if len(data) > 0 {
		a.Printable = 100 * printables / len(data)
	}
	a.score = a.Printable
	if pan, err := pin.FindPAN(clear); err == nil {
		a.add(scorePAN, "begins with a card number")
		a.MaskedPAN = pan.Masked()
		pan.Wipe()
	}
	if elements, number, ok := readTLV(clear); ok {
		a.add(scoreTLV, fmt.Sprintf("EMV data in BER-TLV, %d elements", elements))
		if a.MaskedPAN == "" {
			a.MaskedPAN = number
		}
	}
	if a.MaskedPAN != "" {
		a.Evidence = append(a.Evidence, "card number "+a.MaskedPAN)
	}
	text := printables == len(data)
	if text && isTrack(data, "%B", '^', 2) {
		a.add(scoreTrack, "track 1: %B, two ^, ?")
	}
	if text && isTrack(data, ";", '=', 1) {
		a.add(scoreTrack, "track 2: ;, =, ?")
	}
	if text && len(data) >= minText {
		a.add(scoreText, "all text")
	}
	a.Fits = a.score > scoreBehindIV
	if rest := data[min(blockSize, len(data)):]; !a.Fits && len(rest) >= minText && countPrintable(rest) == len(rest) {
		a.score += scoreBehindIV - a.Printable
		a.Evidence = append(a.Evidence, "all text but the first block: another initialization vector")
	}
	a.Evidence = append(a.Evidence, fmt.Sprintf("%d %% printable", a.Printable))
	return a
}

func (a *attempt) add(score int, evidence string) {
	a.score += score
	a.Evidence = append(a.Evidence, evidence)
}

// unpadded cuts padding of any kind from the end: zeros, with one 80 before them, or PKCS #7.
func unpadded(b []byte) []byte {
	for n := range b {
		if isPadding(b[n:]) {
			return b[:n]
		}
	}
	return b
}

// isPadding reports whether b is nothing but padding, or empty.
func isPadding(b []byte) bool {
	if n := len(b); 0 < n && n <= 16 && bytes.Count(b, []byte{byte(n)}) == n {
		return true
	}
	return len(bytes.TrimLeft(bytes.TrimPrefix(b, []byte{0x80}), "\x00")) == 0
}

func countPrintable(b []byte) (n int) {
	for _, c := range b {
		if ' ' <= c && c <= '~' {
			n++
		}
	}
	return n
}

// isTrack reports whether b holds a start sentinel, a number of separators behind it, and then an end sentinel.
func isTrack(b []byte, start string, separator byte, separators int) bool {
	_, rest, ok := bytes.Cut(b, []byte(start))
	for ; ok && separators > 0; separators-- {
		_, rest, ok = bytes.Cut(rest, []byte{separator})
	}
	return ok && bytes.IndexByte(rest, '?') >= 0
}

// cardTags are elements of EMV that data of a card has: one of them tells BER-TLV from noise that parses.
var cardTags = map[uint32]bool{
	0x57: true, 0x5A: true, 0x82: true, 0x95: true, 0x9A: true, 0x9C: true, 0x5F20: true, 0x5F24: true, 0x5F25: true, 0x5F2A: true,
	0x5F34: true, 0x9F02: true, 0x9F06: true, 0x9F10: true, 0x9F1A: true, 0x9F26: true, 0x9F27: true, 0x9F36: true, 0x9F37: true,
}

const (
	tagTrack2 = 0x57 // track 2 equivalent data
	tagPAN    = 0x5A

	maxTLVDepth = 8
)

// readTLV counts the primitive elements of BER-TLV, at least two and one of a card, and returns the masked card number of
// the first that holds one. Padding may follow. One that is cut short is none.
func readTLV(b []byte) (elements int, number string, ok bool) {
	var t tlv
	if !t.read(b, 0) || t.elements < 2 || !t.card {
		return 0, "", false
	}
	return t.elements, t.number, true
}

type tlv struct {
	elements int
	card     bool
	number   string
}

func (t *tlv) read(b []byte, depth int) bool {
	for len(b) > 0 {
		if depth == 0 && isPadding(b) {
			break
		}
		tag, constructed, rest, ok := readTag(b)
		if !ok {
			return false
		}
		value, rest, ok := readLength(rest)
		if !ok {
			return false
		}
		b = rest
		if constructed {
			if depth == maxTLVDepth || !t.read(value, depth+1) {
				return false
			}
			continue
		}
		t.elements++
		t.card = t.card || cardTags[tag]
		if t.number == "" && (tag == tagTrack2 || tag == tagPAN) {
			t.number = maskPacked(value)
		}
	}
	return true
}

// readTag reads a tag of up to four bytes (ISO/IEC 8825-1, 8.1.2).
func readTag(b []byte) (tag uint32, constructed bool, rest []byte, ok bool) {
	tag, constructed = uint32(b[0]), b[0]&0x20 != 0
	if b[0]&0x1F != 0x1F {
		return tag, constructed, b[1:], b[0] != 0
	}
	for i := 1; i < min(len(b), 4); i++ {
		tag = tag<<8 | uint32(b[i])
		if b[i]&0x80 == 0 {
			return tag, constructed, b[i+1:], true
		}
	}
	return 0, false, nil, false
}

// readLength reads a length of up to two bytes behind its own, and cuts the value off.
func readLength(b []byte) (value, rest []byte, ok bool) {
	if len(b) == 0 {
		return nil, nil, false
	}
	n, b := int(b[0]), b[1:]
	if n >= 0x80 {
		size := n - 0x80
		if size < 1 || size > 2 || len(b) < size {
			return nil, nil, false
		}
		for n = 0; size > 0; size-- {
			n, b = n<<8|int(b[0]), b[1:]
		}
	}
	if n > len(b) {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// maskPacked masks the card number that two digits a byte begin with, up to D or F. It is empty where there is none.
func maskPacked(b []byte) string {
	digits := make([]byte, 0, 2*len(b)+1)
	for _, c := range b {
		digits = append(digits, "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
	}
	defer secret.Wipe(digits)
	end := bytes.IndexAny(digits, "DF")
	if end < 0 {
		end = len(digits)
	}
	pan, err := pin.FindPAN(digits[:end])
	if err != nil {
		return ""
	}
	defer pan.Wipe()
	return pan.Masked()
}
