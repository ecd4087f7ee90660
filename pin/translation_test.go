package pin

import (
	"bytes"
	"errors"
	"testing"
)

// translationCells restates PCI PIN requirement 3-3 cell by cell, apart from the table of the code. Upper case: whatever the
// PAN; lower case: only while it stays.
var translationCells = map[Format]string{ // towards formats 0 1 2 3 4; y or Y permitted, n never, c to a chip only
	Format0: "yncyy",
	Format1: "YYcYY",
	Format2: "nncnn",
	Format3: "yncyy",
	Format4: "yncyy",
}

// translationText is what the refusal of a cell says behind the two formats.
var translationText = map[byte]string{'n': "", 'c': " except to a chip card", 'y': " with another PAN"}

// bothFields are the values that stand for the format of a row or column.
func bothFields(f Format) []Format {
	if f == Format4 {
		return []Format{Format4, Format4PAN12}
	}
	return []Format{f}
}

func TestCheckTranslation(t *testing.T) {
	t.Parallel()
	cells := 0
	for row := Format0; row <= Format4; row++ {
		for column := Format0; column <= Format4; column++ {
			for _, changed := range []bool{false, true} {
				cells++
				for _, from := range bothFields(row) {
					for _, to := range bothFields(column) {
						checkCell(t, from, to, changed, translationCells[row][column-Format0])
					}
				}
			}
		}
	}
	if cells != 50 {
		t.Errorf("%d cells, want 25 with and without another PAN", cells)
	}
	for _, pair := range [][2]Format{{0, Format0}, {Format0, 0}, {Format4PAN12 + 1, Format0}, {Format1, Format4PAN12 + 1}, {Format0, 255}} {
		if err := CheckTranslation(pair[0], pair[1], false); !errors.Is(err, ErrTranslation) {
			t.Errorf("CheckTranslation(%v) = %v, want ErrTranslation", pair, err)
		}
	}
}

func checkCell(t *testing.T, from, to Format, changed bool, cell byte) {
	t.Helper()
	err := CheckTranslation(from, to, changed)
	if cell == 'Y' || cell == 'y' && !changed {
		if err != nil {
			t.Errorf("CheckTranslation(%v, %v, %v) = %v, want nil", from, to, changed, err)
		}
		return
	}
	want := "pin: translation not permitted: from " + from.String() + " to " + to.String() + translationText[cell]
	if !errors.Is(err, ErrTranslation) || err.Error() != want {
		t.Errorf("CheckTranslation(%v, %v, %v) = %v, want %q", from, to, changed, err, want)
	}
}

// TestTranslate moves a PIN from every format that is enciphered to every format, with the same PAN and with another.
func TestTranslate(t *testing.T) {
	t.Parallel()
	p, pan, other := mustPIN(t, "739128"), mustPAN(t, "4111111111111111"), mustPAN(t, "4012345678909")
	fill, newFill := Fill{1, 2, 3, 4, 5, 6, 7, 8}, Fill{9, 8, 7, 6, 5, 4, 3, 2}
	for from := Format0; from <= Format4PAN12; from++ {
		if from == Format2 {
			continue // never under a key
		}
		block, err := from.Encrypt(nil, testCipher(t, from, 1), p, pan, fill)
		if err != nil {
			t.Fatal(err)
		}
		for to := Format0; to <= Format4PAN12; to++ {
			for _, target := range []PAN{pan, other} {
				in := Side{Format: from, PAN: pan, Cipher: testCipher(t, from, 1)}
				out := Side{Format: to, PAN: target, Cipher: testCipher(t, to, 2)}
				got, err := Translate([]byte("x"), block, in, out, newFill)
				if refused := CheckTranslation(from, to, !target.Equal(pan)); refused != nil {
					if !errors.Is(err, ErrTranslation) || string(got) != "x" {
						t.Errorf("%v to %v, %v: %X, %v, want ErrTranslation", from, to, target, got, err)
					}
					continue
				}
				want, wantErr := to.Encrypt([]byte("x"), testCipher(t, to, 2), p, target, newFill)
				if err != nil || wantErr != nil || !bytes.Equal(got, want) {
					t.Errorf("%v to %v, %v: %X, %v, want %X, %v", from, to, target, got, err, want, wantErr)
				}
			}
		}
	}
}

func TestTranslateRefuses(t *testing.T) {
	t.Parallel()
	p, pan, other := mustPIN(t, "739128"), mustPAN(t, "4111111111111111"), mustPAN(t, "4012345678909")
	tdes, aes := testCipher(t, Format0, 1), testCipher(t, Format4, 2)
	block, err := Format0.Encrypt(nil, tdes, p, pan, Fill{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from, to Side
		want     error
	}{
		"block of another PAN": {Side{Format0, other, tdes}, Side{Format4, other, aes}, ErrBlock},
		"another key":          {Side{Format0, pan, testCipher(t, Format0, 3)}, Side{Format4, pan, aes}, ErrBlock},
		"read as format 1":     {Side{Format1, pan, tdes}, Side{Format4, pan, aes}, ErrBlock},
		"read as format 3":     {Side{Format3, pan, tdes}, Side{Format4, pan, aes}, ErrBlock},
		"read as format 4":     {Side{Format4, pan, aes}, Side{Format4, pan, aes}, ErrBlock},
		"PAN lost":             {Side{Format0, pan, tdes}, Side{Format4, PAN{}, aes}, ErrTranslation},
		"no PAN at all":        {Side{Format0, PAN{}, tdes}, Side{Format4, PAN{}, aes}, ErrTranslation},
		"from TDES with AES":   {Side{Format0, pan, aes}, Side{Format4, pan, aes}, ErrFormat},
		"to AES with TDES":     {Side{Format0, pan, tdes}, Side{Format4, pan, tdes}, ErrFormat},
		"to nothing":           {Side{Format0, pan, tdes}, Side{}, ErrTranslation},
	} {
		got, err := Translate([]byte("x"), block, c.from, c.to, Fill{})
		if !errors.Is(err, c.want) || string(got) != "x" {
			t.Errorf("%s: %X, %v, want %v", name, got, err, c.want)
		}
		if c.want == ErrBlock && err != ErrBlock {
			t.Errorf("%s: %v says more than ErrBlock", name, err)
		}
	}
	one, err := Format1.Encrypt(nil, tdes, p, PAN{}, Fill{1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Translate(nil, one, Side{Format: Format1, Cipher: tdes}, Side{Format: Format0, Cipher: tdes}, Fill{}); !errors.Is(err, ErrPAN) || got != nil {
		t.Errorf("format 1 to format 0 without a PAN: %X, %v, want ErrPAN", got, err)
	}
}
