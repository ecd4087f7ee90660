package terminal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// TestDamagedState damages every file of a used terminal in turn: Open says so and changes nothing.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := used(t, lab)
	if n := len(medium.Content()); n != 7 {
		t.Fatalf("%d files, want device.key, identity, counters, two slots, two messages", n)
	}
	damage(t, medium)
}

// TestDamagedMember does the same to one that has enrolled, with a key that waits and a renewal that was interrupted.
func TestDamagedMember(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	lost := func() terminaltest.Fault { return terminaltest.RequestLost }
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: lost})
	ra.Order(terminaltest.PINSlot)
	if err := term.Rekey(t.Context()); !errors.Is(err, terminaltest.ErrLost) {
		t.Fatalf("rekey: %v, want ErrLost", err)
	}
	ra.Refuse = func(string) *enroll.Refusal { return &enroll.Refusal{Status: 503, Code: "Busy", Message: "later"} }
	if err := term.Renew(t.Context()); err == nil {
		t.Fatal("a busy authority is no error")
	}
	check(t, term.Close())
	if n := len(medium.Content()); n != 7 {
		t.Fatalf("%d files, want device.key, identity, identity-next, counters, two slots, slot-2-next", n)
	}
	damage(t, medium)
}

func damage(t *testing.T, medium *terminaltest.FS) {
	t.Helper()
	content := medium.Content()
	try := func(what string, damaged *terminaltest.FS) {
		t.Helper()
		before := damaged.Content()
		if _, err := tryOpen(damaged, nil); !errors.Is(err, terminal.ErrState) {
			t.Fatalf("%s: %v, want ErrState", what, err)
		}
		for name, b := range damaged.Content() {
			if !slices.Equal(b, before[name]) {
				t.Fatalf("%s: %s has changed", what, name)
			}
		}
	}
	tried := 0
	for name, b := range content {
		copies, size := 3, len(b)/3
		if name == "device.key" {
			copies, size = 1, len(b)
		}
		for n := 0; n < size; n += 1 + size/24 {
			damaged := medium.Clone()
			damaged.Truncate(name, n)
			try(name+" truncated", damaged)
			tried++
		}
		for bit := range 64 {
			damaged := medium.Clone()
			for n := range copies {
				damaged.Flip(name, n*size*8+(bit+n)%64*(filled(b[:size])*8-1)/63)
			}
			try(name+" with a flipped bit in each copy", damaged)
			tried++
		}
		if !strings.HasPrefix(name, "message-") && name != "device.key" && name != "identity-next" {
			damaged := medium.Clone()
			check(t, damaged.Remove(name))
			try(name+" removed", damaged)
			tried++
		}
	}
	if tried < 7*80 {
		t.Errorf("only %d kinds of damage were tried", tried)
	}
	mended(t, medium)
	open(t, medium, nil)
}

// filled is how many bytes of a copy say something: what follows is zero. It is all of the device key.
func filled(copied []byte) int {
	if len(copied) < 24 || string(copied[:4]) != "LKC1" {
		return len(copied)
	}
	return 24 + int(binary.BigEndian.Uint32(copied[16:]))
}

// mended damages two of three copies of each file: the terminal starts, and has three again.
func mended(t *testing.T, medium *terminaltest.FS) {
	t.Helper()
	for name, b := range medium.Content() {
		if name == "device.key" || name == "identity-next" { // the one has no copies, the other goes when a renewal ends
			continue
		}
		size := len(b) / 3
		for good := range 3 {
			for bit := range 32 {
				damaged := medium.Clone()
				for n := range 3 {
					if n != good {
						damaged.Flip(name, n*size*8+bit*(size*8-1)/31)
					}
				}
				term, err := tryOpen(damaged, nil)
				if err != nil {
					t.Fatalf("%s, copy %d alone is good: %v", name, good, err)
				}
				check(t, term.Close())
				whole(t, name, damaged)
			}
		}
		for _, left := range []int{size, 2 * size, 3*size - 1} {
			damaged := medium.Clone()
			damaged.Truncate(name, left)
			term, err := tryOpen(damaged, nil)
			if err != nil {
				t.Fatalf("%s, cut to %d bytes: %v", name, left, err)
			}
			check(t, term.Close())
			whole(t, name, damaged)
		}
	}
}

// whole demands three equal copies of a file.
func whole(t *testing.T, name string, medium *terminaltest.FS) {
	t.Helper()
	b := medium.Content()[name]
	size := len(b) / 3
	if size == 0 || size%4096 != 0 || !bytes.Equal(b[:size], b[size:2*size]) || !bytes.Equal(b[:size], b[2*size:]) {
		t.Fatalf("%s has %d bytes that are not three equal copies", name, len(b))
	}
}

// TestInspectMendsNothing: to look is not to change, whatever is found.
func TestInspectMendsNothing(t *testing.T) {
	t.Parallel()
	medium := imported(t, terminaltest.NewLab(t, dukpt.AES))
	medium.Flip("slot-1", 300)
	before := medium.Content()
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	_, err = terminal.Inspect(terminal.Options{FS: medium, Sealer: sealer})
	check(t, err)
	same(t, before, medium)
}

// TestForgedCopy: a copy with another generation, and a checksum to go with it, is not what the sealer has sealed.
func TestForgedCopy(t *testing.T) {
	t.Parallel()
	medium := imported(t, terminaltest.NewLab(t, dukpt.AES))
	b := medium.Content()["slot-1"]
	size := len(b) / 3
	for n := range 3 {
		forged := b[n*size:][:size]
		forged[15]++ // the generation
		sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
		sum.Write(forged[:20])
		sum.Write(forged[24:filled(forged)])
		binary.BigEndian.PutUint32(forged[20:], sum.Sum32())
		damaged := medium.Clone()
		check(t, terminal.WriteFile(damaged, "slot-1", b))
		term, err := tryOpen(damaged, nil)
		if n == 2 {
			if !errors.Is(err, terminal.ErrState) {
				t.Errorf("three forged copies: %v, want ErrState", err)
			}
			continue
		}
		check(t, err)
		check(t, term.Close())
		whole(t, "slot-1", damaged)
		if got := damaged.Content()["slot-1"]; !bytes.Equal(got[:size], b[2*size:]) {
			t.Errorf("%d forged copies: the genuine one is not what is left", n+1)
		}
	}
}

// TestDamagedEnrolment damages the file of an enrolment under way: Enroll says so and changes nothing.
func TestDamagedEnrolment(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	ra.Refuse = func(path string) *enroll.Refusal {
		if path != terminaltest.PathAssignment {
			return nil
		}
		return &enroll.Refusal{Status: 503, Code: "Busy", Message: "later"}
	}
	medium := terminaltest.NewFS()
	if err := enrolInto(t.Context(), medium, options(t, ra)); err == nil {
		t.Fatal("a busy authority is no error")
	}
	b := medium.Content()["enrolment"]
	size := len(b) / 3
	for bit := range 64 {
		damaged := medium.Clone()
		for n := range 3 {
			damaged.Flip("enrolment", n*size*8+bit*(filled(b)*8-1)/63)
		}
		before := damaged.Content()
		if err := enrolInto(t.Context(), damaged, options(t, ra)); !errors.Is(err, terminal.ErrState) {
			t.Errorf("bit %d: %v, want ErrState", bit, err)
		}
		same(t, before, damaged)
	}
}

// TestSwappedFiles puts genuine files in each other's places.
func TestSwappedFiles(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	medium := imported(t, lab)
	content := medium.Content()
	for _, c := range [][2]string{{"slot-1", "slot-2"}, {"identity", "counters"}} {
		damaged := medium.Clone()
		check(t, terminal.WriteFile(damaged, c[0], content[c[1]]))
		check(t, terminal.WriteFile(damaged, c[1], content[c[0]]))
		if _, err := tryOpen(damaged, nil); !errors.Is(err, terminal.ErrState) {
			t.Errorf("%v: %v, want ErrState", c, err)
		}
	}
	other := imported(t, lab)
	damaged := medium.Clone()
	check(t, terminal.WriteFile(damaged, "slot-1", other.Content()["slot-1"]))
	if _, err := tryOpen(damaged, nil); !errors.Is(err, terminal.ErrState) {
		t.Errorf("slot of another device: %v, want ErrState", err)
	}
}
