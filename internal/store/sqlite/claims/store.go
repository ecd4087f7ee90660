package claims

import (
	"context"
	"embed"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrBehind is sqlite.ErrBehind.
var ErrBehind = sqlite.ErrBehind

// Options says how to open a store.
type Options struct {
	Create bool            // make a new database when there is none; false: sqlite.ErrMissing
	Kept   []byte          // a checkpoint of its audit log: a database that does not contain it is sqlite.ErrBehind; nil: none
	Batch  func(calls int) // called after each commit with the calls that shared it, by one goroutine; nil: not called
}

// Store is a decrypt.Store in a file. It is safe for concurrent use. Close it.
type Store struct{ db *sqlite.DB }

var _ decrypt.Store = (*Store)(nil)

// Open opens the database at path and keeps every other process out of it. It fails as sqlite.Open does.
func Open(path string, o Options) (*Store, error) {
	db, err := sqlite.Open(path, sqlite.Options{Kind: sqlite.Claims, Migrations: migrations, Create: o.Create, Kept: o.Kept, Batch: o.Batch})
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// tx is the transaction that is under way.
type tx struct{ *sqlite.Tx }

// Claim implements decrypt.Store.
func (s *Store) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	return decide(ctx, s, func(t tx) (decrypt.ClaimOutcome, error) { return t.claim(&set) })
}

// RecordAnswer implements decrypt.Store.
func (s *Store) RecordAnswer(ctx context.Context, a decrypt.Answer) (decrypt.Answer, error) {
	return decide(ctx, s, func(t tx) (decrypt.Answer, error) { return t.recordAnswer(a) })
}

// decide carries out f as one transaction. A refusal is a decision like any other: what was written with it stays.
func decide[T any](ctx context.Context, s *Store, f func(tx) (T, error)) (T, error) {
	var out, none T
	var refused *decrypt.Refusal
	err := s.db.Update(ctx, func(t *sqlite.Tx) (err error) {
		out, err = f(tx{t})
		r, ok := err.(*decrypt.Refusal) // not one that a fault wraps
		if refused = r; ok {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return none, fault(err)
	case refused != nil:
		return out, refused
	default:
		return out, nil
	}
}

// LookupAnswer implements decrypt.Store.
func (s *Store) LookupAnswer(ctx context.Context, digest message.Digest) (a decrypt.Answer, ok bool, err error) {
	err = s.view(ctx, func(t tx) (err error) {
		a, ok, err = lookupAnswer(t, digest)
		return err
	})
	return a, ok, err
}

// LookupRequest implements decrypt.Store.
func (s *Store) LookupRequest(ctx context.Context, digest message.Digest) (r decrypt.Request, ok bool, err error) {
	err = s.view(ctx, func(t tx) (err error) {
		r, ok, err = lookupRequest(t, digest)
		return err
	})
	return r, ok, err
}

// Counters implements decrypt.Store.
func (s *Store) Counters(ctx context.Context, base keys.Fingerprint, id dukpt.KeyID) (state decrypt.KeyIDState, err error) {
	err = s.view(ctx, func(t tx) (err error) {
		state, _, err = lookupState(t, decrypt.CounterKey{BaseKey: base, KeyID: id})
		return err
	})
	return state, err
}

// EachCounter implements decrypt.Store. It holds one state of the database while it runs.
func (s *Store) EachCounter(ctx context.Context, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return s.view(ctx, func(t tx) error { return t.eachCounter("true", f) })
}

// EachUnreported implements decrypt.Store. There is an index of these counters.
func (s *Store) EachUnreported(ctx context.Context, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return s.view(ctx, func(t tx) error { return t.eachCounter(unreported, f) })
}

// EvidenceReported implements decrypt.Store.
func (s *Store) EvidenceReported(ctx context.Context, key decrypt.CounterKey, evidence uint64) error {
	return fault(s.db.Update(ctx, func(t *sqlite.Tx) error { return tx{t}.evidenceReported(key, evidence) }))
}

func (s *Store) view(ctx context.Context, f func(tx) error) error {
	return fault(s.db.View(ctx, func(t *sqlite.Tx) error { return f(tx{t}) }))
}

// Audit implements decrypt.Store.
func (s *Store) Audit(ctx context.Context, r audit.Record) error {
	return fault(s.db.Update(ctx, func(t *sqlite.Tx) error { return t.Audit(r) }))
}

// Check implements decrypt.Store.
func (s *Store) Check(ctx context.Context) error { return fault(s.db.Check(ctx)) }

// Checkpoint signs the audit log as it stands, stores the checkpoint and returns it as a signed note. When nothing was
// appended since the last one of this key, that one is returned again.
func (s *Store) Checkpoint(ctx context.Context, signer *audit.Signer) ([]byte, error) {
	b, err := s.db.Checkpoint(ctx, signer)
	return b, fault(err)
}

// Stats counts the work since the store was opened.
func (s *Store) Stats() sqlite.Stats { return s.db.Stats() }

// Close implements decrypt.Store. It is called once.
func (s *Store) Close() error { return s.db.Close() }
