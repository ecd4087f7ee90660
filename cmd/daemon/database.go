package daemon

import (
	"errors"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// ExplainDatabase gives the errors of opening a database their exit codes. missing says what to do when there was one and
// it is gone.
func ExplainDatabase(missing string) func(error) error {
	return func(err error) error {
		switch {
		case errors.Is(err, sqlite.ErrMissing):
			return exit.With(exit.NotFound, err, "there is a checkpoint, so there was a database: "+missing)
		case errors.Is(err, sqlite.ErrUnfinished):
			return exit.With(exit.NotFound, err, "run latchkey store restore again")
		case errors.Is(err, sqlite.ErrLocked):
			return exit.With(exit.Failure, err, "one process serves one database: is another one running?")
		case errors.Is(err, sqlite.ErrDamaged):
			return exit.With(exit.Verification, err, "keep the files and restore the database from a backup that the audit checkpoint confirms")
		case errors.Is(err, sqlite.ErrBehind):
			return exit.With(exit.Verification, err, "restore a newer backup; if there is none, see 'Keep, and keep apart' in docs/deployment.md")
		}
		return explainPostgres(err)
	}
}

// explainPostgres is ExplainDatabase for one that several services use.
func explainPostgres(err error) error {
	switch {
	case errors.Is(err, postgres.ErrMissing):
		return exit.With(exit.NotFound, err, "latchkey store migrate makes the tables")
	case errors.Is(err, postgres.ErrLocked):
		return exit.With(exit.Failure, err, "each service has a name of its own: see instance")
	case errors.Is(err, postgres.ErrUnsafe):
		return exit.With(exit.Refused, err, "change the setting in postgresql.conf: see 'More than one decryption service' in docs/deployment.md")
	case errors.Is(err, postgres.ErrDamaged), errors.Is(err, postgres.ErrBehind):
		return exit.With(exit.Verification, err, "see 'Keep, and keep apart' in docs/deployment.md")
	case errors.Is(err, postgres.ErrUnavailable):
		return exit.With(exit.Unreachable, err, "is the server of the section postgres running?")
	}
	return err
}
