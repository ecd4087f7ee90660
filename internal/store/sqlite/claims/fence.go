package claims

import (
	"context"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// Fence implements decrypt.Store.
func (s *Store) Fence(ctx context.Context, n uint32, r audit.Record) (known int, err error) {
	err = s.db.Update(ctx, func(t *sqlite.Tx) (err error) {
		known, err = tx{t}.fence(n, r)
		return err
	})
	return known, fault(err)
}

func (t tx) fence(n uint32, r audit.Record) (int, error) {
	if err := t.Audit(r); err != nil {
		return 0, err
	}
	states := make(map[decrypt.CounterKey]decrypt.KeyIDState)
	err := t.eachCounter("true", func(key decrypt.CounterKey, s decrypt.KeyIDState) error {
		states[key] = s.Fenced(key.KeyID, n)
		return nil
	})
	if err != nil {
		return 0, err
	}
	for key, s := range states {
		err := t.Exec(`UPDATE counters SET floor = ?, fences = ? WHERE base_key = ? AND key_id = ?`,
			s.Floor, columns.Ranges(s.Fences), columns.Fingerprint(key.BaseKey), key.KeyID.Append(nil))
		if err != nil {
			return 0, err
		}
	}
	before, err := t.fenced()
	if err != nil {
		return 0, err
	}
	return len(states), t.Exec(`UPDATE fence SET ordinals = ? WHERE id = 1`, decrypt.FencesJoined(before, n))
}

// Fences returns the ordinals of all fences there were.
func (s *Store) Fences(ctx context.Context) (n uint32, err error) {
	err = s.view(ctx, func(t tx) (err error) {
		n, err = t.fenced()
		return err
	})
	return n, err
}

// fenced returns the fence of counters that have no row.
func (t tx) fenced() (ordinals uint32, err error) {
	_, err = t.One(`SELECT ordinals FROM fence WHERE id = 1`, nil, &ordinals)
	return ordinals, err
}
