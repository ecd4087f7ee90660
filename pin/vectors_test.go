package pin

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/testvec"
)

var pinblockHandlers = map[string]testvec.Handler{
	"iso0":           vectorISO0,
	"iso1_decode":    vectorClear(Format1),
	"iso2":           vectorClear(Format2),
	"iso3_decode":    vectorClear(Format3),
	"iso4_pin_field": vectorPINField4,
	"iso4_pan_field": vectorPANField4,
	"iso4_encrypted": vectorISO4,
	"translate":      vectorTranslate,
	"reject":         vectorReject,
	"reject_encode":  vectorRejectEncode,
}

func TestVectors(t *testing.T) {
	t.Parallel()
	testvec.Run(t, "pinblock", pinblockHandlers)
}

func TestVectorsFlipped(t *testing.T) {
	t.Parallel()
	testvec.Flip(t, "pinblock", pinblockHandlers, map[string][]string{
		"iso0":           {"clear_block", "pin"},
		"iso1_decode":    {"pin"}, // the block is the only source of its transaction field
		"iso2":           {"clear_block", "pin"},
		"iso3_decode":    {"clear_block", "pin"},
		"iso4_pin_field": {"pin_field"},
		"iso4_pan_field": {"pan_field"},
		"iso4_encrypted": {"encrypted_block", "pin"},
		"translate":      {"out_block", "pin"},
	})
}

func parse(v testvec.Vector) (PIN, PAN, error) {
	p, err := ParsePIN([]byte(v.String("pin")))
	if err != nil {
		return PIN{}, PAN{}, err
	}
	pan, err := ParsePAN(v.String("pan"))
	return p, pan, err
}

func same(what string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: got %X, want %X", what, got, want)
	}
	return nil
}

func samePIN(got any, want string) error {
	if reveal(got) != want {
		return fmt.Errorf("PIN: got %s, want %s", reveal(got), want)
	}
	return nil
}

func vectorISO0(v testvec.Vector) (int, error) {
	p, pan, err := parse(v)
	if err != nil {
		return 0, err
	}
	block, err := AppendFormat0(nil, p, pan)
	if err != nil {
		return 0, err
	}
	if err := same("clear block", block, v.Hex("clear_block")); err != nil {
		return 0, err
	}
	got, err := DecodeFormat0(v.Hex("clear_block"), pan)
	if err != nil {
		return 0, err
	}
	if err := samePIN(got, v.String("pin")); err != nil {
		return 0, err
	}
	n, err := vectorClear(Format0)(v)
	return 2 + n, err
}

// vectorClear reads a clear block and makes it again with the fill that is in it.
func vectorClear(f Format) testvec.Handler {
	return func(v testvec.Vector) (int, error) {
		var pan PAN
		if f.HasPAN() {
			var err error
			if pan, err = ParsePAN(v.String("pan")); err != nil {
				return 0, err
			}
		}
		p, err := ParsePIN([]byte(v.String("pin")))
		if err != nil {
			return 0, err
		}
		var got Opened
		if err := f.Decode(&got, v.Hex("clear_block"), pan); err != nil {
			return 0, err
		}
		if err := samePIN(got, v.String("pin")); err != nil {
			return 0, err
		}
		var fill Fill
		switch f {
		case Format1:
			fill = transactionField(v.String("clear_block"), v.String("pin"))
		case Format3:
			fill = fillOf3(v.String("fill"))
		}
		block, err := f.Append(nil, p, pan, fill)
		if err != nil {
			return 0, err
		}
		return 2, same("clear block", block, v.Hex("clear_block"))
	}
}

// transactionField returns what follows the digits in a block of format 1.
func transactionField(block, digits string) (f Fill) {
	rest := block[2+len(digits):]
	b, err := hex.DecodeString(rest + "0000000000000000"[:16-len(rest)])
	if err != nil {
		panic(err)
	}
	return Fill(b)
}

func vectorPINField4(v testvec.Vector) (int, error) {
	p, err := ParsePIN([]byte(v.String("pin")))
	if err != nil {
		return 0, err
	}
	l := layouts[Format4]
	fill := Fill(v.Hex("random"))
	field := append(binary.BigEndian.AppendUint64(nil, l.pinField(p.bytes(), l.word(fill))), fill[:]...)
	if err := same("PIN field", field, v.Hex("pin_field")); err != nil {
		return 0, err
	}
	got := NewOpened()
	if err := l.parse(got.bytes().pin(), binary.BigEndian.Uint64(v.Hex("pin_field"))); err != nil {
		return 0, err
	}
	return 2, samePIN(got, v.String("pin"))
}

// vectorPANField4 takes the digits past ParsePAN for vectors of the codec alone, and demands that ParsePAN refuses those.
func vectorPANField4(v testvec.Vector) (int, error) {
	var field [format4Size]byte
	xorPANField4(&field, []byte(v.String("pan")))
	if err := same("PAN field", field[:], v.Hex("pan_field")); err != nil {
		return 0, err
	}
	_, err := ParsePAN(v.String("pan"))
	if codec := v.Has("policy") && v.String("policy") == "codec"; codec != (err != nil) {
		return 0, fmt.Errorf("ParsePAN: %v, for the codec alone: %v", err, codec)
	}
	return 2, nil
}

func vectorISO4(v testvec.Vector) (int, error) {
	p, pan, err := parse(v)
	if err != nil {
		return 0, err
	}
	c, err := aes.NewCipher(v.Hex("key"))
	if err != nil {
		return 0, err
	}
	block, err := EncryptFormat4(nil, c, p, pan, Fill(v.Hex("random")))
	if err != nil {
		return 0, err
	}
	if err := same("encrypted block", block, v.Hex("encrypted_block")); err != nil {
		return 0, err
	}
	got, err := DecryptFormat4(c, v.Hex("encrypted_block"), pan)
	if err != nil {
		return 0, err
	}
	return 2, samePIN(got, v.String("pin"))
}

var vectorFormats = map[string]Format{"ISO0": Format0, "ISO1": Format1, "ISO2": Format2, "ISO3": Format3, "ISO4": Format4}

// vectorTranslate does what a host does between two zones, as a whole and step by step.
func vectorTranslate(v testvec.Vector) (int, error) {
	p, pan, err := parse(v)
	if err != nil {
		return 0, err
	}
	from, err := vectorSide(v, "in", pan)
	if err != nil {
		return 0, err
	}
	to, err := vectorSide(v, "out", pan)
	if err != nil {
		return 0, err
	}
	var got Opened
	if err := from.Format.Decrypt(&got, from.Cipher, v.Hex("in_block"), pan); err != nil {
		return 0, err
	}
	if err := samePIN(got, v.String("pin")); err != nil {
		return 0, err
	}
	fill := Fill{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	if v.Has("out_random") {
		fill = Fill(v.Hex("out_random"))
	}
	block, err := to.Format.Encrypt(nil, to.Cipher, p, pan, fill)
	if err != nil {
		return 0, err
	}
	if err := same("outgoing block", block, v.Hex("out_block")); err != nil {
		return 0, err
	}
	block, err = Translate(nil, v.Hex("in_block"), from, to, fill)
	if v.Has("policy") && v.String("policy") == "refused_at_host" {
		if !errors.Is(err, ErrTranslation) || block != nil {
			return 0, fmt.Errorf("from %v to %v: %X, %v, want ErrTranslation", from.Format, to.Format, block, err)
		}
		return 3, nil
	}
	if err != nil {
		return 0, err
	}
	return 3, same("translated block", block, v.Hex("out_block"))
}

// vectorSide reads one side of a translation.
func vectorSide(v testvec.Vector, side string, pan PAN) (Side, error) {
	f, ok := vectorFormats[v.String(side+"_format")]
	if !ok {
		return Side{}, fmt.Errorf("unknown format %q", v.String(side+"_format"))
	}
	var c cipher.Block
	var err error
	if f == Format4 {
		c, err = aes.NewCipher(v.Hex(side + "_key"))
	} else {
		c, err = des.New(v.Hex(side + "_key"))
	}
	return Side{Format: f, PAN: pan, Cipher: c}, err
}

// vectorReject wants the one error of blocks.
func vectorReject(v testvec.Vector) (int, error) {
	f, ok := vectorFormats[strings.ToUpper(v.String("format"))]
	if !ok {
		return 0, fmt.Errorf("unknown format %q", v.String("format"))
	}
	var pan PAN
	if v.Has("pan") {
		var err error
		if pan, err = ParsePAN(v.String("pan")); err != nil {
			return 0, err
		}
	}
	var p Opened
	if err := f.Decode(&p, v.Hex("clear_block"), pan); err != ErrBlock || !p.IsZero() {
		return 0, fmt.Errorf("decoded to %s, %v, want ErrBlock: %s", reveal(p), err, v.String("reason"))
	}
	return 1, nil
}

func vectorRejectEncode(v testvec.Vector) (int, error) {
	if f := v.String("format"); f != "iso0" {
		return 0, fmt.Errorf("unknown format %q", f)
	}
	if _, _, err := parse(v); !errors.Is(err, ErrPIN) && !errors.Is(err, ErrPAN) {
		return 0, fmt.Errorf("%v, want ErrPIN or ErrPAN: %s", err, v.String("reason"))
	}
	return 1, nil
}
