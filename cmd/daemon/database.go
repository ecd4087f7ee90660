package daemon

import (
	"errors"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// ExplainDatabase gives the errors of opening a database their exit codes. missing says what to do when there was one and
// it is gone.
func ExplainDatabase(missing string) func(error) error {
	return func(err error) error {
		switch {
		case errors.Is(err, sqlite.ErrMissing):
			return exit.With(exit.NotFound, err, "there is a checkpoint, so there was a database: "+missing)
		case errors.Is(err, sqlite.ErrLocked):
			return exit.With(exit.Failure, err, "one process serves one database: is another one running?")
		case errors.Is(err, sqlite.ErrDamaged):
			return exit.With(exit.Verification, err, "keep the files and restore the database from a backup that the audit checkpoint confirms")
		case errors.Is(err, sqlite.ErrBehind):
			return exit.With(exit.Verification, err, "restore a newer backup; if there is none, see 'Keep, and keep apart' in docs/deployment.md")
		}
		return err
	}
}
