package registry

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{Create: true})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func openNew(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "provisiond.db")
	s := openAt(t, path)
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func terminal(n int) *provision.Terminal {
	return &provision.Terminal{
		Tenant: "SHOP", ID: keyset.TerminalID(fmt.Sprint("T-", n)), Status: keyset.StatusPending, StatusSince: noon, Generation: 1,
		Registered: noon, Registrar: "olga",
	}
}

func serial(n int) string { return fmt.Sprintf("%08x", n) }

func certificate(n int) *provision.Certificate {
	return &provision.Certificate{
		Role: identity.Terminal, Serial: serial(n), Terminal: terminal(n).ID, Chain: [][]byte{{1}}, KeyHash: provision.KeyHash{byte(n), 1},
		Issued: noon, NotBefore: noon, NotAfter: noon.Add(time.Hour),
	}
}

func record(n int) audit.Record {
	return audit.Record{Time: noon, Instance: "ra-1", Action: "register", Object: serial(n), Result: "DONE"}
}

func feedRecord(n int) provision.FeedRecord {
	return provision.FeedRecord{Epoch: 7, Sequence: uint64(n), Object: string(terminal(n).ID), Envelope: []byte{byte(n)}}
}

// register writes what belongs to the n-th terminal.
func register(tx provision.Tx, n int) error {
	return errors.Join(tx.PutTerminal(terminal(n)), tx.PutCertificate(certificate(n)), tx.AppendFeed(feedRecord(n)), tx.Audit(record(n)))
}

func update(t testing.TB, s *Store, f func(provision.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func mustExec(t testing.TB, s *Store, query string, args ...any) {
	t.Helper()
	if err := s.db.Update(t.Context(), func(tx *sqlite.Tx) error { return tx.Exec(query, args...) }); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
