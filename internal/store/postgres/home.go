package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// home is a history of a server. Commits that are in one history need not be in another. The zero value is none.
type home struct {
	system   uint64 // identifier of the database cluster, which its copies have too
	timeline uint32 // rises with each standby that takes the place of its primary, and each restore
	tables   uint32 // object identifier of the row's table: another one where a dump was loaded
}

// homeNow is the home of a session whose server takes writes. The first eight digits of the name of a segment are its timeline, also
// before the first checkpoint of a new one.
const homeNow = `(SELECT system_identifier FROM pg_control_system())::text || '/' ||
	('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint || '/' || 'fence'::regclass::oid`

// String returns SYSTEM/TIMELINE/TABLES.
func (h home) String() string { return fmt.Sprintf("%d/%d/%d", h.system, h.timeline, h.tables) }

func (h home) known() bool { return h != home{} }

func parseHome(s string) (h home, err error) {
	if _, err = fmt.Sscanf(s, "%d/%d/%d", &h.system, &h.timeline, &h.tables); err == nil && h.String() != s {
		err = fmt.Errorf("home %q", s)
	}
	return h, err
}

// follows reports with ErrBehind a history that may lack what was acknowledged in h. waited says that all of that had reached a
// standby first, as every service demands: where one may do without, a standby that was away meanwhile would say the same of itself.
func (h home) follows(now home, waited bool) error {
	switch {
	case !h.known() || now == h || planted.On(planted.LagUnnoticed):
		return nil
	case now.system != h.system || now.tables != h.tables:
		return fmt.Errorf("%w: these are other tables than before: a copy that may lack what was claimed since", ErrBehind)
	case now.timeline < h.timeline:
		return fmt.Errorf("%w: the server goes on with timeline %d, and another had taken its place with timeline %d", ErrBehind, now.timeline, h.timeline)
	case !waited:
		return fmt.Errorf("%w: timeline %d has taken the place of %d, and no standby had to be waited for there: it may lack what was claimed",
			ErrBehind, now.timeline, h.timeline)
	}
	return nil
}

// settle finds the home of a session of claims, and notes it where it is a new one. One that may lack claims is refused, unless a
// fence comes next: that notes it.
func (s *session) settle(ctx context.Context, o Options) error {
	var stored *string
	var now string
	var waited bool
	err := s.conn.QueryRow(ctx, `SELECT home, waited, `+homeNow+` FROM fence`).Scan(&stored, &waited, &now)
	if err != nil {
		return fault(err)
	}
	if s.home, err = parseHome(now); err != nil {
		return fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	var before home
	if stored != nil {
		if before, err = parseHome(*stored); err != nil {
			return fmt.Errorf("%w: stored %v", ErrDamaged, err)
		}
	}
	if err := before.follows(s.home, waited && o.RequireStandby); err != nil {
		if o.Fencing {
			return nil
		}
		return err
	}
	// The next commit over this connection waits for the standby, if that is the promise, and has all before it wait with it.
	if before == s.home && waited == s.waits() {
		return nil
	}
	_, err = s.conn.Exec(ctx, `UPDATE fence SET home = $1, waited = $2`, now, s.waits())
	return fault(err)
}

// waits reports whether what is acknowledged over the session has reached a standby.
func (s *session) waits() bool { return s.promise == SynchronousStandby }

// settled notes where a fence was put: behind it, this is the history that counts.
func (s *session) settled(b *pgx.Batch) {
	b.Queue(`UPDATE fence SET home = $1, waited = $2`, s.home.String(), s.waits())
}
