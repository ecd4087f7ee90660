// Package deliveries keeps what a key-distribution host gave out and its audit log, in whichever database.
//
// [New] makes a keydist.Store of a database that has the tables of package sqlite/deliveries or postgres/deliveries.
package deliveries

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/store/rows"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// Store is a keydist.Store. It is safe for concurrent use. Close it.
type Store struct{ rows.Store[keydist.Tx] }

var _ keydist.Store = (*Store)(nil)

// New makes a store of a database, which it closes.
func New(db rows.DB) *Store {
	return &Store{rows.NewStore(db, func(t rows.Tx) keydist.Tx { return tx{t} }, fault)}
}

// fault makes of a failure of the database a refusal that tells nothing, around a cause for the log. Other errors are
// those of a function, or of its context, and stay.
func fault(err error) error {
	if code, failed := rows.CodeOf(err, keydist.CodeStoreFull, keydist.CodeStoreDamaged, keydist.CodeStoreUnavailable); failed {
		return fmt.Errorf("deliveries: %w: %w", &keydist.Refusal{Code: code}, err)
	}
	return err
}
