package provision

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/tls/feed"
)

// Feed returns what an asker who knows the feed up to a position does not know yet. When that is nothing it waits for
// something new, at most as long as wait says. Whoever serves it asks MayFollow before.
func (e *Engine) Feed(ctx context.Context, epoch, after uint64, wait time.Duration) (*feed.Page, error) {
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
	var records [][]byte
	var snapshot bool
	err = e.view(ctx, func(tx Tx) error {
		var err error
		if _, end, err = readHead(tx); err != nil {
			return err
		}
		records, snapshot, err = since(tx, end.position, asker)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.page(end, records, snapshot)
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

// since returns the records that follow a position, or a snapshot when that cannot be said of them, or would be more.
func since(tx Tx, end, asker position) (records [][]byte, snapshot bool, err error) {
	if asker.epoch == end.epoch && asker.sequence <= end.sequence && end.sequence-asker.sequence <= 2*feedKept {
		following, err := tx.FeedAfter(end.epoch, asker.sequence, 2*feedKept+1)
		if err != nil {
			return nil, false, err
		}
		if uint64(len(following)) == end.sequence-asker.sequence {
			for _, r := range following {
				records = append(records, r.Envelope)
			}
			return records, false, nil
		}
	}
	err = tx.FeedLatest(end.epoch, func(r FeedRecord) error {
		records = append(records, r.Envelope)
		return nil
	})
	return records, true, err
}

// page signs a head for the records.
func (e *Engine) page(end head, records [][]byte, snapshot bool) (*feed.Page, error) {
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
		p.Chain = append(p.Chain, slices.Clone(cert.Raw))
	}
	return p, nil
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
		return nil, &Refusal{Code: CodeIssuerUnavailable, RetryAfter: retryAfter(), Cause: err}
	}
	e.crl.der, e.crl.at = der, now
	return slices.Clone(der), nil
}
