package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Promise says what a database survives without forgetting what it has acknowledged. The zero value is none.
type Promise uint8

// The promises.
const (
	// SingleServer survives the end of its processes and of its power, and not the loss of its disk.
	SingleServer Promise = iota + 1
	// SynchronousStandby survives the loss of the primary as well: a standby has on its disk whatever was acknowledged.
	SynchronousStandby
	// AsynchronousStandby is a SingleServer with standbys that may lack the latest: when one of them takes its place, what it
	// lacks could be released again. A fence is what answers that.
	AsynchronousStandby
)

// String returns "single-server", "synchronous-standby" or "asynchronous-standby".
func (p Promise) String() string {
	switch p {
	case SingleServer:
		return "single-server"
	case SynchronousStandby:
		return "synchronous-standby"
	case AsynchronousStandby:
		return "asynchronous-standby"
	}
	return fmt.Sprintf("postgres.Promise(%d)", uint8(p))
}

// Explain says in words what is promised.
func (p Promise) Explain() string {
	switch p {
	case SingleServer:
		return "no claim is forgotten when the service, the database or its power ends; after the loss of its disk a backup and a fence are needed"
	case SynchronousStandby:
		return "no claim is forgotten when the service, the database or its power ends, or when the synchronous standby takes its place"
	case AsynchronousStandby:
		return "no claim is forgotten when the service, the database or its power ends; a standby that takes its place may lack the latest claims, and needs a fence"
	}
	return p.String()
}

// settings are what durability depends on, as one session of a server sees it.
type settings struct {
	fsync, fullPageWrites, synchronousCommit, standbyNames string
}

// settingsColumns are read in each transaction.
const settingsColumns = `current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), current_setting('synchronous_standby_names')`

func (s *settings) columns() []any {
	return []any{&s.fsync, &s.fullPageWrites, &s.synchronousCommit, &s.standbyNames}
}

// promise judges settings and how many standbys follow that nobody waits for.
func (o Options) promise(s settings, standbys int) (Promise, error) {
	waits := strings.TrimSpace(s.standbyNames) != ""
	unsafe := func(format string, args ...any) (Promise, error) {
		return 0, fmt.Errorf("%w: "+format, append([]any{ErrUnsafe}, args...)...)
	}
	switch {
	case s.fsync != "on":
		return unsafe("fsync is %s, want on: a power cut would undo commits", s.fsync)
	case s.fullPageWrites != "on":
		return unsafe("full_page_writes is %s, want on: a power cut would leave torn pages", s.fullPageWrites)
	case s.synchronousCommit == "off":
		return unsafe("synchronous_commit is off, want on: commits would be acknowledged before they are on the disk")
	case waits && s.synchronousCommit != "on" && s.synchronousCommit != "remote_apply":
		return unsafe("synchronous_commit is %s, want on: commits would be acknowledged before they are on the disk of the standby", s.synchronousCommit)
	case waits:
		return SynchronousStandby, nil
	case o.RequireStandby:
		return unsafe("synchronous_standby_names is empty, and a standby is required")
	case standbys > 0 && !o.AcceptLag:
		return unsafe("%d standbys follow, and synchronous_standby_names is empty: one that takes the place of this server may lack claims; name it there, or accept the lag", standbys)
	case standbys > 0:
		return AsynchronousStandby, nil
	default:
		return SingleServer, nil
	}
}

// look reads the settings of the session and judges them, and refuses a server that takes no writes.
func (o Options) look(ctx context.Context, conn *pgx.Conn) (settings, Promise, error) {
	var s settings
	var standby bool
	var version, standbys int
	// A base backup that is under way is no standby. Who may not see the state of others counts it as one.
	err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('server_version_num')::int,
		(SELECT count(*) FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup'), `+settingsColumns).
		Scan(append([]any{&standby, &version, &standbys}, s.columns()...)...)
	if err != nil {
		return s, 0, fault(err)
	}
	if standby {
		return s, 0, fmt.Errorf("%w: the server is a standby", ErrUnavailable)
	}
	if version < 150000 {
		return s, 0, fmt.Errorf("%w: the server has version %d, want PostgreSQL 15", ErrUnavailable, version/10000)
	}
	p, err := o.promise(s, standbys)
	return s, p, err
}
