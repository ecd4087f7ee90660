package pin

import (
	"errors"
	"testing"
)

func TestFormatNames(t *testing.T) {
	t.Parallel()
	for f, name := range map[Format]string{
		Format0: "ISO_FORMAT_0", Format1: "ISO_FORMAT_1", Format2: "ISO_FORMAT_2", Format3: "ISO_FORMAT_3", Format4: "ISO_FORMAT_4",
		Format4PAN12: "ISO_FORMAT_4_PAN_12",
	} {
		got, err := ParseFormat(name)
		if err != nil || got != f || f.String() != name {
			t.Errorf("ParseFormat(%q) = %v, %v; %d prints %q", name, got, err, uint8(f), f)
		}
	}
	for _, s := range []string{"", "ISO_FORMAT_5", "iso_format_0", "Format(0)", "0", "ISO_FORMAT_0 ", "ISO_FORMAT_4_PAN_19"} {
		if f, err := ParseFormat(s); !errors.Is(err, ErrFormat) || f != 0 {
			t.Errorf("ParseFormat(%q) = %v, %v, want ErrFormat", s, f, err)
		}
	}
	for _, f := range []Format{0, Format4PAN12 + 1, 255} {
		if f.IsValid() || f.HasPAN() || f.BlockSize() != 0 {
			t.Errorf("%v: valid %v, PAN %v, %d bytes", f, f.IsValid(), f.HasPAN(), f.BlockSize())
		}
	}
	if got := Format(7).String(); got != "Format(7)" {
		t.Errorf("an unknown format prints %q", got)
	}
}

func TestFormatFacts(t *testing.T) {
	t.Parallel()
	for f, want := range map[Format]struct {
		pan  bool
		size int
	}{
		Format0: {true, 8}, Format1: {false, 8}, Format2: {false, 8}, Format3: {true, 8}, Format4: {true, 16}, Format4PAN12: {true, 16},
	} {
		if !f.IsValid() || f.HasPAN() != want.pan || f.BlockSize() != want.size {
			t.Errorf("%v: valid %v, PAN %v, %d bytes, want %+v", f, f.IsValid(), f.HasPAN(), f.BlockSize(), want)
		}
	}
}
