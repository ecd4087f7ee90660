package registry

import "github.com/latchkey-pos/latchkey/tls/provision"

// AppendFeed implements provision.Tx.
func (t tx) AppendFeed(r provision.FeedRecord) error {
	return meaning(t.db.Insert(`INSERT INTO feed (epoch, sequence, v, object, envelope) VALUES (?, ?, ?, ?, ?)`,
		int64(r.Epoch), int64(r.Sequence), version, r.Object, r.Envelope))
}

// FeedHead implements provision.Tx.
func (t tx) FeedHead(epoch uint64) (provision.FeedRecord, bool, error) {
	out, err := t.feed(`SELECT epoch, sequence, object, envelope FROM feed WHERE epoch = ? ORDER BY sequence DESC LIMIT 1`, number(epoch))
	if err != nil || len(out) == 0 {
		return provision.FeedRecord{}, false, err
	}
	return out[0], true, nil
}

// FeedAfter implements provision.Tx.
func (t tx) FeedAfter(epoch, after uint64, limit int) ([]provision.FeedRecord, error) {
	return t.feed(`SELECT epoch, sequence, object, envelope FROM feed WHERE epoch = ? AND sequence > ? ORDER BY sequence LIMIT ?`,
		number(epoch), number(after), limit)
}

// FeedLatest implements provision.Tx.
func (t tx) FeedLatest(epoch uint64, yield func(provision.FeedRecord) error) error {
	return t.eachRecord(`SELECT epoch, sequence, object, envelope FROM feed AS f WHERE epoch = ? AND NOT EXISTS (
			SELECT 1 FROM feed AS newer WHERE newer.epoch = f.epoch AND newer.object = f.object AND newer.sequence > f.sequence)
		ORDER BY sequence`, []any{number(epoch)}, yield)
}

// PruneFeed implements provision.Tx.
func (t tx) PruneFeed(epoch, through uint64) (int, error) {
	return t.removed(`DELETE FROM feed AS f WHERE epoch <> ?1 OR sequence <= ?2 AND EXISTS (
			SELECT 1 FROM feed AS newer WHERE newer.epoch = ?1 AND newer.object = f.object AND newer.sequence > f.sequence)`,
		number(epoch), number(through))
}

func (t tx) feed(query string, args ...any) (out []provision.FeedRecord, err error) {
	err = t.eachRecord(query, args, func(r provision.FeedRecord) error {
		out = append(out, r)
		return nil
	})
	return out, err
}

func (t tx) eachRecord(query string, args []any, yield func(provision.FeedRecord) error) error {
	return t.db.Each(query, args, func(scan func(...any) error) error {
		var r provision.FeedRecord
		if err := scan(&r.Epoch, &r.Sequence, &r.Object, &r.Envelope); err != nil {
			return err
		}
		return yield(r)
	})
}
