package terminal_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// TestZeroizeAfterClose closes a terminal and opens its folder again: the closed one has no say about it any more.
func TestZeroizeAfterClose(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := imported(t, lab)
	first := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	check(t, first.Close())
	second := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	before := medium.Content()
	if err := first.Zeroize(); !errors.Is(err, terminal.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
	for name, b := range before {
		if !slices.Equal(medium.Content()[name], b) {
			t.Errorf("%s has changed", name)
		}
	}
	_, err := second.Sale(t.Context(), sale(t, false))
	check(t, err)
}

// stuck is a medium that cannot remove one file until it is mended.
type stuck struct {
	*terminaltest.FS
	name string
}

func (s *stuck) Remove(name string) error {
	if name == s.name {
		return errors.New("stuck")
	}
	return s.FS.Remove(name)
}

// TestZeroizeAgain repeats one that failed on the way: the folder is still held, and in the end everything is gone.
func TestZeroizeAgain(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	for _, name := range []string{"slot-2", "identity"} {
		medium := &stuck{imported(t, lab), name}
		term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
		if err := term.Zeroize(); err == nil {
			t.Errorf("%s cannot be removed, and Zeroize succeeds", name)
		}
		if _, err := tryOpen(medium, nil); !errors.Is(err, terminal.ErrLocked) {
			t.Errorf("after half of it: %v, want ErrLocked", err)
		}
		medium.name = ""
		check(t, term.Zeroize())
		if c := medium.Content(); c["slot-1"] != nil || c["slot-2"] != nil || c["identity"] != nil {
			t.Error("something is left")
		}
	}
}

func TestZeroize(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := imported(t, lab)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	check(t, term.Zeroize())
	if err := term.Zeroize(); !errors.Is(err, terminal.ErrClosed) {
		t.Errorf("Zeroize again: %v, want ErrClosed", err)
	}
	for name := range medium.Content() {
		if name != "counters" && name != "device.key" {
			t.Errorf("%s is left", name)
		}
	}
	if _, err := tryOpen(medium, nil); !errors.Is(err, terminal.ErrState) {
		t.Errorf("Open afterwards: %v, want ErrState", err)
	}
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	if err := terminal.Import(medium, sealer, lab.Bundle(t)); !errors.Is(err, terminal.ErrExists) {
		t.Errorf("Import afterwards: %v, want ErrExists", err)
	}
}
