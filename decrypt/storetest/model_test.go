package storetest_test

import (
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
)

// TestModel runs the suite on its own oracle.
func TestModel(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	models := make(map[string]*storetest.Model)
	storetest.Run(t, storetest.Harness{
		Open: func(_ testing.TB, dir string) decrypt.Store {
			mu.Lock()
			defer mu.Unlock()
			if models[dir] == nil {
				models[dir] = storetest.NewModel()
			}
			models[dir].Reopen()
			return models[dir]
		},
		Dump: func(_ testing.TB, s decrypt.Store) storetest.Contents { return s.(*storetest.Model).Contents() },
	})
}
