package provisiontest_test

import (
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/provisiontest"
)

// TestModel holds the model to the suite that it is the measure of.
func TestModel(t *testing.T) {
	t.Parallel()
	var models sync.Map // by folder
	provisiontest.Run(t, provisiontest.Harness{
		Open: func(_ testing.TB, dir string) provision.Store {
			m, _ := models.LoadOrStore(dir, new(provisiontest.Model))
			model := m.(*provisiontest.Model)
			model.Reopen()
			return model
		},
		Leaves: func(_ testing.TB, s provision.Store) []audit.Record { return s.(*provisiontest.Model).Leaves() },
	})
}
