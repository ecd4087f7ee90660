package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// disk remembers what a power cut would leave of a file: its content at the last sync that worked.
type disk struct {
	t     *testing.T
	path  string
	kept  string
	fails int // so many syncs fail from now on
}

var errDisk = errors.New("the disk is on fire")

func (d *disk) sync(f *os.File) error {
	if d.fails > 0 {
		d.fails--
		return errDisk
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		d.t.Error(err)
	}
	d.kept = string(b)
	return f.Sync()
}

// holds fails the test unless a power cut would leave the line.
func (d *disk) holds(when, line string) {
	d.t.Helper()
	if !strings.Contains(d.kept, line) {
		d.t.Errorf("%s: a power cut would leave %q, without %q", when, d.kept, line)
	}
}

const issuedLine = `{"v":1,"event":"issued","time":"2026-03-01T12:00:00Z","serial":"4a01","identity":"latchkey://ACME/terminal/T-1","key_hash":"00","not_after":"2026-05-30T12:00:00Z"}` + "\n"

const revokedLine = `{"v":1,"event":"revoked","time":"2026-03-02T12:00:00Z","serial":"4a01","reason":1}` + "\n"

func openOn(t *testing.T, content string) (*ledger, *disk) {
	t.Helper()
	d := &disk{t: t, path: filepath.Join(t.TempDir(), LedgerFile)}
	if err := os.WriteFile(d.path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return d.open(), d
}

func (d *disk) open() *ledger {
	d.t.Helper()
	l, err := openLedger(d.path, d.sync)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = l.close() })
	return l
}

// revoke does what Issuer.Revoke does: a revocation that is there already is good.
func revoke(l *ledger) error {
	return l.do(func() error {
		if _, ok := l.revoked["4a01"]; ok {
			return nil
		}
		return l.append(entry{Event: eventRevoked, Time: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), Serial: "4a01", Reason: 1})
	})
}

func TestAppendIsDurable(t *testing.T) {
	t.Parallel()
	l, d := openOn(t, issuedLine)
	d.holds("after opening", issuedLine)
	if err := revoke(l); err != nil {
		t.Fatal(err)
	}
	d.holds("after revoking", issuedLine+revokedLine)
}

// TestLinesOfOthersAreDurable writes as a process does that is killed between its write and its sync.
func TestLinesOfOthersAreDurable(t *testing.T) {
	t.Parallel()
	l, d := openOn(t, issuedLine)
	if err := os.WriteFile(d.path, []byte(issuedLine+revokedLine), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := revoke(l); err != nil {
		t.Fatal(err)
	}
	d.holds("revoked again", revokedLine)

	l, d = openOn(t, issuedLine)
	if err := os.WriteFile(d.path, []byte(issuedLine+revokedLine), 0o600); err != nil {
		t.Fatal(err)
	}
	d.fails = 1
	if err := revoke(l); !errors.Is(err, errDisk) {
		t.Errorf("revoked again without a sync: %v, want %v", err, errDisk)
	}
	if err := revoke(l); err == nil {
		d.holds("and again", revokedLine)
	}
}

// TestFailedSync is about a system that drops what it could not sync and says so once: a later success proves nothing.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	l, d := openOn(t, issuedLine)
	d.fails = 1
	if err := revoke(l); !errors.Is(err, errDisk) {
		t.Fatalf("revoke: %v, want %v", err, errDisk)
	}
	if b, err := os.ReadFile(d.path); err != nil || string(b) != issuedLine {
		t.Errorf("the ledger holds %q (%v), want the line cut off that was not synced", b, err)
	}
	for range 2 {
		if err := revoke(l); !errors.Is(err, errDisk) {
			t.Errorf("revoke with the same ledger: %v, want %v until it is opened again", err, errDisk)
		}
	}
	if err := revoke(d.open()); err != nil {
		t.Fatal(err)
	}
	d.holds("opened again", issuedLine+revokedLine)
}

// TestOpenWithoutSync refuses to work on lines that may not last.
func TestOpenWithoutSync(t *testing.T) {
	t.Parallel()
	_, d := openOn(t, issuedLine)
	d.fails = 1
	if _, err := openLedger(d.path, d.sync); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want %v", err, errDisk)
	}
}

// TestTwoLedgersAtOnce has two ledgers on one file append as fast as they can, as two processes do: no line is lost.
func TestTwoLedgersAtOnce(t *testing.T) {
	t.Parallel()
	const each = 200
	path := filepath.Join(t.TempDir(), LedgerFile)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() *ledger {
		l, err := openLedger(path, func(*os.File) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.close() })
		return l
	}
	var wg sync.WaitGroup
	for who, l := range []*ledger{open(), open()} {
		wg.Go(func() {
			for n := range each {
				e := entry{Event: eventIssued, Serial: fmt.Sprintf("%02x%04x", who+1, n)}
				if err := l.do(func() error { return l.append(e) }); err != nil {
					t.Errorf("append: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(open().issued); n != 2*each {
		t.Errorf("%d lines, want %d", n, 2*each)
	}
}

// TestIssueChecksWhatItSigned gives an issuer the signer of another authority: nothing of what it signs is returned or
// recorded.
func TestIssueChecksWhatItSigned(t *testing.T) {
	t.Parallel()
	phrase := secret.From([]byte("correct horse battery"))
	defer phrase.Wipe()
	open := func() *Issuer {
		i, err := Create(filepath.Join(t.TempDir(), "ca"), Terminals, phrase, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = i.Close() })
		return i
	}
	honest, other := open(), open()
	honest.signer = other.signer
	issued, err := honest.Issue(t.Context(), catest.NewRequest(identity.Terminal, "T-1"))
	if !errors.Is(err, ca.ErrMismatch) || issued != nil {
		t.Errorf("got %d certificates and %v, want ca.ErrMismatch", len(issued), err)
	}
	if n := len(honest.ledger.issued); n != 0 {
		t.Errorf("%d certificates are in the ledger, want none", n)
	}
}

// TestIssuerSyncsForReal holds what programs open to the real sync, which fails on a closed file.
func TestIssuerSyncsForReal(t *testing.T) {
	t.Parallel()
	phrase := secret.From([]byte("correct horse battery"))
	defer phrase.Wipe()
	i, err := Create(filepath.Join(t.TempDir(), "ca"), Terminals, phrase, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	if err := i.ledger.sync(i.ledger.file); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sync of a closed ledger: %v, want os.ErrClosed", err)
	}
}
