package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/planted"
)

const commit = "COMMIT"

// How long a commit whose outcome is not known is asked for before its callers are told that the database cannot be used, and how
// long the next try to connect waits after one that failed.
const (
	resolveLimit = 30 * time.Second
	connectPause = 100 * time.Millisecond
)

// link owns the session that a service writes over, and knows how far its commits have come. It belongs to one goroutine, but for
// the counts.
type link struct {
	options Options
	waiting interface { // who waits for the goroutine
		turnAway(cause error)
		Closed() bool
	}

	session *session   // nil while there is none
	server  int        // index of that server, or of the one to try first
	batch   uint64     // of the latest commit that is known to be one
	tree    audit.Tree // of the audit log at that commit
	unknown uint64     // of a commit that may have been made, else 0
	lost    error      // ErrBehind or ErrDamaged: nothing is answered any more
	failed  error      // of the latest try to connect
	home    home       // of the session, or of the one before
	waited  bool       // what was acknowledged there has reached a standby
	retry   time.Time  // not before

	promise     atomic.Uint32
	reading     atomic.Int32 // index of that server, for readers
	commits     atomic.Uint64
	calls       atomic.Uint64
	statements  atomic.Uint64
	connections atomic.Uint64
	resolved    atomic.Uint64
}

// begin connects for the first time.
func (l *link) begin(ctx context.Context) error {
	s, at, err := l.options.connect(ctx, 0)
	if err != nil {
		return err
	}
	if l.options.Kept != nil {
		if err := contains(ctx, s.conn, l.options.Instance, s.tree, l.options.Kept); err != nil {
			s.end()
			return err
		}
	}
	l.adopt(s, at)
	return nil
}

// leave ends the session in an orderly way.
func (l *link) leave() {
	if l.session == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.options.patience())
	defer cancel()
	_ = l.session.conn.Close(ctx) // everything is committed
}

// committed counts a commit of so many calls, with what the audit log is then.
func (l *link) committed(number uint64, tree audit.Tree, calls int) {
	l.batch, l.tree = number, tree
	l.commits.Add(1)
	l.calls.Add(uint64(calls))
	if l.options.Batch != nil {
		l.options.Batch(calls)
	}
}

// adopt takes a session into use, and says what it promises.
func (l *link) adopt(s *session, at int) {
	l.session, l.server, l.failed = s, at, nil
	l.batch, l.tree, l.unknown = s.batch, s.tree, 0
	l.home, l.waited = s.home, s.waits()
	l.connections.Add(1)
	l.reading.Store(int32(at))
	before := Promise(l.promise.Swap(uint32(s.promise)))
	level := slog.LevelInfo
	if before != 0 && before != s.promise {
		level = slog.LevelWarn
	}
	l.options.logger().Log(context.Background(), level, "database", "server", s.server.String(), "promise", s.promise.String(),
		"means", s.promise.Explain())
}

// drop gives the session up.
func (l *link) drop(cause error) {
	if l.session == nil {
		return
	}
	l.options.logger().Warn("database connection given up", "server", l.session.server.String(), "error", cause)
	l.session.end()
	l.session = nil
	l.server = (l.server + 1) % len(l.options.Servers)
}

// ready makes sure of a session.
func (l *link) ready() error {
	if l.lost != nil {
		return l.lost
	}
	if l.session != nil {
		return nil
	}
	if time.Now().Before(l.retry) {
		return fmt.Errorf("%w: %w", ErrUnavailable, l.failed)
	}
	return l.connect()
}

// connect opens a session, and looks whether the database has what was acknowledged. What it has is then what is known.
func (l *link) connect() error {
	ctx := context.Background() // each step has its own end
	s, at, err := l.options.connect(ctx, l.server)
	if err == nil {
		if err = l.holds(ctx, s); err != nil {
			s.end()
		}
	}
	if err != nil {
		l.failed, l.retry, l.server = err, time.Now().Add(connectPause), (l.server+1)%len(l.options.Servers)
		return err
	}
	l.adopt(s, at)
	return nil
}

// holds compares the database of a session with what this service knows of it.
func (l *link) holds(ctx context.Context, s *session) error {
	l.lost = l.home.follows(s.home, l.waited && l.options.RequireStandby)
	switch {
	case l.lost != nil:
	case s.batch < l.batch:
		l.lost = fmt.Errorf("%w: it has %d commits of %s, and had acknowledged %d", ErrBehind, s.batch, l.options.Instance, l.batch)
	case s.batch > max(l.batch, l.unknown):
		l.lost = fmt.Errorf("%w: it has %d commits of %s, which has made %d", ErrDamaged, s.batch, l.options.Instance, l.batch)
	default:
		why, err := s.tree.Extends(l.tree.Size(), l.tree.Root(), func(size uint64) (audit.Tree, error) {
			return treeAt(ctx, s.conn, l.options.Instance, size)
		})
		if err != nil {
			return fault(err)
		}
		if why != "" {
			l.lost = fmt.Errorf("%w: its audit log: %s", ErrBehind, why)
		}
	}
	if l.lost != nil {
		l.options.logger().Error("database refused for good", "server", s.server.String(), "error", l.lost)
	}
	return l.lost
}

// bounded is a context for one exchange with the server, which ends statements itself before that.
func (l *link) bounded() (context.Context, context.CancelFunc) { return l.boundedBy(false) }

// allLimit is how long an exchange about every counter may take. The server does not end it before.
const allLimit = time.Hour

// boundedBy is bounded, and for an exchange about every counter much later.
func (l *link) boundedBy(all bool) (context.Context, context.CancelFunc) {
	limit := l.options.patience() + 2*time.Second
	if all {
		limit = allLimit
	}
	return context.WithTimeout(context.Background(), limit)
}

// opening is what begins a transaction: statements that are sent in one exchange with the server.
type opening struct {
	pgx.Batch
	now settings
}

func newOpening() *opening {
	o := &opening{}
	o.Queue(`BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE`)
	o.Queue(`SELECT ` + settingsColumns).QueryRow(func(row pgx.Row) error { return row.Scan(o.now.columns()...) })
	return o
}

// enterWith begins a transaction, about every counter or not, under the settings that the session was judged by and no others.
func (l *link) enterWith(o *opening, all bool) error {
	ctx, cancel := l.boundedBy(all)
	defer cancel()
	l.statements.Add(uint64(o.Len()))
	if err := l.session.conn.SendBatch(ctx, &o.Batch).Close(); err != nil {
		return err
	}
	if o.now != l.session.settings {
		err := fmt.Errorf("%w: they were changed, from %+v to %+v", ErrUnsafe, l.session.settings, o.now)
		l.drop(err) // the next session judges them
		return err
	}
	return nil
}

// undo ends a transaction of which nothing is to stay, and returns err.
func (l *link) undo(err error) error {
	if l.session == nil {
		return err
	}
	ctx, cancel := l.bounded()
	defer cancel()
	if !l.session.conn.IsClosed() {
		if _, failed := l.session.conn.Exec(ctx, "ROLLBACK"); failed == nil {
			return err
		}
	}
	l.drop(err)
	if err == nil {
		return nil
	}
	return fault(err)
}

// errNotMade is the error of a commit that is known not to have been made, over a session that is.
var errNotMade = errors.New("postgres: nothing was changed")

// resolve finds out whether the commit after the latest known one was made. It returns nil when it was, and survives what is
// promised, and errNotMade when it was not. Meanwhile nothing else is done: other calls are told that the database cannot be used.
func (l *link) resolve(cause error) error {
	l.unknown = l.batch + 1
	limit := time.Now().Add(resolveLimit)
	for l.lost == nil {
		before := l.batch
		err := l.connect()
		if err == nil {
			l.resolved.Add(1)
			made := l.batch > before
			l.options.logger().Info("outcome of a commit found", "made", made, "cause", cause)
			if made {
				return nil
			}
			return fmt.Errorf("%w: %v", errNotMade, cause)
		}
		l.waiting.turnAway(err)
		if time.Now().After(limit) || l.waiting.Closed() {
			return fmt.Errorf("%w: it is not known whether a commit was made: %v", ErrUnavailable, cause)
		}
		time.Sleep(connectPause)
	}
	return l.lost
}

// conclude sends what ends with a commit, in one exchange with the server, and finds out what became of it. The statements of the
// batch say whether everything was written, and whether that was committed. all says that it is about every counter.
func (l *link) conclude(b *pgx.Batch, all bool, written, committed *bool) error {
	ctx, cancel := l.boundedBy(all)
	defer cancel()
	l.statements.Add(uint64(b.Len()))
	l.session.warnings.take()
	err := l.session.conn.SendBatch(ctx, b).Close()
	warned := l.session.warnings.take()
	switch {
	case err == nil && *committed && (warned == "" || planted.On(planted.StandbyUnconfirmed)):
		return nil
	case err != nil && !*written && sqlState(err) != "":
		return l.undo(err)
	case err == nil && warned != "": // such as: canceling wait for synchronous replication
		err = errors.New(warned)
	case err == nil:
		err = errors.New("the server did not commit")
	}
	l.drop(err)
	return l.resolve(err)
}
