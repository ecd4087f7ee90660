// Package sqlitetest is what the tests of every store over sqlite ask of it: the audit log that it leaves, and what a process
// that was killed had promised.
package sqlitetest

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// Leaves returns the audit log of an open database, the first record first.
func Leaves(tb testing.TB, db *sqlite.DB) (out []audit.Record) {
	tb.Helper()
	err := db.View(tb.Context(), func(tx *sqlite.Tx) error {
		return tx.Each(`SELECT record FROM audit_leaves ORDER BY n`, nil, func(scan func(...any) error) error {
			var b []byte
			if err := scan(&b); err != nil {
				return err
			}
			r, err := audit.ParseRecord(b)
			out = append(out, r)
			return err
		})
	})
	if err != nil {
		tb.Fatalf("read the log: %v", err)
	}
	return out
}

// Verify has a store make a checkpoint and verifies the whole log beside it: it wants so many records.
func Verify(tb testing.TB, store interface {
	Checkpoint(context.Context, *audit.Signer) ([]byte, error)
}, path string, size int) {
	tb.Helper()
	secret, public, err := audit.GenerateKey("latchkey/SHOP/store")
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := audit.NewSigner(secret)
	if err != nil {
		tb.Fatal(err)
	}
	verifier, err := audit.NewVerifier(public)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := store.Checkpoint(tb.Context(), signer); err != nil {
		tb.Fatalf("checkpoint: %v", err)
	}
	log, err := sqlite.OpenAudit(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if r, err := audit.Verify(tb.Context(), log, verifier); err != nil || r.Size != uint64(size) || r.Signed != uint64(size) {
		tb.Errorf("verify: %+v %v, want %d records", r, err, size)
	}
}

// Kill runs the test binary as a process that works on the database at path, which a variable names to it, and kills it after
// its hundredth acknowledgement: a line with the number of what it did. It returns the last number. While the process lives,
// open, which opens the database, has to fail.
func Kill(tb testing.TB, variable, path string, open func() error) int {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(cmd.Environ(), variable+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	lines, acknowledged := bufio.NewScanner(out), 0
	for lines.Scan() {
		if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
			tb.Fatal(err)
		}
		if acknowledged == 100 {
			if err := open(); !errors.Is(err, sqlite.ErrLocked) {
				tb.Errorf("open beside another process: %v, want %v", err, sqlite.ErrLocked)
			}
			_ = cmd.Process.Kill() // what it has written until then is still to be read
		}
	}
	_ = cmd.Wait() // killed
	if acknowledged < 100 {
		tb.Fatalf("the process acknowledged %d times", acknowledged)
	}
	return acknowledged
}
