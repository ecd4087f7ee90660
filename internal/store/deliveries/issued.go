package deliveries

import (
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/store/rows"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// version is the version of every row.
const version = 1

// tx is a keydist.Tx.
type tx struct{ rows.Tx }

// Last implements keydist.Tx.
func (t tx) Last(set keyset.ID) (dukpt.KeyID, error) {
	var b []byte
	ok, err := t.One(`SELECT key_id FROM highest WHERE key_set = ?`, []any{string(set)}, &b)
	if err != nil || !ok {
		return dukpt.KeyID{}, err
	}
	return parseKeyID(b)
}

// SetLast implements keydist.Tx.
func (t tx) SetLast(set keyset.ID, id dukpt.KeyID) error {
	last, err := t.Last(set)
	if err != nil {
		return err
	}
	if id.Compare(last) <= 0 {
		return fmt.Errorf("%w: %v of set %s is not above %v", keydist.ErrConflict, id, set, last)
	}
	_, err = t.Exec(`INSERT INTO highest (key_set, v, key_id) VALUES (?, ?, ?) ON CONFLICT (key_set) DO UPDATE SET key_id = excluded.key_id`,
		string(set), version, id.Append(nil))
	return err
}

// Issue implements keydist.Tx.
func (t tx) Issue(i keydist.Issued) error {
	if i.State != keyset.SlotPending {
		return fmt.Errorf("%w: a key id is given out %v", keydist.ErrConflict, i.State)
	}
	delivery, err := i.Delivery.MarshalText()
	if err != nil {
		return fmt.Errorf("deliveries: %w", err)
	}
	err = t.Insert(`INSERT INTO issued (v, key_set, key_id, terminal, slot, replaces, delivery, agreement, state, issued_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		version, string(i.KeySet), i.KeyID.Append(nil), string(i.Terminal), i.Slot, orNull(i.Replaces), string(delivery),
		i.Agreement[:], i.State.String(), i.IssuedAt.UnixMilli())
	if errors.Is(err, rows.ErrExists) {
		return fmt.Errorf("%w: %v of set %s was given out", keydist.ErrConflict, i.KeyID, i.KeySet)
	}
	return err
}

const issuedColumns = `key_set, key_id, terminal, slot, replaces, delivery, agreement, state, issued_at, settled_at`

// Issued implements keydist.Tx.
func (t tx) Issued(set keyset.ID, id dukpt.KeyID) (out keydist.Issued, ok bool, err error) {
	err = t.Each(`SELECT `+issuedColumns+` FROM issued WHERE key_set = ? AND key_id = ?`, []any{string(set), id.Append(nil)},
		func(scan func(...any) error) (err error) {
			out, err = scanIssued(scan)
			ok = true
			return err
		})
	return out, ok && err == nil, err
}

// Pending implements keydist.Tx.
func (t tx) Pending(terminal keyset.TerminalID, slot uint8) (out []keydist.Issued, err error) {
	err = t.Each(`SELECT `+issuedColumns+` FROM issued WHERE terminal = ? AND slot = ? AND state = 'pending' ORDER BY n`,
		[]any{string(terminal), slot}, func(scan func(...any) error) error {
			i, err := scanIssued(scan)
			out = append(out, i)
			return err
		})
	return out, err
}

// Settle implements keydist.Tx.
func (t tx) Settle(set keyset.ID, id dukpt.KeyID, state keyset.SlotState, at time.Time) error {
	i, ok, err := t.Issued(set, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: %v of set %s was not given out", keydist.ErrConflict, id, set)
	}
	if !goesOn(i.State, state) {
		return fmt.Errorf("%w: %v of set %s is %v and does not become %v", keydist.ErrConflict, id, set, i.State, state)
	}
	_, err = t.Exec(`UPDATE issued SET state = ?, settled_at = ? WHERE key_set = ? AND key_id = ?`,
		state.String(), at.UnixMilli(), string(set), id.Append(nil))
	return err
}

func goesOn(from, to keyset.SlotState) bool {
	switch from {
	case keyset.SlotPending:
		return to == keyset.SlotActive || to == keyset.SlotRetired
	case keyset.SlotActive:
		return to == keyset.SlotRetired
	default:
		return false
	}
}

// scanIssued reads the issuedColumns.
func scanIssued(scan func(...any) error) (keydist.Issued, error) {
	var set, terminal, delivery, state string
	var id, replaces, agreement []byte
	var issuedAt int64
	var settledAt *int64
	var i keydist.Issued
	err := scan(&set, &id, &terminal, &i.Slot, &replaces, &delivery, &agreement, &state, &issuedAt, &settledAt)
	if err != nil {
		return keydist.Issued{}, err
	}
	if len(agreement) != len(i.Agreement) {
		return keydist.Issued{}, rows.Unreadable("hash", fmt.Errorf("%d bytes", len(agreement)))
	}
	i.KeySet, i.Terminal, i.Agreement = keyset.ID(set), keyset.TerminalID(terminal), [32]byte(agreement)
	i.IssuedAt = time.UnixMilli(issuedAt).UTC()
	if settledAt != nil {
		i.SettledAt = time.UnixMilli(*settledAt).UTC()
	}
	if i.KeyID, err = parseKeyID(id); err != nil {
		return keydist.Issued{}, err
	}
	if len(replaces) > 0 {
		if i.Replaces, err = parseKeyID(replaces); err != nil {
			return keydist.Issued{}, err
		}
	}
	if err := errors.Join(i.Delivery.UnmarshalText([]byte(delivery)), i.State.UnmarshalText([]byte(state))); err != nil {
		return keydist.Issued{}, rows.Unreadable("word", err)
	}
	return i, nil
}

func parseKeyID(b []byte) (dukpt.KeyID, error) {
	var id dukpt.KeyID
	if err := id.UnmarshalBinary(b); err != nil {
		return dukpt.KeyID{}, rows.Unreadable("key id", err)
	}
	return id, nil
}

func orNull(id dukpt.KeyID) any {
	if id.IsZero() {
		return nil
	}
	return id.Append(nil)
}
