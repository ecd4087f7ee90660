package pin

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"testing"
)

// openedOf returns a PIN that came out of a block of a format.
func openedOf(t *testing.T, f Format, digits string, pan PAN) Opened {
	t.Helper()
	o := NewOpened()
	if f == Format2 {
		block, err := f.Append(nil, mustPIN(t, digits), pan, Fill{})
		if err == nil {
			err = f.Decode(&o, block, pan)
		}
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	c := testCipher(t, f, 1)
	block, err := f.Encrypt(nil, c, mustPIN(t, digits), pan, Fill{1, 2, 3})
	if err == nil {
		err = f.Decrypt(&o, c, block, pan)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestOpenedKeepsToTheTable opens a PIN of every format, through every copy, and puts it where the table allows and where it
// does not.
func TestOpenedKeepsToTheTable(t *testing.T) {
	t.Parallel()
	pan, other := mustPAN(t, "4111111111111111"), mustPAN(t, "4012345678909")
	for _, from := range everyFormat {
		o := openedOf(t, from, "739128", pan)
		seen := o // the copy knows what it holds too
		for _, to := range everyFormat {
			c := testCipher(t, to, 2)
			for _, target := range []PAN{pan, other} {
				got, err := seen.Encrypt([]byte("x"), Side{Format: to, PAN: target, Cipher: c}, Fill{9})
				if refused := CheckTranslation(from, to, target.Equal(other)); refused != nil {
					if err == nil || err.Error() != refused.Error() || string(got) != "x" {
						t.Errorf("%v to %v, %v: %X, %v, want %v", from, to, target, got, err, refused)
					}
					continue
				}
				want, wantErr := to.Encrypt([]byte("x"), c, mustPIN(t, "739128"), target, Fill{9})
				if err != nil || wantErr != nil || !bytes.Equal(got, want) {
					t.Errorf("%v to %v, %v: %X, %v, want %X, %v", from, to, target, got, err, want, wantErr)
				}
			}
		}
	}
}

// TestOpenedIsBoundToItsPAN changes the PAN by a digit, in length, and takes it away.
func TestOpenedIsBoundToItsPAN(t *testing.T) {
	t.Parallel()
	for _, digits := range []string{"12345678", "4111111111111111", "6304918273645509182"} {
		pan := mustPAN(t, digits)
		o := openedOf(t, Format4, "1234", pan)
		pan.Wipe() // what is remembered is a copy
		side := Side{Format: Format4, PAN: mustPAN(t, digits), Cipher: testCipher(t, Format4, 2)}
		if _, err := o.Encrypt(nil, side, Fill{}); err != nil {
			t.Errorf("%s: its own PAN: %v", digits, err)
		}
		others := []PAN{{}, pan}
		for i := range digits {
			b := []byte(digits)
			b[i] ^= 1
			others = append(others, mustPAN(t, string(b)))
		}
		if len(digits) > minPAN {
			others = append(others, mustPAN(t, digits[1:]), mustPAN(t, digits[:len(digits)-1]))
		}
		if len(digits) < maxPAN {
			others = append(others, mustPAN(t, digits+"0"), mustPAN(t, "0"+digits))
		}
		for _, other := range others {
			side.PAN = other
			if got, err := o.Encrypt(nil, side, Fill{}); !errors.Is(err, ErrTranslation) || got != nil {
				t.Errorf("%s: with %v: %X, %v, want ErrTranslation", digits, other, got, err)
			}
		}
	}
}

// TestOpenedRereads shows that a second block makes the PIN forget the first one, also when it does not open.
func TestOpenedRereads(t *testing.T) {
	t.Parallel()
	pan, long := mustPAN(t, "4111111111111111"), mustPAN(t, "6304918273645509182")
	o := openedOf(t, Format4, "1234", long)
	free := Side{Format: Format1, Cipher: testCipher(t, Format1, 2)}
	if _, err := o.Encrypt(nil, free, Fill{}); !errors.Is(err, ErrTranslation) {
		t.Errorf("format 4 to 1: %v, want ErrTranslation", err)
	}
	c := testCipher(t, Format1, 1)
	block, err := Format1.Encrypt(nil, c, mustPIN(t, "5678"), PAN{}, Fill{1})
	if err == nil {
		err = Format1.Decrypt(&o, c, block, pan) // looks at no PAN, and remembers none
	}
	if err != nil || reveal(o) != "5678" || bytes.Contains(o.bytes()[:], []byte("4111")) || bytes.Contains(o.bytes()[:], []byte("6304")) {
		t.Errorf("format 1 after format 4: %s, %v, %X", reveal(o), err, *o.bytes())
	}
	if _, err := o.Encrypt(nil, free, Fill{}); err != nil {
		t.Errorf("format 1 to 1: %v", err)
	}
	block[0] ^= 1
	if err := Format1.Decrypt(&o, c, block, pan); err != ErrBlock || *o.bytes() != (openedMemory{}) {
		t.Errorf("a block that does not open: %v leaves %X", err, *o.bytes())
	}
}

// TestOpenedNeeds takes away what the next block needs, one thing at a time.
func TestOpenedNeeds(t *testing.T) {
	t.Parallel()
	pan := mustPAN(t, "4111111111111111")
	zero, one := openedOf(t, Format0, "1234", pan), openedOf(t, Format1, "1234", PAN{})
	cleared, wiped := openedOf(t, Format0, "1234", pan), openedOf(t, Format0, "1234", pan)
	cleared.Clear()
	wiped.Wipe()
	tdes, aes := testCipher(t, Format0, 1), testCipher(t, Format4, 2)
	for name, c := range map[string]struct {
		o      Opened
		f      Format
		pan    PAN
		cipher cipher.Block
		want   error
	}{
		"all there":     {zero, Format4, pan, aes, nil},
		"zero value":    {Opened{}, Format4, pan, aes, ErrPIN},
		"nothing read":  {NewOpened(), Format4, pan, aes, ErrPIN},
		"cleared":       {cleared, Format4, pan, aes, ErrPIN},
		"wiped":         {wiped, Format4, pan, aes, ErrPIN},
		"no format":     {zero, 0, pan, aes, ErrTranslation},
		"no cipher":     {zero, Format4, pan, nil, ErrFormat},
		"AES for TDES":  {zero, Format0, pan, aes, ErrFormat},
		"TDES for AES":  {zero, Format4, pan, tdes, ErrFormat},
		"PAN lost":      {zero, Format3, PAN{}, tdes, ErrTranslation},
		"PAN not given": {one, Format3, PAN{}, tdes, ErrPAN},
		"to a chip":     {one, Format2, PAN{}, tdes, ErrTranslation},
	} {
		got, err := c.o.Encrypt([]byte("x"), Side{Format: c.f, PAN: c.pan, Cipher: c.cipher}, Fill{})
		if !errors.Is(err, c.want) || err != nil && string(got) != "x" {
			t.Errorf("%s: %X, %v, want %v", name, got, err, c.want)
		}
	}
}
