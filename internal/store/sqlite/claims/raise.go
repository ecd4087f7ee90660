package claims

import (
	"context"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// Raise implements decrypt.Store.
func (s *Store) Raise(ctx context.Context, floors []decrypt.Floor, r audit.Record) (moved int, err error) {
	if err := decrypt.CheckFloors(floors); err != nil {
		return 0, err
	}
	err = s.db.Update(ctx, func(t *sqlite.Tx) (err error) {
		moved, err = tx{t}.raise(floors, r)
		return err
	})
	return moved, fault(err)
}

func (t tx) raise(floors []decrypt.Floor, r audit.Record) (moved int, _ error) {
	fences, err := t.fenced()
	if err != nil {
		return 0, err
	}
	for _, f := range floors {
		s, _, err := lookupState(t, f.Counter)
		if err != nil {
			return 0, err
		}
		raised := s.Raised(f.Counter.KeyID, f.Ordinal, fences)
		if raised.Floor <= s.Floor {
			continue
		}
		if moved == 0 { // first: a record that cannot be written stops everything
			if err := t.Audit(r); err != nil {
				return 0, err
			}
		}
		moved++
		if err := t.writeState(f.Counter, raised); err != nil {
			return 0, err
		}
	}
	return moved, nil
}
