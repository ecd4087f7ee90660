package keydisttest_test

import (
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/keydist/keydisttest"
)

// TestModel runs the suite on its own oracle.
func TestModel(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	models := make(map[string]*keydisttest.Model)
	keydisttest.Run(t, keydisttest.Harness{
		Open: func(_ testing.TB, dir string) keydist.Store {
			mu.Lock()
			defer mu.Unlock()
			if models[dir] == nil {
				models[dir] = new(keydisttest.Model)
			}
			models[dir].Reopen()
			return models[dir]
		},
		Leaves: func(_ testing.TB, s keydist.Store) []audit.Record { return s.(*keydisttest.Model).Leaves() },
	})
}
