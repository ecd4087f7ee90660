package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

const goodLedger = `{"v":1,"event":"issued","time":"2026-03-01T12:00:00Z","serial":"4a01","identity":"latchkey://ACME/terminal/T-1","key_hash":"00","not_after":"2026-05-30T12:00:00Z"}
{"v":1,"event":"revoked","time":"2026-03-02T12:00:00Z","serial":"4a01","reason":1}
{"v":1,"event":"crl","time":"2026-03-02T12:00:00Z","number":1}
`

func ledgerOf(t testing.TB, content []byte) (string, *ledger, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), LedgerFile)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := openLedger(path, (*os.File).Sync)
	return path, l, err
}

// TestLedgerForm holds the stored form still: what was written once is read for years.
func TestLedgerForm(t *testing.T) {
	t.Parallel()
	_, want, err := ledgerOf(t, []byte(goodLedger))
	if err != nil {
		t.Fatal(err)
	}
	defer want.close()
	path, got, err := ledgerOf(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer got.close()
	for _, e := range []entry{want.issued["4a01"], want.revoked["4a01"], {Event: eventCRL, Time: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), Number: 1}} {
		if err := got.do(func() error { return got.append(e) }); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != goodLedger {
		t.Errorf("wrote %s (%v), want %s", b, err, goodLedger)
	}
}

// FuzzLedger: lines that are taken are whole, can be written and read again, and add up to the same however they are cut.
func FuzzLedger(f *testing.F) {
	f.Add([]byte(goodLedger))
	f.Add([]byte(goodLedger + `{"v":1`))
	f.Add([]byte(goodLedger + goodLedger))
	f.Fuzz(func(t *testing.T, content []byte) {
		all := newRecords()
		n, err := all.absorb(content)
		if string(content) == goodLedger && (err != nil || len(all.issued) != 1 || len(all.revoked) != 1 || all.number != 1) {
			t.Fatalf("the good ledger: %+v, %v", all, err)
		}
		if n > 0 && content[n-1] != '\n' || err == nil && n != int64(bytes.LastIndexByte(content, '\n')+1) {
			t.Fatalf("%q: %d bytes are whole lines, %v", content, n, err)
		}
		if err == nil {
			pieces := newRecords()
			for line := range bytes.Lines(content) {
				if _, err := pieces.absorb(line); err != nil {
					t.Fatalf("%q line by line: %v", content, err)
				}
			}
			if diff := cmp.Diff(all, pieces, cmp.AllowUnexported(records{})); diff != "" {
				t.Fatalf("%q line by line: %s", content, diff)
			}
		}
		for _, e := range all.issued {
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
			again := newRecords()
			if _, err := again.absorb(append(line, '\n')); err != nil || !cmp.Equal(again.issued[e.Serial], e) {
				t.Fatalf("%s reads back as %+v (%v), want %+v", line, again.issued[e.Serial], err, e)
			}
		}
	})
}
