package main

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestDrawQR reads the drawing back, module by module: it is the code, inside of its quiet zone.
func TestDrawQR(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"x", strings.Repeat("latchkey-enrol 1\n", 16)} {
		picture, err := drawQR(text)
		if err != nil {
			t.Fatal(err)
		}
		code, err := qr.Encode(text, qr.M)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
		if want := (code.Size + 2*quietZone + 1) / 2; len(lines) != want {
			t.Fatalf("%d lines, want %d", len(lines), want)
		}
		dark := 0
		for i, line := range lines {
			row := []rune(line)
			if len(row) != code.Size+2*quietZone {
				t.Fatalf("line %d has %d characters", i, len(row))
			}
			for x, r := range row {
				upper, lower := r == '█' || r == '▀', r == '█' || r == '▄'
				for n, got := range []bool{upper, lower} {
					y := 2*i + n - quietZone
					if got != code.Black(x-quietZone, y) {
						t.Fatalf("module %d, %d is %t", x-quietZone, y, got)
					}
					if got {
						dark++
					}
				}
			}
		}
		if dark < code.Size*code.Size/4 {
			t.Errorf("%d dark modules of %d", dark, code.Size*code.Size)
		}
	}
	if _, err := drawQR(strings.Repeat("x", 5000)); err == nil {
		t.Error("a text that is too long is drawn")
	}
}
