package terminal_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// faulty is a medium of which one call fails, or every one from there on: full, broken, or read only.
type faulty struct {
	*terminaltest.FS
	name    string
	err     error
	at      int  // the call that fails; counted down
	forever bool // and all that write after it
	reads   bool // reads count, and fail, too
	hit     bool
}

// fails reports whether this call does.
func (f *faulty) fails() bool {
	f.at--
	if f.at < 0 && f.forever || f.at == -1 {
		f.hit = true
		return true
	}
	return false
}

func (f *faulty) wrap(op string) error {
	if !f.fails() {
		return nil
	}
	return &fs.PathError{Op: op, Path: "medium", Err: f.err}
}

func (f *faulty) Create(name string) (terminal.File, error) {
	if err := f.wrap("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return &faultyFile{file, f}, err
}

func (f *faulty) Open(name string) (terminal.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if f.reads {
		if err := f.wrap("open"); err != nil {
			return nil, err
		}
	}
	return &faultyFile{file, f}, nil
}

func (f *faulty) Rename(from, to string) error {
	if err := f.wrap("rename"); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *faulty) Remove(name string) error {
	if err := f.wrap("remove"); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *faulty) SyncDir() error {
	if err := f.wrap("sync"); err != nil {
		return err
	}
	return f.FS.SyncDir()
}

type faultyFile struct {
	terminal.File
	medium *faulty
}

// WriteAt writes half of it when it fails, as a disk that is full does.
func (f *faultyFile) WriteAt(b []byte, at int64) (int, error) {
	if err := f.medium.wrap("write"); err != nil {
		n, _ := f.File.WriteAt(b[:len(b)/2], at)
		return n, err
	}
	return f.File.WriteAt(b, at)
}

func (f *faultyFile) ReadAt(b []byte, at int64) (int, error) {
	if f.medium.reads {
		if err := f.medium.wrap("read"); err != nil {
			return 0, err
		}
	}
	return f.File.ReadAt(b, at)
}

func (f *faultyFile) Sync() error {
	if err := f.medium.wrap("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

// TestFaultyMedium has every call on the medium fail in turn, once or from there on, while a terminal sells. What it cannot do it
// must say; no key may serve twice; and when the medium works again the terminal has every message that it called unanswered,
// and no other, in the process that saw the fault and in the next one.
func TestFaultyMedium(t *testing.T) {
	t.Parallel()
	found := faults(t)
	t.Logf("%d faults of the medium", found.runs)
	if !found.clean() {
		t.Errorf("%v: %s", found, found.first)
	}
	if found.runs < 400 {
		t.Errorf("only %d faults", found.runs)
	}
}

func faults(t *testing.T) (found findings) {
	t.Helper()
	for i, c := range []faulty{
		{name: "EIO once", err: syscall.EIO},
		{name: "EIO once, of reads too", err: syscall.EIO, reads: true},
		{name: "EIO for ever", err: syscall.EIO, forever: true},
		{name: "full", err: syscall.ENOSPC, forever: true},
		{name: "read only", err: syscall.EROFS, forever: true},
	} {
		lab := terminaltest.NewLab(t, schemes[i%2])
		sealer := newElement(t)
		medium := terminaltest.NewFS()
		check(t, terminal.Import(medium, sealer, lab.Bundle(t)))
		start := newSite(sealer, lab.Host)
		start.begin(t, medium)
		for at := 0; ; at++ {
			s := start.fork(medium.Clone(), &found)
			bad := c
			bad.FS, bad.at = s.medium, at
			if !s.struggle(t, &bad) {
				break
			}
			found.runs++
			s.through = nil
			if s.kept = !c.forever; !s.kept {
				clear(s.owed) // nothing can be promised on a medium that takes nothing any more; the host's ledger tells
			}
			if s.recover(t) {
				t.Fatal("a cut that nobody made")
			}
			s.judge()
		}
	}
	return found
}

// struggle sells like sell and goes on after errors, in the same process; for its last sales the medium works again. It reports
// whether there was a fault, and demands that what it meets is that.
func (s *site) struggle(t *testing.T, bad *faulty) bool {
	t.Helper()
	s.through = bad
	r := rand.New(rand.NewPCG(9, 9))
	expect := func(what string, err error) {
		if err != nil && !errors.Is(err, terminaltest.ErrLost) && !errors.Is(err, bad.err) {
			t.Errorf("%s, %s: %v, want it to say %v", bad.name, what, err, bad.err)
		}
	}
	term, err := s.open(s.wire(func() terminaltest.Fault { return terminaltest.Fault(r.IntN(3)) }))
	if err != nil {
		expect("open", err)
		return bad.hit
	}
	for n := range exploredSales {
		var result *terminal.SaleResult
		p := term.Pending()
		switch do := r.IntN(4); {
		case len(p) > 0 && do < 2:
			result, err = term.Resend(t.Context(), &p[0])
			s.know(result, p[0].Sequence, err)
		case do == 2:
			err = s.offline(term.SaleOffline(sale(t, false)))
		default:
			result, err = term.Sale(t.Context(), sale(t, n%2 == 0))
			s.know(result, 0, err)
		}
		expect("sale", err)
		if bad.hit && n > exploredSales/2 {
			bad.forever = false
		}
	}
	expect("close", term.Close())
	return bad.hit
}
