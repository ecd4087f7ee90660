package deliveries

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/internal/store/postgres/postgrestest"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/keydist/keydisttest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

var folders = &postgrestest.Folders{Migrate: Migrate, Newest: tables.Newest}

func TestConformance(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	options := make(map[keydist.Store]postgres.Options)
	keydisttest.Run(t, keydisttest.Harness{
		Open: func(t testing.TB, dir string) keydist.Store {
			o := folders.Options(t, dir)
			s, err := Open(context.Background(), o)
			if err != nil {
				t.Fatalf("open: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			options[s] = o
			return s
		},
		Leaves: func(t testing.TB, s keydist.Store) []audit.Record {
			mu.Lock()
			o := options[s]
			mu.Unlock()
			log, err := OpenAudit(t.Context(), o)
			return postgrestest.Leaves(t, log, err)
		},
	})
}
