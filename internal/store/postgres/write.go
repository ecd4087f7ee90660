package postgres

import (
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
)

// writeBatch writes everything that a batch has changed, and counts the batch. What is locked is written as it was judged; what
// is new and is there all the same breaks the transaction.
func writeBatch() string {
	if planted.On(planted.ClaimUnchecked) {
		return writeHead + " ON CONFLICT DO NOTHING" + writeTail
	}
	return writeHead + writeTail
}

const writeHead = `WITH
counters_in AS (
	INSERT INTO counters AS c (base_key, key_id, v, high, seen, floor, fences, released, spent, conflicts, evidence, reported)
	SELECT base_key, key_id, 1, high, seen, floor, fences, released, spent, conflicts, evidence, reported
	FROM unnest($3::bytea[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[], $11::bigint[], $12::bigint[], $13::bigint[])
		AS u (base_key, key_id, high, seen, floor, fences, released, spent, conflicts, evidence, reported)
	ON CONFLICT (base_key, key_id) DO UPDATE SET high = greatest(c.high, excluded.high), seen = greatest(c.seen, excluded.seen),
		floor = greatest(c.floor, excluded.floor), fences = excluded.fences, conflicts = greatest(c.conflicts, excluded.conflicts),
		evidence = greatest(c.evidence, excluded.evidence), reported = greatest(c.reported, excluded.reported)),
claims_new AS (
	INSERT INTO claims (base_key, key_id, counter, purpose, n, v, content, claim_key, fill_key, treatment, authenticated, mac_ksn, closed_by, collided, first_seen, tries)
	SELECT base_key, key_id, counter, purpose, n, 1, content, claim_key, fill_key, treatment, authenticated, mac_ksn, closed_by, collided, first_seen, tries
	FROM unnest($14::bytea[], $15::bytea[], $16::bigint[], $17::smallint[], $18::smallint[], $19::bytea[], $20::bigint[], $21::bigint[], $22::bytea[], $23::boolean[], $24::bytea[], $25::bytea[], $26::boolean[], $27::bigint[], $28::integer[])
		AS u (base_key, key_id, counter, purpose, n, content, claim_key, fill_key, treatment, authenticated, mac_ksn, closed_by, collided, first_seen, tries)`

const writeTail = `),
claims_old AS (
	UPDATE claims c SET closed_by = u.closed_by, tries = u.tries
	FROM unnest($29::bytea[], $30::bytea[], $31::bigint[], $32::smallint[], $33::smallint[], $34::bytea[], $35::integer[])
		AS u (base_key, key_id, counter, purpose, n, closed_by, tries)
	WHERE c.base_key = u.base_key AND c.key_id = u.key_id AND c.counter = u.counter AND c.purpose = u.purpose AND c.n = u.n),
requests_new AS (
	INSERT INTO requests (digest, v, original, tenant, context, at)
	SELECT digest, 1, original, tenant, context, at
	FROM unnest($36::bytea[], $37::bytea[], $38::text[], $39::bytea[], $40::bigint[]) AS u (digest, original, tenant, context, at)
	ON CONFLICT DO NOTHING),
answers_new AS (
	INSERT INTO answers (original, v, tenant, result, body, at)
	SELECT original, 1, tenant, result, body, at
	FROM unnest($41::bytea[], $42::text[], $43::text[], $44::bytea[], $45::bigint[]) AS u (original, tenant, result, body, at)),
acks_new AS (
	INSERT INTO acks (digest, v, original, ack, ksn, content, at)
	SELECT digest, 1, original, ack, ksn, content, at
	FROM unnest($46::bytea[], $47::bytea[], $48::bytea[], $49::bytea[], $50::bytea[], $51::bigint[]) AS u (digest, original, ack, ksn, content, at)),
accused_new AS (
	INSERT INTO accused (digest, v, base_key, key_id)
	SELECT digest, 1, base_key, key_id FROM unnest($52::bytea[], $53::bytea[], $54::bytea[]) AS u (digest, base_key, key_id)),
drains_in AS (
	INSERT INTO drains AS d (grant_id, v, used)
	SELECT grant_id, 1, used FROM unnest($55::text[], $56::bigint[]) AS u (grant_id, used)
	ON CONFLICT (grant_id) DO UPDATE SET used = greatest(d.used, excluded.used)),
leaves_new AS (
	INSERT INTO audit_leaves (instance, n, record, hashes)
	SELECT $1::text, n, record, hashes FROM unnest($57::bigint[], $58::bytea[], $59::bytea[]) AS u (n, record, hashes)),
checkpoints_new AS (
	INSERT INTO audit_checkpoints (instance, size, note)
	SELECT $1::text, size, note FROM unnest($60::bigint[], $61::bytea[]) AS u (size, note)
	ON CONFLICT DO NOTHING)
UPDATE instances SET batch = CASE batch WHEN $2::bigint - 1 THEN $2::bigint ELSE -1 END WHERE name = $1::text` // -1 breaks a rule of the table

// columns are the values of one column each.
type (
	byteColumns [][][]byte
	intColumns  [][]int64
)

func (c byteColumns) add(values ...[]byte) {
	for i, v := range values {
		c[i] = append(c[i], v)
	}
}

func (c intColumns) add(values ...int64) {
	for i, v := range values {
		c[i] = append(c[i], v)
	}
}

// arguments are those of writeBatch, for the batch with this number.
func (l *ledger) arguments(instance string, batch uint64) []any {
	args := []any{instance, int64(batch)}
	args = append(args, l.counterArguments()...)
	args = append(args, l.claimArguments()...)
	args = append(args, l.messageArguments()...)
	accused := make(byteColumns, 3)
	for digest, against := range l.accused {
		if against != nil {
			c := bytesOf(*against)
			accused.add(digest[:], c.base, c.id)
		}
	}
	var grants []string
	drained := make(intColumns, 1)
	for grant, d := range l.drains {
		if d.changed {
			grants = append(grants, grant)
			drained.add(int64(d.used))
		}
	}
	args = append(args, accused[0], accused[1], accused[2], grants, drained[0])
	numbers, leaves := make(intColumns, 1), make(byteColumns, 2)
	for _, f := range l.leaves {
		numbers.add(int64(f.n))
		leaves.add(f.record, f.hashes)
	}
	sizes, notes := make(intColumns, 1), make(byteColumns, 1)
	for _, c := range l.checkpoints {
		sizes.add(int64(c.size))
		notes.add(c.note)
	}
	return append(args, numbers[0], leaves[0], leaves[1], sizes[0], notes[0])
}

func (l *ledger) counterArguments() []any {
	b, n := make(byteColumns, 5), make(intColumns, 6)
	for key, c := range l.counters {
		if !c.changed {
			continue
		}
		k, s := bytesOf(key), c.state
		b.add(k.base, k.id, columns.Ranges(s.Fences), columns.Ranges(s.Released), columns.Ranges(s.Spent))
		n.add(int64(s.High), int64(s.Seen), int64(s.Floor), int64(s.Conflicts), int64(s.Evidence), int64(s.Reported))
	}
	return []any{b[0], b[1], n[0], n[1], n[2], b[2], b[3], b[4], n[3], n[4], n[5]}
}

func (l *ledger) claimArguments() []any {
	b, n := make(byteColumns, 6), make(intColumns, 5)
	var purpose, number []int16
	var authenticated, collided []bool
	var tries []int32
	oldB, oldN := make(byteColumns, 3), make(intColumns, 1)
	var oldPurpose, oldNumber []int16
	var oldTries []int32
	for key, r := range l.rows {
		if !r.changed {
			continue
		}
		base, id, counter := columns.Fingerprint(key.BaseKey), key.KSN.KeyID().Append(nil), int64(key.KSN.Counter())
		for i, e := range r.entries {
			closedBy := orNull(e.ClosedBy[:], e.ClosedBy.IsZero())
			if i < r.stored {
				oldB.add(base, id, closedBy)
				oldN.add(counter)
				oldPurpose, oldNumber, oldTries = append(oldPurpose, int16(key.Purpose)), append(oldNumber, int16(i)), append(oldTries, int32(e.Tries))
				continue
			}
			b.add(base, id, orNull(e.Content[:], e.Tombstone()), orNull(e.Treatment, len(e.Treatment) == 0),
				orNull(e.MACKSN.Append(nil), e.MACKSN.IsZero()), closedBy)
			n.add(counter, int64(e.ClaimKeyVersion), int64(e.FillKeyVersion), e.FirstSeen.UnixMilli())
			purpose, number, tries = append(purpose, int16(key.Purpose)), append(number, int16(i)), append(tries, int32(e.Tries))
			authenticated, collided = append(authenticated, e.Authenticated), append(collided, e.Collided)
		}
	}
	return []any{
		b[0], b[1], n[0], purpose, number, b[2], n[1], n[2], b[3], authenticated, b[4], b[5], collided, n[3], tries,
		oldB[0], oldB[1], oldN[0], oldPurpose, oldNumber, oldB[2], oldTries,
	}
}

func (l *ledger) messageArguments() []any {
	asked, askedAt := make(byteColumns, 3), make(intColumns, 1)
	var askedTenant []string
	for _, r := range l.requests {
		if r.fresh {
			asked.add(r.Digest[:], r.Original[:], columns.NotNil(r.Context))
			askedAt.add(r.at.UnixMilli())
			askedTenant = append(askedTenant, string(r.Tenant))
		}
	}
	decided, decidedAt := make(byteColumns, 2), make(intColumns, 1)
	var tenant, result []string
	for _, d := range l.answers {
		if d.fresh {
			decided.add(d.Original[:], columns.NotNil(d.Body))
			decidedAt.add(d.Time.UnixMilli())
			tenant, result = append(tenant, string(d.Tenant)), append(result, d.Result.String())
		}
	}
	told, toldAt := make(byteColumns, 5), make(intColumns, 1)
	for digest, a := range l.acks {
		if a.fresh {
			told.add(digest[:], a.original[:], a.text, orNull(a.ksn.Append(nil), a.ksn.IsZero()),
				orNull(a.content[:], a.content == decrypt.Content{}))
			toldAt.add(a.at.Truncate(time.Millisecond).UnixMilli())
		}
	}
	return []any{
		asked[0], asked[1], askedTenant, asked[2], askedAt[0],
		decided[0], tenant, result, decided[1], decidedAt[0],
		told[0], told[1], told[2], told[3], told[4], toldAt[0],
	}
}
