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
	return fmt.Sprintf("%v %v %v %v %v", c.States, c.Rows, c.Requests, c.Answers, c.Drained)
}

// recorded counts the refusals with a code in the audit log.
func (l *laboratory) recorded(code decrypt.Code) (n int) {
	for _, r := range l.store.(*storetest.Model).Contents().Leaves {
		if r.Result == "REFUSED" && r.Reason == string(code) {
			n++
		}
	}
	return n
}
