package decrypt_test

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
)

func newStore(testing.TB) decrypt.Store { return storetest.NewModel() }

// snapshot is everything that the store holds but the audit log, as text.
func (l *laboratory) snapshot() string {
	l.tb.Helper()
	c := l.store.(*storetest.Model).Contents()
	return fmt.Sprintf("%v %v %v %v", c.States, c.Rows, c.Requests, c.Answers)
}
