package postgres

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

// Store is a decrypt.Store in a database that other services use at the same time. It is safe for concurrent use. Close it.
type Store struct {
	options Options
	writer  *writer
	readers []*pgxpool.Pool // one for each server
	closed  atomic.Bool
}

var _ decrypt.Store = (*Store)(nil)

// Open connects to a database that Migrate has made the tables of, and keeps every other process of the same instance out of it.
// It fails with ErrUnavailable, ErrUnsafe, ErrMissing, ErrNewer, ErrLocked, ErrBehind or ErrDamaged, or with the error of an
// option. What happens to the database later is told by the calls: the store connects again by itself.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Store{options: o, writer: newWriter(o)}
	defer func() {
		if err != nil {
			s.closeReaders()
		}
	}()
	for _, server := range o.Servers {
		pool, err := o.readers(server)
		if err != nil {
			return nil, err
		}
		s.readers = append(s.readers, pool)
	}
	if err := s.writer.open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// readers are a few connections to one server, opened when they are needed, for what writes nothing.
func (o Options) readers(server Server) (*pgxpool.Pool, error) {
	config, err := o.config(server)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["statement_timeout"] = "0" // the context of the caller says how long
	config.RuntimeParams["default_transaction_read_only"] = "on"
	pool, err := pgxpool.ParseConfig(config.ConnString())
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	pool.ConnConfig, pool.MaxConns, pool.MinConns = config, 4, 0
	pool.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) (err error) {
		c.Password, err = o.password()
		return err
	}
	pool.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		var standby bool
		if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
			return err
		}
		if standby {
			return fmt.Errorf("%w: the server is a standby", ErrUnavailable)
		}
		return nil
	}
	out, err := pgxpool.NewWithConfig(context.Background(), pool)
	return out, fault(err)
}

// Claim implements decrypt.Store.
func (s *Store) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	if err := set.Check(); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	return decide(ctx, s, needsOfClaims(&set), func(l *ledger) (decrypt.ClaimOutcome, error) { return l.claim(&set) })
}

// RecordAnswer implements decrypt.Store.
func (s *Store) RecordAnswer(ctx context.Context, a decrypt.Answer) (decrypt.Answer, error) {
	return decide(ctx, s, needsOfAnswer(&a), func(l *ledger) (decrypt.Answer, error) { return l.recordAnswer(a) })
}

// decide carries out f as part of a transaction. A refusal is a decision like any other: what was noted with it is committed. f may
// run more than once, and when the context has ended.
func decide[T any](ctx context.Context, s *Store, n *needs, f func(*ledger) (T, error)) (T, error) {
	var out, none T
	var verdict *decrypt.Refusal
	err := s.writer.submit(ctx, n, func(l *ledger) (err error) {
		out, err = f(l)
		r, ok := err.(*decrypt.Refusal) // not one that a fault wraps
		if verdict = r; ok {
			return nil
		}
		return err
	})
	switch { // with an error f may still be running, so that out is not looked at
	case err != nil:
		return none, refused(err)
	case verdict != nil:
		return out, verdict
	default:
		return out, nil
	}
}

// LookupAnswer implements decrypt.Store.
func (s *Store) LookupAnswer(ctx context.Context, digest message.Digest) (decrypt.Answer, bool, error) {
	type found struct {
		a  decrypt.Answer
		ok bool
	}
	f, err := look(ctx, s, digest, func(l *ledger) found {
		a, ok := l.lookupAnswer(digest)
		return found{a, ok}
	})
	return f.a, f.ok, err
}

// LookupRequest implements decrypt.Store.
func (s *Store) LookupRequest(ctx context.Context, digest message.Digest) (decrypt.Request, bool, error) {
	r, err := look(ctx, s, digest, func(l *ledger) *decrypt.Request {
		if r, ok := l.requests[digest]; ok {
			return &r.Request
		}
		return nil
	})
	if r == nil {
		return decrypt.Request{}, false, err
	}
	return *r, true, err
}

// look reads what is known about a digest. Where a standby is waited for, what can be seen is not what survives: a commit that
// nobody was told of may be seen. So it is read as part of a commit, which waits for the standby like any other.
func look[T any](ctx context.Context, s *Store, digest message.Digest, f func(*ledger) T) (T, error) {
	if s.Promise() == SynchronousStandby {
		return decide(ctx, s, needsOfLookup(digest), func(l *ledger) (T, error) { return f(l), nil })
	}
	var out T
	err := s.view(ctx, func(conn *pgxpool.Conn) error {
		l, b := newLedger(audit.Tree{}), &pgx.Batch{}
		needsOfLookup(digest).read(b, l)
		if err := conn.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		out = f(l)
		return nil
	})
	return out, err
}

// view runs f over a connection that writes nothing, to the server that the writer uses and to no other: one that was cut off would
// tell what was. Where that one is gone, the writer is made to look for its successor.
func (s *Store) view(ctx context.Context, f func(*pgxpool.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return refused(fmt.Errorf("%w: it is closed", ErrUnavailable))
	}
	conn, err := s.acquire(ctx, s.readers[s.writer.reading.Load()])
	if err != nil && s.Check(ctx) == nil {
		conn, err = s.acquire(ctx, s.readers[s.writer.reading.Load()])
	}
	if err != nil {
		return refused(ended(ctx, fault(err)))
	}
	defer conn.Release()
	return refused(ended(ctx, s.meant(f(conn))))
}

func (s *Store) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.patience())
	defer cancel()
	return pool.Acquire(ctx)
}

// callersError is an error of a caller's own function.
type callersError struct{ error }

// meant gives errors of the driver their meaning, and callers theirs back.
func (s *Store) meant(err error) error {
	if own, ok := err.(callersError); ok {
		return own.error
	}
	return fault(err)
}

// Counters implements decrypt.Store.
func (s *Store) Counters(ctx context.Context, base keys.Fingerprint, id dukpt.KeyID) (state decrypt.KeyIDState, err error) {
	key := decrypt.CounterKey{BaseKey: base, KeyID: id}
	err = s.view(ctx, func(conn *pgxpool.Conn) error {
		n, l, b := newNeeds(), newLedger(audit.Tree{}), &pgx.Batch{}
		n.counters[key] = true
		n.read(b, l)
		if err := conn.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		state, err = l.State(key)
		return err
	})
	return state, err
}

// EachCounter implements decrypt.Store. It holds one state of the database while it runs.
func (s *Store) EachCounter(ctx context.Context, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return s.eachCounter(ctx, "true", nil, f)
}

// EachUnreported implements decrypt.Store. There is an index of these counters.
func (s *Store) EachUnreported(ctx context.Context, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return s.eachCounter(ctx, unreported, nil, f)
}

// eachCounter reads every state for which a condition holds.
func (s *Store) eachCounter(ctx context.Context, where string, args []any, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return s.view(ctx, func(conn *pgxpool.Conn) error {
		rows, err := conn.Query(ctx, `SELECT `+stateColumns+` FROM counters c WHERE `+where, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			key, state, err := scanState(rows.Scan)
			if err != nil {
				return err
			}
			if err := f(key, state); err != nil {
				return callersError{err}
			}
		}
		return rows.Err()
	})
}

// EvidenceReported implements decrypt.Store.
func (s *Store) EvidenceReported(ctx context.Context, key decrypt.CounterKey, evidence uint64) error {
	n := newNeeds()
	n.counters[key] = true
	return s.update(ctx, n, func(l *ledger) error {
		l.evidenceReported(key, evidence)
		return nil
	})
}

// Fence implements decrypt.Store. It waits until nobody is claiming, in any service, and keeps them waiting.
func (s *Store) Fence(ctx context.Context, n uint32, r audit.Record) (int, error) {
	all := newNeeds()
	all.all = true
	return decide(ctx, s, all, func(l *ledger) (int, error) { return l.putFence(n, r) })
}

// Raise implements decrypt.Store.
func (s *Store) Raise(ctx context.Context, floors []decrypt.Floor, r audit.Record) (int, error) {
	if err := decrypt.CheckFloors(floors); err != nil {
		return 0, err
	}
	n := newNeeds()
	for _, f := range floors {
		n.counters[f.Counter] = true
	}
	return decide(ctx, s, n, func(l *ledger) (int, error) { return l.raise(floors, r) })
}

// Audit implements decrypt.Store.
func (s *Store) Audit(ctx context.Context, r audit.Record) error {
	return s.update(ctx, newNeeds(), func(l *ledger) error { return l.log(r) })
}

// Check implements decrypt.Store: a commit that only counts itself. It waits for a standby like any other.
func (s *Store) Check(ctx context.Context) error {
	return s.update(ctx, newNeeds(), func(*ledger) error { return nil })
}

func (s *Store) update(ctx context.Context, n *needs, f func(*ledger) error) error {
	return refused(s.writer.submit(ctx, n, f))
}

// Checkpoint signs the audit log of the instance as it stands, stores the checkpoint and returns it as a signed note. When nothing
// was appended since the last one of this key, that one is returned again.
//
// Nobody waits for the key: it may be in a token that never answers. ctx bounds all of it.
func (s *Store) Checkpoint(ctx context.Context, signer *audit.Signer) ([]byte, error) {
	tree, err := decide(ctx, s, newNeeds(), func(l *ledger) (audit.Tree, error) { return l.tree, nil })
	if err != nil {
		return nil, err
	}
	note, err := signer.SignWithin(ctx, tree) // Ed25519 signs the same alike
	if err != nil {
		return nil, err
	}
	err = s.update(ctx, newNeeds(), func(l *ledger) error {
		l.checkpoints = append(l.checkpoints, checkpoint{tree.Size(), note})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return note, nil
}

// Promise returns what the server in use promises. It may change when another server takes the place of this one.
func (s *Store) Promise() Promise { return Promise(s.writer.promise.Load()) }

// Stats counts the work since the store was opened.
type Stats struct {
	Commits     uint64 // transactions that are durable
	Calls       uint64 // calls that shared them
	Statements  uint64 // of those transactions, BEGIN and COMMIT included
	Connections uint64 // sessions, the first one included
	Resolved    uint64 // commits whose outcome had to be looked up
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	w := s.writer
	return Stats{w.commits.Load(), w.calls.Load(), w.statements.Load(), w.connections.Load(), w.resolved.Load()}
}

// Close implements decrypt.Store. It is called once.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.writer.queue.Close()
	s.closeReaders()
	return nil
}

func (s *Store) closeReaders() {
	for _, pool := range s.readers {
		pool.Close()
	}
}

// Fences returns the ordinals of all fences there were.
func (s *Store) Fences(ctx context.Context) (n uint32, err error) {
	err = s.view(ctx, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, `SELECT ordinals FROM fence`).Scan(&n)
	})
	return n, err
}
