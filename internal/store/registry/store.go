// Package registry keeps the registry of a registration authority and its audit log, in whichever database.
//
// [New] makes a provision.Store of a database that has the tables of package sqlite/registry or postgres/registry.
package registry

import (
	"github.com/latchkey-pos/latchkey/internal/store/rows"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Store is a provision.Store. It is safe for concurrent use. Close it.
type Store struct{ rows.Store[provision.Tx] }

var _ provision.Store = (*Store)(nil)

// New makes a store of a database, which it closes.
func New(db rows.DB) *Store {
	return &Store{rows.NewStore(db, func(t rows.Tx) provision.Tx { return tx{t} }, fault)}
}

// fault makes of a failure of the database a refusal with a cause for the log. Other errors are those of a function, or of
// its context, and stay.
func fault(err error) error {
	if code, failed := rows.CodeOf(err, provision.CodeStoreFull, provision.CodeStoreDamaged, provision.CodeStoreUnavailable); failed {
		return &provision.Refusal{Code: code, Cause: err}
	}
	return err
}
