package claims

import (
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

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
		digest[:], version, fingerprint(against.BaseKey), against.KeyID.Append(nil))
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
		evidence, fingerprint(key.BaseKey), key.KeyID.Append(nil))
}

// eachCounter reads every state for which a condition holds.
func (t tx) eachCounter(where string, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return t.Each(`SELECT base_key, key_id, `+stateColumns+` FROM counters WHERE `+where, nil, func(scan func(...any) error) error {
		var base, id []byte
		s, err := scanState(func(dest ...any) error { return scan(append([]any{&base, &id}, dest...)...) })
		if err != nil {
			return err
		}
		key, err := counterKey(base, id)
		if err != nil {
			return err
		}
		return f(key, s)
	})
}

func counterKey(base, id []byte) (key decrypt.CounterKey, err error) {
	if key.BaseKey, err = keys.ParseFingerprint(hex.EncodeToString(base)); err != nil {
		return key, sqlite.Unreadable("fingerprint", err)
	}
	if err = key.KeyID.UnmarshalBinary(id); err != nil {
		return key, sqlite.Unreadable("key id", err)
	}
	return key, nil
}

const stateColumns = `high, seen, floor, fences, released, spent, conflicts, evidence, reported`

func lookupState(q tx, key decrypt.CounterKey) (decrypt.KeyIDState, bool, error) {
	var s decrypt.KeyIDState
	found := false
	err := q.Each(`SELECT `+stateColumns+` FROM counters WHERE base_key = ? AND key_id = ?`,
		[]any{fingerprint(key.BaseKey), key.KeyID.Append(nil)}, func(scan func(...any) error) (err error) {
			found = true
			s, err = scanState(scan)
			return err
		})
	return s, found, err
}

// scanState reads the stateColumns.
func scanState(scan func(...any) error) (decrypt.KeyIDState, error) {
	var s decrypt.KeyIDState
	var fences, released, spent []byte
	err := scan(&s.High, &s.Seen, &s.Floor, &fences, &released, &spent, &s.Conflicts, &s.Evidence, &s.Reported)
	if err != nil {
		return decrypt.KeyIDState{}, err
	}
	for _, list := range []struct {
		to   *[]decrypt.Range
		from []byte
	}{{&s.Fences, fences}, {&s.Released, released}, {&s.Spent, spent}} {
		if *list.to, err = parseRanges(list.from); err != nil {
			return decrypt.KeyIDState{}, err
		}
	}
	return s, nil
}

func (t tx) writeState(key decrypt.CounterKey, s decrypt.KeyIDState) error {
	return t.Exec(`INSERT INTO counters (base_key, key_id, v, high, seen, floor, fences, released, spent, conflicts, evidence)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET high = excluded.high, seen = excluded.seen, floor = excluded.floor,
			conflicts = excluded.conflicts, evidence = excluded.evidence`,
		fingerprint(key.BaseKey), key.KeyID.Append(nil), version, s.High, s.Seen, s.Floor,
		formatRanges(s.Fences), formatRanges(s.Released), formatRanges(s.Spent), s.Conflicts, s.Evidence)
}

func (t tx) ensureState(key decrypt.CounterKey) error {
	return t.Exec(`INSERT INTO counters (base_key, key_id, v, high, seen, floor, fences, released, spent, conflicts, evidence)
		VALUES (?, ?, ?, 0, 0, 0, x'80', x'80', x'80', 0, 0) ON CONFLICT DO NOTHING`,
		fingerprint(key.BaseKey), key.KeyID.Append(nil), version)
}

const entryColumns = `content, claim_key, fill_key, treatment, authenticated, mac_ksn, closed_by, collided, first_seen, tries`

func (t tx) row(key decrypt.RowKey) ([]decrypt.Entry, error) {
	var out []decrypt.Entry
	err := t.Each(`SELECT `+entryColumns+` FROM claims WHERE base_key = ? AND key_id = ? AND counter = ? AND purpose = ? ORDER BY n`,
		[]any{fingerprint(key.BaseKey), key.KSN.KeyID().Append(nil), key.KSN.Counter(), uint8(key.Purpose)},
		func(scan func(...any) error) error {
			e, err := scanEntry(scan)
			out = append(out, e)
			return err
		})
	return out, err
}

// scanEntry reads the entryColumns.
func scanEntry(scan func(...any) error) (decrypt.Entry, error) {
	var e decrypt.Entry
	var content, macKSN, closedBy []byte
	var at int64
	err := scan(&content, &e.ClaimKeyVersion, &e.FillKeyVersion, &e.Treatment, &e.Authenticated, &macKSN, &closedBy,
		&e.Collided, &at, &e.Tries)
	if err != nil {
		return decrypt.Entry{}, err
	}
	copy(e.Content[:], content)
	copy(e.ClosedBy[:], closedBy)
	e.FirstSeen = time.UnixMilli(at).UTC()
	e.MACKSN, err = optionalKSN(macKSN)
	return e, err
}

// writeEntry writes a new entry, or what may change of an old one.
func (t tx) writeEntry(key decrypt.RowKey, n int, e decrypt.Entry) error {
	return t.Exec(`INSERT INTO claims (base_key, key_id, counter, purpose, n, v, `+entryColumns+`)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET closed_by = excluded.closed_by, tries = excluded.tries`,
		fingerprint(key.BaseKey), key.KSN.KeyID().Append(nil), key.KSN.Counter(), uint8(key.Purpose), n, version,
		orNull(e.Content[:], e.Tombstone()), e.ClaimKeyVersion, e.FillKeyVersion, orNull(e.Treatment, len(e.Treatment) == 0),
		e.Authenticated, orNull(e.MACKSN.Append(nil), e.MACKSN.IsZero()), orNull(e.ClosedBy[:], e.ClosedBy.IsZero()),
		e.Collided, e.FirstSeen.UnixMilli(), e.Tries)
}

func (t tx) writeRequest(set *decrypt.ClaimSet) error {
	return t.Exec(`INSERT INTO requests (digest, v, original, tenant, context, at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT DO NOTHING`,
		set.Digest[:], version, set.Original[:], string(set.Tenant), notNil(set.Context), set.Time.UnixMilli())
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

// fingerprint returns the 16 bytes of a fingerprint.
func fingerprint(f keys.Fingerprint) []byte {
	b, err := hex.DecodeString(f.String())
	if err != nil {
		panic("claims: a fingerprint is not hex: " + err.Error())
	}
	return b
}

func optionalKSN(b []byte) (dukpt.KSN, error) {
	if len(b) == 0 {
		return dukpt.KSN{}, nil
	}
	k, err := dukpt.ParseKSN(b)
	if err != nil {
		return dukpt.KSN{}, sqlite.Unreadable("ksn", err)
	}
	return k, nil
}

func orNull(b []byte, null bool) any {
	if null {
		return nil
	}
	return b
}

// notNil returns b as a value that is not NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// formatRanges writes ranges as a CBOR array of [from, to].
func formatRanges(ranges []decrypt.Range) []byte {
	wire := make([][2]uint32, 0, len(ranges))
	for _, r := range ranges {
		wire = append(wire, [2]uint32{r.From, r.To})
	}
	b, err := cbor.Marshal(wire)
	if err != nil {
		panic("claims: " + err.Error()) // numbers only
	}
	return b
}

func parseRanges(b []byte) ([]decrypt.Range, error) {
	if slices.Equal(b, []byte{0x80}) {
		return nil, nil
	}
	var wire [][2]uint32
	if err := cbor.Unmarshal(b, &wire); err != nil {
		return nil, sqlite.Unreadable("ranges", err)
	}
	var out []decrypt.Range
	for _, r := range wire {
		out = append(out, decrypt.Range{From: r[0], To: r[1]})
	}
	return out, nil
}
