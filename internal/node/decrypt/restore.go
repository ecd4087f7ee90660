package decrypt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/claims"
)

// ErrElsewhere says that the database is not a file: PostgreSQL has its own means to restore it.
var ErrElsewhere = errors.New("the database is PostgreSQL's")

// Restored says what a restore came to.
type Restored struct {
	Fenced
	Before string // where the database is that was there; empty: there was none
}

// Restore puts a copy of a database in the place of the one in the file of a configuration, with all counters behind a fence as Fence
// puts it (docs/protocol.md, section 10): a copy that is in its place has the fence. The service must not be running. A database
// that is there is kept under another name, if replace says so, or it is sqlite.ErrThere. After an error nothing has changed, but
// for what the error says. progress counts pages.
func Restore(ctx context.Context, c Config, from string, replace bool, req FenceRequest, progress func(done, of int)) (done Restored, err error) {
	if c.Postgres != nil {
		return Restored{}, ErrElsewhere
	}
	req.Fenced = false
	if err := c.checkOrdinals(req); err != nil {
		return Restored{}, err
	}
	r := c.fenceRecord("store/restore", fmt.Sprintf("%d ordinals, from %s", req.Ordinals, filepath.Base(from)))
	path := daemon.Path(c.Folder, c.Database)
	done.Before, err = claims.Restore(ctx, path, from, replace, progress, func(copied string) (err error) {
		done.Fenced, err = c.fence(ctx, req, func(kept []byte, _ bool) (store, error) { return claims.Open(copied, claims.Options{Kept: kept}) }, r)
		return err
	})
	if err != nil {
		return done, err
	}
	return done, c.setCheckpointAside(&done.Fenced, r.Time)
}
