package dukpt

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/pin"
)

// schemeFormats are the formats of each scheme, apart from the switch of the code.
var schemeFormats = map[Scheme][]pin.Format{
	TDES: {pin.Format0, pin.Format1, pin.Format3},
	AES:  {pin.Format4, pin.Format4PAN12},
}

// keyOf is a format that tells zoneKey which cipher.
func keyOf(f pin.Format) pin.Format {
	if f.BlockSize() == 16 {
		return pin.Format4
	}
	return pin.Format0
}

func TestEncryptPINFormats(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 2)
		p, pan := testPIN(t, "1234", "4111111111111111")
		for f := pin.Format(0); f <= pin.Format4PAN12+1; f++ {
			got, err := r.term.EncryptPIN([]byte("x"), f, p, pan)
			if slices.Contains(schemeFormats[b.id.Scheme()], f) {
				if err != nil || len(got) != 1+f.BlockSize() || got[0] != 'x' {
					t.Errorf("%s: EncryptPIN in %v = %X, %v", b.name, f, got, err)
				}
			} else if !errors.Is(err, ErrUnsupported) || string(got) != "x" {
				t.Errorf("%s: EncryptPIN in %v = %X, %v, want ErrUnsupported", b.name, f, got, err)
			}
		}
	}
}

// TestTranslatePINFormats moves a PIN from each format of a scheme to each other one: what the table allows comes out as the
// block that the target makes of the PIN itself.
func TestTranslatePINFormats(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 33)
		p, pan := testPIN(t, "739128", "4111111111111111")
		for _, from := range schemeFormats[b.id.Scheme()] {
			block, err := r.term.EncryptPIN(nil, from, p, pan)
			if err != nil {
				t.Fatal(err)
			}
			for to := pin.Format(0); to <= pin.Format4PAN12+1; to++ {
				zone, err := zoneKey(keyOf(to))
				if err != nil {
					t.Fatal(err)
				}
				out := PINTarget{Format: to, PAN: pan, Key: zone, Fill: pin.Fill{9, 8, 7, 6, 5}}
				got, err := r.host.TranslatePIN([]byte("x"), PINBlock{Format: from, PAN: pan, Block: block}, out)
				if refused := pin.CheckTranslation(from, to, false); refused != nil {
					if !errors.Is(err, pin.ErrTranslation) || string(got) != "x" {
						t.Errorf("%s, %v to %v: %X, %v, want ErrTranslation", b.name, from, to, got, err)
					}
					continue
				}
				want, wantErr := typedInto([]byte("x"), out, p)
				if err != nil || wantErr != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, %v to %v: %X, %v, want %X, %v", b.name, from, to, got, err, want, wantErr)
				}
			}
		}
	}
}

// TestTranslatePINReadAsAnother reads the block of each format as one of each other of the scheme: one error, and no PIN.
func TestTranslatePINReadAsAnother(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		r := testRoles(t, b, 33)
		p, pan := testPIN(t, "739128", "4111111111111111")
		zone, err := zoneKey(formatOf(b.id.Scheme()))
		if err != nil {
			t.Fatal(err)
		}
		for _, made := range schemeFormats[b.id.Scheme()] {
			block, err := r.term.EncryptPIN(nil, made, p, pan)
			if err != nil {
				t.Fatal(err)
			}
			for _, read := range schemeFormats[b.id.Scheme()] {
				out := PINTarget{Format: formatOf(b.id.Scheme()), PAN: pan, Key: zone}
				got, err := r.host.TranslatePIN(nil, PINBlock{Format: read, PAN: pan, Block: block}, out)
				if made == read && err != nil || made != read && (err != ErrVerify || got != nil) {
					t.Errorf("%s: a block of %v read as %v: %X, %v", b.name, made, read, got, err)
				}
			}
		}
	}
}
