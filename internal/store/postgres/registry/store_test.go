package registry

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/internal/store/postgres/postgrestest"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/provisiontest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

var folders = &postgrestest.Folders{Migrate: Migrate, Newest: tables.Newest}

func open(t testing.TB, o postgres.Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// leaves returns the audit log of an instance.
func leaves(t testing.TB, o postgres.Options) []audit.Record {
	t.Helper()
	log, err := OpenAudit(t.Context(), o)
	return postgrestest.Leaves(t, log, err)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	options := make(map[provision.Store]postgres.Options)
	provisiontest.Run(t, provisiontest.Harness{
		Open: func(t testing.TB, dir string) provision.Store {
			o := folders.Options(t, dir)
			s := open(t, o)
			mu.Lock()
			defer mu.Unlock()
			options[s] = o
			return s
		},
		Leaves: func(t testing.TB, s provision.Store) []audit.Record {
			mu.Lock()
			o := options[s]
			mu.Unlock()
			return leaves(t, o)
		},
	})
}
