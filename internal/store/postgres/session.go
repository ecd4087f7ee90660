package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// session is the one connection that an instance writes over. It is used by one goroutine at a time.
type session struct {
	conn     *pgx.Conn
	server   Server
	settings settings
	promise  Promise
	home     home       // of claims
	batch    uint64     // of the latest commit of the instance, when the session began
	tree     audit.Tree // of its audit log, when the session began
	warnings *warnings
}

// warnings are what the server has warned of. A commit that did not wait for its standby to the end is a warning, and nothing
// else tells it from a good one.
type warnings struct{ latest string }

func (w *warnings) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		w.latest = n.Message
	}
}

// take returns the latest warning, and forgets it.
func (w *warnings) take() string {
	s := w.latest
	w.latest = ""
	return s
}

// begin opens a session with one server. When it returns, no other session of the instance is left at that server, and whatever
// this one can see survives what the promise says.
func (o Options) begin(ctx context.Context, server Server) (*session, error) {
	config, err := o.config(server)
	if err != nil {
		return nil, err
	}
	s := &session{server: server, warnings: new(warnings)}
	config.OnNotice = s.warnings.notice
	for name, value := range map[string]string{ // every statement finds its rows by their keys, also in tables that were small when it was planned
		"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off",
	} {
		config.RuntimeParams[name] = value
	}
	if s.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, fault(err)
	}
	if err := s.start(ctx, o); err != nil {
		s.end()
		return nil, fmt.Errorf("%v: %w", server, err)
	}
	return s, nil
}

func (s *session) start(ctx context.Context, o Options) (err error) {
	if s.settings, s.promise, err = o.look(ctx, s.conn); err != nil {
		return err
	}
	if err := o.hasTables(ctx, s.conn); err != nil {
		return err
	}
	for _, statement := range o.prepared() { // in good time: what goes wrong later is about a commit
		if _, err := s.conn.Prepare(ctx, statement, statement); err != nil {
			return fault(err)
		}
	}
	// As it was judged, whatever is said to the server later.
	if _, err := s.conn.Exec(ctx, `SELECT set_config('synchronous_commit', $1, false)`, s.settings.synchronousCommit); err != nil {
		return fault(err)
	}
	if _, err := s.conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, number(o.schema(), "instance", []byte(o.Instance))); err != nil {
		if sqlState(err) == "55P03" { // lock_not_available
			return fmt.Errorf("%w: %s", ErrLocked, o.Instance)
		}
		return fault(err)
	}
	if o.tables == nil {
		if err := s.settle(ctx, o); err != nil {
			return err
		}
	}
	// Whatever was committed before this commit survives with it. A session that ended while it waited for the standby leaves
	// behind what can be seen, and does not survive yet.
	s.warnings.take() // what was said at login is not about this commit
	err = s.conn.QueryRow(ctx, `INSERT INTO instances (name, v, batch, starts) VALUES ($1, 1, 0, 1)
		ON CONFLICT (name) DO UPDATE SET starts = instances.starts + 1 RETURNING batch`, o.Instance).Scan(&s.batch)
	if err != nil {
		return fault(err)
	}
	if warned := s.warnings.take(); warned != "" {
		return fmt.Errorf("%w: %s", ErrUnavailable, warned)
	}
	s.tree, err = readTree(ctx, s.conn, o.Instance)
	return fault(err)
}

// prepared are the statements of every transaction.
func (o Options) prepared() []string {
	if o.tables == nil {
		return []string{writeBatch(), commit}
	}
	return []string{countBatch, commit}
}

// end closes the connection without waiting for anything.
func (s *session) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.conn.Close(ctx) // there is nothing more to learn
}

// connect opens a session with the first server that is what it should be, beginning with that of the given index. It returns the
// index of that server, or, with an error, of the one to try first the next time.
func (o Options) connect(ctx context.Context, first int) (*session, int, error) {
	var errs []error
	for i := range o.Servers {
		at := (first + i) % len(o.Servers)
		attempt, cancel := context.WithTimeout(ctx, 2*o.patience())
		s, err := o.begin(attempt, o.Servers[at])
		cancel()
		if err == nil {
			return s, at, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first, fault(errors.Join(errs...))
}

// number names a lock. It is the same in every service; two names that share one wait for each other, and nothing worse.
func number(schema, kind string, key []byte) int64 {
	h := sha256.New()
	fmt.Fprintf(h, "latchkey\x00%s\x00%s\x00", schema, kind)
	h.Write(key)
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))
}
