package provision

import (
	"context"
	"crypto/sha256"
	"math"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// batch bounds how much is read from the store at once where it is not read to be kept.
const batch = 256

// epochAhead is how far an epoch may be ahead of the clock: followers refuse one that is more ahead of theirs.
const epochAhead = 5 * time.Minute

// epochAt returns the epoch that begins now: its Unix second, and always a later one. One that would be ahead of the clock
// is refused: no follower would believe it, and a lower one is no way out for those that have seen the last.
func epochAt(now time.Time, last uint64) (uint64, error) {
	next := max(uint64(max(now.Unix(), 1)), last+1)
	if most := now.Add(epochAhead).Unix(); most < 1 || next > uint64(most) {
		return 0, refuse(CodeStoreUnavailable, "the clock says %s, and the last epoch of the feed is %d, Unix second of %s: set the clock; "+
			"if it is right, no epoch can begin before", stamp(now), last, stamp(time.Unix(int64(min(last, 1<<40)), 0).UTC()))
	}
	return next, nil
}

// NewEpoch begins a new epoch of the feed, in which every terminal has a new record. It is for after a restore, when
// followers know more of the old epoch than the store does: they take a snapshot then.
func (e *Engine) NewEpoch(ctx context.Context) error {
	return e.update(ctx, func(t *transaction) error { return t.newEpoch("a new epoch was asked for") })
}

// newEpoch signs the record of every terminal anew.
func (t *transaction) newEpoch(why string) error {
	meta, err := t.Meta()
	if err != nil {
		return err
	}
	var rows []*Terminal
	if err := t.Terminals("", 0, func(row *Terminal) error { rows = append(rows, row); return nil }); err != nil {
		return err
	}
	t.meta = meta
	if t.meta.Epoch, err = epochAt(t.now, meta.Epoch); err != nil {
		return err
	}
	t.meta.Objects = uint64(len(rows))
	t.meta.Signer, t.meta.Pepper = sha256.Sum256(t.engine.config.Chain[0].Raw), t.engine.pepperCheck()
	if err := t.PutMeta(t.meta); err != nil {
		return err
	}
	t.end = &head{position: position{epoch: t.meta.Epoch}, objects: t.meta.Objects}
	for _, row := range rows {
		row.Generation++
		if err := t.PutTerminal(row); err != nil {
			return err
		}
		if err := t.publish(row, false); err != nil {
			return err
		}
	}
	if _, err := t.PruneFeed(t.meta.Epoch, 0); err != nil {
		return err
	}
	return t.note(audit.Record{Action: "feed/epoch", Result: resultDone, Reason: why})
}

// voidAll makes every code void that could still be redeemed: they were stored under another pepper.
func (t *transaction) voidAll(pepper [32]byte) error {
	if err := t.void(math.MaxInt64, "the pepper has changed"); err != nil {
		return err
	}
	meta, err := t.Meta()
	if err != nil {
		return err
	}
	meta.Pepper = pepper
	return t.PutMeta(meta)
}

// void makes codes void that expired at or before a time and could still be redeemed.
func (t *transaction) void(unix int64, why string) error {
	for {
		codes, err := t.OverdueCodes(unix, batch)
		if err != nil || len(codes) == 0 {
			return err
		}
		for _, c := range codes {
			c.State = StateVoid
			if err := t.PutOneTimeCode(c); err != nil {
				return err
			}
			r := audit.Record{Action: "code/void", Object: string(c.Terminal), Result: resultDone, Reason: why}
			if err := t.note(r); err != nil {
				return err
			}
		}
	}
}
