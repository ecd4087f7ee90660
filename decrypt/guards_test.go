//go:build planted

package decrypt_test

import (
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/claims"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// TestPlantedGuards switches one guard off at a time: the message that it refuses must then be answered, or the
// guard was masked by another one and proved nothing. It does not run in parallel with other tests: switches are global.
func TestPlantedGuards(t *testing.T) {
	cases := map[planted.Name]struct {
		scheme dukpt.Scheme
		send   func(*laboratory) (*decrypt.TransactionResult, error)
	}{
		planted.GuardMACFirst: {dukpt.TDES, func(l *laboratory) (*decrypt.TransactionResult, error) {
			raw := l.sign(l.sale(1, 1), 1)
			raw[len(raw)-1] ^= 1
			return l.send(raw)
		}},
		planted.GuardPurpose: {dukpt.TDES, func(l *laboratory) (*decrypt.TransactionResult, error) {
			p := l.sale(1, 1)
			f := &p.Fields[1]
			f.Usage, f.Mode, f.PINFormat = message.UsageData, dukpt.CBC, 0
			return l.send(l.sign(p, 1))
		}},
		planted.GuardBlocked: {dukpt.AES, func(l *laboratory) (*decrypt.TransactionResult, error) {
			l.books.changeSet("PINS", func(s *keyset.KeySet) { s.State = keyset.Blocked })
			res, err := l.send(l.sign(l.sale(1, 1), 1))
			if err == nil && res.Decided == message.Held {
				return nil, &decrypt.Refusal{Code: res.Code}
			}
			return res, err
		}},
		planted.GuardClaim: {dukpt.TDES, func(l *laboratory) (*decrypt.TransactionResult, error) {
			l.accept(l.sign(l.sale(1, 1), 1))
			return l.send(l.sign(l.sale(1, 2), 1))
		}},
	}
	for name, c := range cases {
		t.Run(string(name), func(t *testing.T) {
			if res, err := c.send(overSQLite(t, c.scheme)); err == nil {
				t.Fatalf("with the guard on: answered with %d fields", len(res.Fields))
			}
			planted.Set(name)
			defer planted.Set()
			if res, err := c.send(overSQLite(t, c.scheme)); err != nil || len(res.Fields) == 0 {
				t.Fatalf("with the guard off: %v", err)
			}
		})
	}
}

// overSQLite is a laboratory over a real store: the model knows no switches.
func overSQLite(t *testing.T, scheme dukpt.Scheme) *laboratory {
	t.Helper()
	l := newLaboratory(t, scheme)
	db := must[*claims.Store](t)(claims.Open(filepath.Join(t.TempDir(), "claims.db"), claims.Options{Create: true}))
	t.Cleanup(func() { _ = db.Close() }) // temporary
	l.store, l.service = db, l.with(db)
	return l
}
