package provision

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/tls/feed"
)

// Feed returns what an asker who knows the feed up to a position does not know yet: a feed.Page in its marshalled form,
// which is shared and not to be changed. When that is nothing it waits for something new, at most as long as wait says.
// Whoever serves it asks MayFollow before.
func (e *Engine) Feed(ctx context.Context, epoch, after uint64, wait time.Duration) ([]byte, error) {
	if err := e.resolve(ctx); err != nil {
		return nil, err
	}
	asker := position{epoch, after}
	end, err := e.await(ctx, asker, wait)
	if err != nil {
		return nil, err
	}
	if end.position == asker {
		return e.page(end, nil, false)
	}
	if end.follows(asker, batch) {
		page, err := e.following(ctx, asker)
		if err != nil || page != nil {
			return page, err
		}
	}
	return e.longPage(ctx, asker, end)
}

// follows reports whether a position is behind one of the same epoch, by no more than so many records.
func (p position) follows(q position, most uint64) bool {
	return p.epoch == q.epoch && p.sequence >= q.sequence && p.sequence-q.sequence <= most
}

// await waits until the feed has something that the asker does not know, or for as long as wait says.
func (e *Engine) await(ctx context.Context, asker position, wait time.Duration) (head, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		end, changed := e.memory.newest()
		if end.position != asker {
			return end, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return end, nil
		case <-ctx.Done():
			return head{}, ctx.Err()
		}
	}
}

// following returns a page of the records that follow a position, nil when they are not all there any more.
func (e *Engine) following(ctx context.Context, asker position) ([]byte, error) {
	var end head
	var records [][]byte
	err := e.view(ctx, func(tx Tx) error {
		records = nil
		var err error
		if _, end, err = readHead(tx); err != nil || !end.follows(asker, mostFollowing) {
			return err
		}
		all, err := tx.FeedAfter(end.epoch, asker.sequence, mostFollowing+1)
		for _, r := range all {
			records = append(records, r.Envelope)
		}
		return err
	})
	if err != nil || !end.follows(asker, mostFollowing) || uint64(len(records)) != end.sequence-asker.sequence {
		return nil, err
	}
	return e.page(end, records, false)
}

// mostFollowing is how many records follow a position before a snapshot is less.
const mostFollowing = 2 * feedKept

// page signs a head for the records, and returns them together in marshalled form.
func (e *Engine) page(end head, records [][]byte, snapshot bool) ([]byte, error) {
	if e.blind() {
		return nil, &Refusal{Code: CodeStoreUnavailable, Cause: errBlind}
	}
	h := &feed.Head{
		Tenant: e.config.Tenant, Epoch: end.epoch, Sequence: end.sequence, Hash: end.hash, Objects: end.objects,
		Time: e.config.Clock().UTC().Truncate(time.Millisecond),
	}
	if snapshot {
		h.Snapshot = feed.SnapshotDigest(records)
	}
	signed, err := feed.SignHead(h, e.config.Chain[0].Raw, e.config.Signer)
	if err != nil {
		return nil, &Refusal{Code: CodeInternal, Cause: err}
	}
	p := &feed.Page{Head: signed, Snapshot: snapshot, Records: records}
	for _, cert := range e.config.Chain[1:] {
		p.Chain = append(p.Chain, cert.Raw)
	}
	b, err := p.Marshal()
	if err != nil {
		return nil, &Refusal{Code: CodeInternal, Cause: err}
	}
	return b, nil
}

// crlKept is how long a revocation list is handed out again: whoever may ask without a certificate must not make the
// issuer sign for every question.
const crlKept = 30 * time.Second

// crlCache keeps the last revocation list.
type crlCache struct {
	mu  sync.Mutex
	der []byte
	at  time.Time
}

func (c *crlCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.der = nil
}

// CRL returns the revocation list of the terminals issuer in DER. It may be half a minute old.
func (e *Engine) CRL(ctx context.Context) ([]byte, error) {
	e.crl.mu.Lock()
	defer e.crl.mu.Unlock()
	now := e.now()
	if e.crl.der != nil && now.Sub(e.crl.at).Abs() < crlKept {
		return slices.Clone(e.crl.der), nil
	}
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	der, err := e.config.Issuer.CRL(ctx)
	if err != nil {
		return nil, issuerFailure(err)
	}
	e.crl.der, e.crl.at = der, now
	return slices.Clone(der), nil
}
