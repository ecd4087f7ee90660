package postgres

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// read reads stored values.
var read = columns.Reader{Unreadable: unreadable}

const stateColumns = `c.base_key, c.key_id, c.high, c.seen, c.floor, c.fences, c.released, c.spent, c.conflicts, c.evidence, c.reported`

// unreported is the condition of the index of the same name.
const unreported = `evidence > reported`

// read adds to b the statements that read what calls need into the ledger. Their outcome is that of the results of b.
func (n *needs) read(b *pgx.Batch, l *ledger) {
	if n.all { // whoever reads the table has a lock of it until its transaction ends: this waits for them, and keeps others out
		b.Queue(`SET LOCAL statement_timeout = 0`)
		b.Queue(`SET LOCAL lock_timeout = 0`)
		b.Queue(`SET LOCAL idle_in_transaction_session_timeout = 0`)
		b.Queue(`LOCK TABLE counters IN ACCESS EXCLUSIVE MODE`)
	}
	if n.all || len(n.counters) > 0 {
		b.Queue(`SELECT ordinals FROM fence`).QueryRow(func(row pgx.Row) error { return row.Scan(&l.fence) })
	}
	if len(n.counters) > 0 {
		bases, ids := make([][]byte, 0, len(n.counters)), make([][]byte, 0, len(n.counters))
		for k := range n.counters {
			c := bytesOf(k)
			bases, ids = append(bases, c.base), append(ids, c.id)
			l.counters[k] = &counter{}
		}
		b.Queue(`SELECT `+stateColumns+` FROM unnest($1::bytea[], $2::bytea[]) AS k (base_key, key_id)
			JOIN counters c ON c.base_key = k.base_key AND c.key_id = k.key_id`, bases, ids).Query(each(l.scanCounter))
	}
	if n.all {
		b.Queue(`SELECT ` + stateColumns + ` FROM counters c`).Query(each(l.scanCounter))
	}
	if len(n.keys) > 0 {
		bases, ids, counters := make([][]byte, 0, len(n.keys)), make([][]byte, 0, len(n.keys)), make([]int64, 0, len(n.keys))
		for k := range n.keys {
			bases, ids, counters = append(bases, columns.Fingerprint(k.base)), append(ids, k.ksn.KeyID().Append(nil)), append(counters, int64(k.ksn.Counter()))
			l.keys[k] = true
		}
		b.Queue(`SELECT `+claimColumns+` FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS k (base_key, key_id, counter)
			JOIN claims c ON c.base_key = k.base_key AND c.key_id = k.key_id AND c.counter = k.counter
			ORDER BY c.base_key, c.key_id, c.counter, c.purpose, c.n`, bases, ids, counters).Query(each(l.scanClaim))
	}
	if len(n.requests) > 0 {
		digests := list(n.requests)
		b.Queue(`SELECT digest, original, tenant, context FROM requests WHERE digest = ANY ($1::bytea[])`, digests).Query(each(l.scanRequest))
		b.Queue(`SELECT digest, ack, ksn, content FROM acks WHERE digest = ANY ($1::bytea[])`, digests).Query(each(l.scanAck))
	}
	if len(n.answers) > 0 || len(n.requests) > 0 {
		b.Queue(`SELECT original, tenant, result, body, at FROM answers WHERE original = ANY ($1::bytea[])
			UNION SELECT a.original, a.tenant, a.result, a.body, a.at FROM requests r JOIN answers a ON a.original = r.original
			WHERE r.digest = ANY ($2::bytea[])`, list(n.answers), list(n.requests)).Query(each(l.scanAnswer))
	}
	if len(n.accused) > 0 {
		b.Queue(`SELECT digest FROM accused WHERE digest = ANY ($1::bytea[])`, list(n.accused)).Query(each(l.scanAccused))
	}
	if len(n.grants) > 0 {
		b.Queue(`SELECT grant_id, used FROM drains WHERE grant_id = ANY ($1::text[])`, slices.Collect(maps.Keys(n.grants))).Query(each(l.scanDrain))
	}
}

// list are the bytes of digests.
func list(digests map[message.Digest]bool) [][]byte {
	out := make([][]byte, 0, len(digests))
	for d := range digests {
		out = append(out, d[:])
	}
	return out
}

// each calls f for every row.
func each(f func(columns.Scan) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		for rows.Next() {
			if err := f(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

func scanState(scan columns.Scan) (key decrypt.CounterKey, s decrypt.KeyIDState, err error) {
	var base, id []byte
	if s, err = read.State(scan, &base, &id); err != nil {
		return key, s, err
	}
	key, err = read.CounterKey(base, id)
	return key, s, err
}

func (l *ledger) scanCounter(scan columns.Scan) error {
	key, s, err := scanState(scan)
	l.counters[key] = &counter{state: s, known: true}
	return err
}

const claimColumns = `c.base_key, c.key_id, c.counter, c.purpose, c.n, c.content, c.claim_key, c.fill_key, c.treatment, c.authenticated, c.mac_ksn, c.closed_by, c.collided, c.first_seen, c.tries`

func (l *ledger) scanClaim(scan columns.Scan) error {
	key, n, e, err := scanEntry(scan)
	if err != nil {
		return err
	}
	r := l.row(key)
	if n != len(r.entries) {
		return unreadable("claim", fmt.Errorf("number %d of a row is %d", len(r.entries), n))
	}
	r.entries = append(r.entries, e)
	r.stored++
	return nil
}

// scanEntry reads the claimColumns.
func scanEntry(scan columns.Scan) (key decrypt.RowKey, n int, e decrypt.Entry, err error) {
	var base, id []byte
	var ordinal uint32
	var purpose int16
	if e, err = read.Entry(scan, &base, &id, &ordinal, &purpose, &n); err != nil {
		return key, n, e, err
	}
	c, err := read.CounterKey(base, id)
	if err != nil {
		return key, n, e, err
	}
	key = decrypt.RowKey{BaseKey: c.BaseKey, Purpose: decrypt.Purpose(purpose)}
	if key.KSN, err = c.KeyID.KSN(ordinal); err != nil {
		return key, n, e, unreadable("counter", err)
	}
	return key, n, e, nil
}

func (l *ledger) scanRequest(scan columns.Scan) error {
	var digest, original []byte
	var tenant string
	var r decrypt.Request
	if err := scan(&digest, &original, &tenant, &r.Context); err != nil {
		return err
	}
	r.Digest, r.Original, r.Tenant = message.Digest(digest), message.Digest(original), keyset.TenantID(tenant)
	l.requests[r.Digest] = &request{Request: r}
	return nil
}

func (l *ledger) scanAck(scan columns.Scan) error {
	var digest, text, ksn, content []byte
	if err := scan(&digest, &text, &ksn, &content); err != nil {
		return err
	}
	a := &ack{text: text}
	copy(a.content[:], content)
	l.acks[message.Digest(digest)] = a
	var err error
	a.ksn, err = read.OptionalKSN(ksn)
	return err
}

func (l *ledger) scanAnswer(scan columns.Scan) error {
	var original []byte
	var tenant, result string
	var at int64
	var a decrypt.Answer
	if err := scan(&original, &tenant, &result, &a.Body, &at); err != nil {
		return err
	}
	a.Original, a.Tenant, a.Time = message.Digest(original), keyset.TenantID(tenant), time.UnixMilli(at).UTC()
	var err error
	if a.Result, err = message.ParseResult(result); err != nil {
		return unreadable("result", err)
	}
	l.answers[a.Original] = &decision{Answer: a}
	return nil
}

func (l *ledger) scanAccused(scan columns.Scan) error {
	var digest []byte
	if err := scan(&digest); err != nil {
		return err
	}
	l.accused[message.Digest(digest)] = nil
	return nil
}

func (l *ledger) scanDrain(scan columns.Scan) error {
	var grant string
	var used uint32
	err := scan(&grant, &used)
	l.drains[grant] = &drain{used: used}
	return err
}

// orNull returns b, or what is stored as NULL.
func orNull(b []byte, null bool) []byte {
	if null {
		return nil
	}
	return b
}
