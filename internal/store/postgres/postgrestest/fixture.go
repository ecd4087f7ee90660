// Package postgrestest has databases for stores that stand on postgres.DB, each in a schema of one cluster.
package postgrestest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
)

// Main runs the tests of a binary and returns its exit code: 1 when a goroutine is left.
func Main(m *testing.M) int {
	code := pgtest.Binary(m)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// Folders are schemas of the shared cluster that stand for folders.
type Folders struct {
	Migrate func(ctx context.Context, o postgres.Options, progress func(done, of int)) (from, to int64, err error)
	Newest  int64 // version that Migrate makes

	mu       sync.Mutex
	database string
	made     map[string]bool // schemas
}

// Options are those of the schema of a folder; its tables are made the first time.
func (f *Folders) Options(t testing.TB, dir string) postgres.Options {
	t.Helper()
	c := pgtest.Shared(t)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made == nil {
		f.database, f.made = c.Database(t), make(map[string]bool)
	}
	sum := sha256.Sum256([]byte(dir))
	o := postgres.Options{
		Servers: []postgres.Server{{Host: c.Socket, Port: uint16(c.Port)}}, Database: f.database, User: pgtest.Superuser,
		Schema: "s" + hex.EncodeToString(sum[:10]), Instance: "ONE",
	}
	if !f.made[o.Schema] {
		if _, to, err := f.Migrate(t.Context(), o, nil); err != nil || to != f.Newest {
			t.Fatalf("migrate: version %d, %v", to, err)
		}
		f.made[o.Schema] = true
	}
	return o
}

// Leaves returns the audit log of an instance.
func Leaves(t testing.TB, log *postgres.AuditLog, err error) (out []audit.Record) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	err = log.Leaves(t.Context(), func(l audit.Leaf) error {
		r, err := audit.ParseRecord(l.Record)
		out = append(out, r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
