package decrypt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/claims"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// ErrOrdinals is wrapped when a fence has ordinals that the key sets do not permit.
var ErrOrdinals = errors.New("a fence that terminals would not get over")

// maxFence is how many ordinals a fence may have: a terminal follows its host no further than J of its key set, so it is one less than
// the smallest J there is, and the name of that set; without any, one less than the J that sets have when nobody says another.
func (c Config) maxFence() (most uint32, by string, _ error) {
	environment, err := keyset.ParseEnvironment(c.Environment)
	if err != nil {
		return 0, "", err
	}
	documents, err := deploy.NewCatalog(deploy.CatalogOptions{Dir: c.Folder, Tenant: keyset.TenantID(c.Tenant), Environment: environment})
	if err != nil {
		return 0, "", fmt.Errorf("catalog: %w", err)
	}
	most, by = keyset.DefaultJump-1, "sets that say nothing else"
	found := false
	for _, s := range documents.KeySets() {
		if s.Counter != keyset.Authenticated || !s.State.Permits(keyset.Repeat) { // without a J, or nothing is answered under it any more
			continue
		}
		if !found || s.J-1 < most {
			most, by, found = s.J-1, string(s.ID), true
		}
	}
	return most, by, nil
}

// checkOrdinals refuses a fence that closes nothing, or that terminals would not get over.
func (c Config) checkOrdinals(req FenceRequest) error {
	if req.Fenced != (req.Ordinals == 0) {
		return fmt.Errorf("%w: %d ordinals, want 1 or more, or none where it is there", ErrOrdinals, req.Ordinals)
	}
	most, by, err := c.maxFence()
	if err == nil && req.Ordinals > most {
		err = fmt.Errorf("%w: %d ordinals, want at most %d, which is one less than J of %s", ErrOrdinals, req.Ordinals, most, by)
	}
	return err
}

// checkFences holds a fence to those that there were. They add up for keys that the database does not know, new ones too: a terminal
// that is told more than its J can never follow.
func (c Config) checkFences(ctx context.Context, db store, req FenceRequest) error {
	before, err := db.Fences(ctx)
	if err != nil {
		return err
	}
	if req.Fenced && before == 0 {
		return fmt.Errorf("%w: there is none in the database", ErrOrdinals)
	}
	most, by, err := c.maxFence()
	if err == nil && uint64(before)+uint64(req.Ordinals) > uint64(most) {
		err = fmt.Errorf("%w: %d ordinals after fences of %d, want at most %d together, which is one less than J of %s: give new keys from sets with a higher J",
			ErrOrdinals, req.Ordinals, before, most, by)
	}
	return err
}

// Fenced says what a fence came to.
type Fenced struct {
	Known    int    // counters that something was known about
	Lost     string // what the database lacks, or why it may lack something; empty: nothing
	SetAside string // where that checkpoint is now; empty: where it was
	vouched  bool   // the checkpoint vouches for what the database lacks
}

// FenceRequest says how a database comes back.
type FenceRequest struct {
	Ordinals uint32 // of the fence: fewer than J of every key set; 0 with Fenced
	Accept   bool   // a database that lacks what its checkpoint vouches for is accepted
	Fenced   bool   // the fence is there, put by another instance on the same database, or before: only the checkpoint is set aside
}

// Fence puts all counters of the database of a configuration behind a fence (docs/protocol.md, section 10). The
// service must not be running, and a database must not be made by it. Ordinals that a key set does not permit wrap ErrOrdinals. One that lacks what its checkpoint vouches for is ErrBehind of
// its store, unless that is accepted: then the checkpoint is set aside, and what was lost stands in the audit log.
func Fence(ctx context.Context, c Config, req FenceRequest, log *slog.Logger) (done Fenced, err error) {
	if err := c.checkOrdinals(req); err != nil {
		return Fenced{}, err
	}
	open := func(kept []byte, fencing bool) (store, error) { return c.openToFence(ctx, kept, fencing, log) }
	r := c.fenceRecord("store/fence", fmt.Sprintf("%d ordinals", req.Ordinals))
	if done, err = c.fence(ctx, req, open, r); err != nil {
		return done, err
	}
	return done, c.setCheckpointAside(&done, r.Time)
}

// fenceRecord is the audit record of an act of an operator on the database as a whole.
func (c Config) fenceRecord(action, object string) audit.Record {
	return audit.Record{
		Time: time.Now(), Instance: c.Instance, Tenant: c.Tenant, Actor: "latchkey " + strings.Replace(action, "/", " ", 1), Role: "operator",
		Action: action, Object: object, Result: "DONE",
	}
}

// fence puts the fence in the store that open opens, which lacks nothing of what the checkpoint vouches for, or what it lacks is accepted.
func (c Config) fence(ctx context.Context, req FenceRequest, open func(kept []byte, fencing bool) (store, error), r audit.Record) (done Fenced, err error) {
	kept, err := daemon.LastCheckpoint(daemon.Path(c.Folder, c.CheckpointFile))
	if err != nil {
		return Fenced{}, err
	}
	db, err := open(kept, false)
	if req.Accept && behind(err) {
		done.Lost = err.Error()
		if db, err = open(kept, true); behind(err) {
			done.vouched = true
			db, err = open(nil, true)
		}
	}
	if err != nil {
		return Fenced{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if req.Fenced && done.Lost == "" {
		return Fenced{}, errNothingLost
	}
	if err := c.checkFences(ctx, db, req); err != nil {
		return Fenced{}, err
	}
	if done.Lost != "" {
		r.Reason = "the database lacks, or may lack, what was claimed"
	}
	if req.Fenced {
		return done, db.Audit(ctx, r)
	}
	done.Known, err = db.Fence(ctx, req.Ordinals, r)
	return done, err
}

func behind(err error) bool {
	return errors.Is(err, claims.ErrBehind) || errors.Is(err, postgres.ErrBehind)
}

// setCheckpointAside gives the checkpoint of what was lost another name, so that the service starts.
func (c Config) setCheckpointAside(done *Fenced, at time.Time) error {
	if !done.vouched {
		return nil
	}
	file := daemon.Path(c.Folder, c.CheckpointFile)
	aside := file + ".lost-" + at.UTC().Format("20060102T150405Z")
	if err := os.Rename(file, aside); err != nil {
		return fmt.Errorf("the fence is there, and the checkpoint-file was not set aside: %w", err)
	}
	done.SetAside = aside
	return nil
}

var errNothingLost = errors.New("the database has all that its checkpoint vouches for: there is nothing to set aside")

// openToFence opens the store of a configuration as the service does, and makes none.
func (c Config) openToFence(ctx context.Context, kept []byte, fencing bool, log *slog.Logger) (store, error) {
	if c.Postgres == nil {
		return claims.Open(daemon.Path(c.Folder, c.Database), claims.Options{Kept: kept})
	}
	o, err := c.postgres()
	if err != nil {
		return nil, err
	}
	o.Kept, o.Fencing, o.Logger = kept, fencing, log
	return postgres.Open(ctx, o)
}
