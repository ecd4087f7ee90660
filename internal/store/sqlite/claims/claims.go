package claims

import (
	"errors"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// read reads stored values.
var read = columns.Reader{Unreadable: sqlite.Unreadable}

// version is the version of every row.
const version = 1

// claim settles the claims of one message and writes what they change.
func (t tx) claim(set *decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	ledger := &ledger{tx: t, states: make(map[decrypt.CounterKey]decrypt.KeyIDState)}
	s, err := decrypt.Settle(set, ledger)
	if ledger.err != nil {
		return decrypt.ClaimOutcome{}, ledger.err
	}
	if err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	r := set.Audit
	r.Result, r.Reason = s.Outcome.Verdict.String(), s.Remark
	if s.Refusal != nil {
		r.Result, r.Reason = decrypt.Refused.String(), string(s.Refusal.Code)
	}
	if err := t.Audit(r); err != nil { // first: a record that cannot be written stops everything
		return decrypt.ClaimOutcome{}, err
	}
	if err := t.write(&s); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	if s.Refusal != nil {
		return s.Outcome, s.Refusal
	}
	if err := t.writeRequest(set); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	s.Outcome.Answer, err = t.answered(set)
	return s.Outcome, err
}

// answered returns what was decided on the message of a set before, or nil.
func (t tx) answered(set *decrypt.ClaimSet) (*decrypt.Answer, error) {
	a, ok, err := lookupDecision(t, set.Original)
	if err != nil || !ok {
		return nil, err
	}
	a.Digest = set.Digest
	return &a, lookupAck(t, &a)
}

func (t tx) write(s *decrypt.Settlement) error {
	for grant, used := range s.Drained {
		if err := t.writeDrained(grant, used); err != nil {
			return err
		}
	}
	for key, state := range s.States {
		if err := t.writeState(key, state); err != nil {
			return err
		}
	}
	if !s.Accused.IsZero() {
		if err := t.writeAccused(s.Accused, s.Outcome.Evidence); err != nil {
			return err
		}
	}
	for key, row := range s.Rows {
		if _, ok := s.States[key.Counter()]; !ok { // a reversal may name a key that was never used
			if err := t.ensureState(key.Counter()); err != nil {
				return err
			}
		}
		for n, e := range row {
			if err := t.writeEntry(key, n, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// ledger reads for decrypt.Settle and tells failures of the database from those of the claims.
type ledger struct {
	tx     tx
	states map[decrypt.CounterKey]decrypt.KeyIDState // read already: the claims of a message share few counters
	err    error
}

func (l *ledger) State(key decrypt.CounterKey) (decrypt.KeyIDState, error) {
	if s, ok := l.states[key]; ok {
		return s, nil
	}
	s, _, err := lookupState(l.tx, key)
	l.err = errors.Join(l.err, err)
	l.states[key] = s
	return s, err
}

func (l *ledger) Row(key decrypt.RowKey) ([]decrypt.Entry, error) {
	row, err := l.tx.row(key)
	l.err = errors.Join(l.err, err)
	return row, err
}

func (l *ledger) Fences() (uint32, error) {
	n, err := l.tx.fenced()
	l.err = errors.Join(l.err, err)
	return n, err
}

func (l *ledger) Drained(grant string) (uint32, error) {
	var used uint32
	_, err := l.tx.One(`SELECT used FROM drains WHERE grant_id = ?`, []any{grant}, &used)
	l.err = errors.Join(l.err, err)
	return used, err
}

func (l *ledger) Accused(digest message.Digest) (bool, error) {
	var v int
	found, err := l.tx.One(`SELECT v FROM accused WHERE digest = ?`, []any{digest[:]}, &v)
	l.err = errors.Join(l.err, err)
	return found, err
}

func (t tx) writeAccused(digest message.Digest, against decrypt.CounterKey) error {
	return t.Exec(`INSERT INTO accused (digest, v, base_key, key_id) VALUES (?, ?, ?, ?)`,
		digest[:], version, columns.Fingerprint(against.BaseKey), against.KeyID.Append(nil))
}

func (t tx) writeDrained(grant string, used uint32) error {
	return t.Exec(`INSERT INTO drains (grant_id, v, used) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET used = excluded.used`,
		grant, version, used)
}

// unreported is the condition of the index of the same name.
const unreported = `evidence > reported`

// evidenceReported leaves the rest of a state to writeState, which leaves this to it.
func (t tx) evidenceReported(key decrypt.CounterKey, evidence uint64) error {
	return t.Exec(`UPDATE counters SET reported = max(reported, min(?, evidence)) WHERE base_key = ? AND key_id = ?`,
		evidence, columns.Fingerprint(key.BaseKey), key.KeyID.Append(nil))
}

// eachCounter reads every state for which a condition holds.
func (t tx) eachCounter(where string, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return t.Each(`SELECT base_key, key_id, `+stateColumns+` FROM counters WHERE `+where, nil, func(scan func(...any) error) error {
		var base, id []byte
		s, err := read.State(scan, &base, &id)
		if err != nil {
			return err
		}
		key, err := read.CounterKey(base, id)
		if err != nil {
			return err
		}
		return f(key, s)
	})
}

const stateColumns = `high, seen, floor, fences, released, spent, conflicts, evidence, reported`

func lookupState(q tx, key decrypt.CounterKey) (decrypt.KeyIDState, bool, error) {
	var s decrypt.KeyIDState
	found := false
	err := q.Each(`SELECT `+stateColumns+` FROM counters WHERE base_key = ? AND key_id = ?`,
		[]any{columns.Fingerprint(key.BaseKey), key.KeyID.Append(nil)}, func(scan func(...any) error) (err error) {
			found = true
			s, err = read.State(scan)
			return err
		})
	if err != nil || found {
		return s, found, err
	}
	n, err := q.fenced()
	return s.Fenced(key.KeyID, n), false, err
}

func (t tx) writeState(key decrypt.CounterKey, s decrypt.KeyIDState) error {
	return t.Exec(`INSERT INTO counters (base_key, key_id, v, high, seen, floor, fences, released, spent, conflicts, evidence)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET high = excluded.high, seen = excluded.seen, floor = excluded.floor, fences = excluded.fences,
			conflicts = excluded.conflicts, evidence = excluded.evidence`,
		columns.Fingerprint(key.BaseKey), key.KeyID.Append(nil), version, s.High, s.Seen, s.Floor,
		columns.Ranges(s.Fences), columns.Ranges(s.Released), columns.Ranges(s.Spent), s.Conflicts, s.Evidence)
}

// ensureState makes the row of a counter that has none.
func (t tx) ensureState(key decrypt.CounterKey) error {
	s, found, err := lookupState(t, key)
	if err != nil || found {
		return err
	}
	return t.writeState(key, s)
}

const entryColumns = `content, claim_key, fill_key, treatment, authenticated, mac_ksn, closed_by, collided, first_seen, tries`

func (t tx) row(key decrypt.RowKey) ([]decrypt.Entry, error) {
	var out []decrypt.Entry
	err := t.Each(`SELECT `+entryColumns+` FROM claims WHERE base_key = ? AND key_id = ? AND counter = ? AND purpose = ? ORDER BY n`,
		[]any{columns.Fingerprint(key.BaseKey), key.KSN.KeyID().Append(nil), key.KSN.Counter(), uint8(key.Purpose)},
		func(scan func(...any) error) error {
			e, err := read.Entry(scan)
			out = append(out, e)
			return err
		})
	return out, err
}

// writeEntry writes a new entry, or what may change of an old one.
func (t tx) writeEntry(key decrypt.RowKey, n int, e decrypt.Entry) error {
	return t.Exec(`INSERT INTO claims (base_key, key_id, counter, purpose, n, v, `+entryColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET closed_by = excluded.closed_by, tries = excluded.tries`,
		columns.Fingerprint(key.BaseKey), key.KSN.KeyID().Append(nil), key.KSN.Counter(), uint8(key.Purpose), n, version,
		orNull(e.Content[:], e.Tombstone()), e.ClaimKeyVersion, e.FillKeyVersion, orNull(e.Treatment, len(e.Treatment) == 0),
		e.Authenticated, orNull(e.MACKSN.Append(nil), e.MACKSN.IsZero()), orNull(e.ClosedBy[:], e.ClosedBy.IsZero()),
		e.Collided, e.FirstSeen.UnixMilli(), e.Tries)
}

func (t tx) writeRequest(set *decrypt.ClaimSet) error {
	return t.Exec(`INSERT INTO requests (digest, v, original, tenant, context, at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`,
		set.Digest[:], version, set.Original[:], string(set.Tenant), columns.NotNil(set.Context), set.Time.UnixMilli())
}

func lookupRequest(q tx, digest message.Digest) (decrypt.Request, bool, error) {
	var original, saved []byte
	var tenant string
	ok, err := q.One(`SELECT original, tenant, context FROM requests WHERE digest = ?`, []any{digest[:]}, &original, &tenant, &saved)
	if err != nil || !ok {
		return decrypt.Request{}, false, err
	}
	return decrypt.Request{
		Digest: digest, Original: message.Digest(original), Tenant: keyset.TenantID(tenant), Context: saved,
	}, true, nil
}

func orNull(b []byte, null bool) any {
	if null {
		return nil
	}
	return b
}
