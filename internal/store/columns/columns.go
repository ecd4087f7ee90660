// Package columns spells claims and counters in the columns of a database: what the stores have in common, whatever their
// database. It prints nothing and is safe for concurrent use.
package columns

import (
	"encoding/hex"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// Scan reads the columns of a row.
type Scan func(dest ...any) error

// Reader reads stored values. Unreadable makes the error of a value that its store cannot have written.
type Reader struct {
	Unreadable func(what string, err error) error
}

// CounterKey reads a fingerprint and a key id.
func (r Reader) CounterKey(base, id []byte) (key decrypt.CounterKey, err error) {
	if key.BaseKey, err = keys.ParseFingerprint(hex.EncodeToString(base)); err != nil {
		return key, r.Unreadable("fingerprint", err)
	}
	if err = key.KeyID.UnmarshalBinary(id); err != nil {
		return key, r.Unreadable("key id", err)
	}
	return key, nil
}

// State reads the columns of a state, high, seen, floor, fences, released, spent, conflicts, evidence and reported, and before
// them those that lead.
func (r Reader) State(scan Scan, lead ...any) (s decrypt.KeyIDState, err error) {
	var fences, released, spent []byte
	err = scan(append(lead, &s.High, &s.Seen, &s.Floor, &fences, &released, &spent, &s.Conflicts, &s.Evidence, &s.Reported)...)
	if err != nil {
		return decrypt.KeyIDState{}, err
	}
	for _, list := range []struct {
		to   *[]decrypt.Range
		from []byte
	}{{&s.Fences, fences}, {&s.Released, released}, {&s.Spent, spent}} {
		if *list.to, err = r.ranges(list.from); err != nil {
			return decrypt.KeyIDState{}, err
		}
	}
	return s, nil
}

// Entry reads the columns of an entry, content, claim_key, fill_key, treatment, authenticated, mac_ksn, closed_by, collided,
// first_seen and tries, and before them those that lead.
func (r Reader) Entry(scan Scan, lead ...any) (e decrypt.Entry, err error) {
	var content, macKSN, closedBy []byte
	var at int64
	err = scan(append(lead, &content, &e.ClaimKeyVersion, &e.FillKeyVersion, &e.Treatment, &e.Authenticated, &macKSN, &closedBy,
		&e.Collided, &at, &e.Tries)...)
	if err != nil {
		return decrypt.Entry{}, err
	}
	copy(e.Content[:], content)
	copy(e.ClosedBy[:], closedBy)
	e.FirstSeen = time.UnixMilli(at).UTC()
	e.MACKSN, err = r.OptionalKSN(macKSN)
	return e, err
}

// OptionalKSN reads a KSN, the zero value where there is none.
func (r Reader) OptionalKSN(b []byte) (dukpt.KSN, error) {
	if len(b) == 0 {
		return dukpt.KSN{}, nil
	}
	k, err := dukpt.ParseKSN(b)
	if err != nil {
		return dukpt.KSN{}, r.Unreadable("ksn", err)
	}
	return k, nil
}

func (r Reader) ranges(b []byte) ([]decrypt.Range, error) {
	if slices.Equal(b, []byte{0x80}) {
		return nil, nil
	}
	var wire [][2]uint32
	if err := cbor.Unmarshal(b, &wire); err != nil {
		return nil, r.Unreadable("ranges", err)
	}
	var out []decrypt.Range
	for _, w := range wire {
		out = append(out, decrypt.Range{From: w[0], To: w[1]})
	}
	return out, nil
}

// Ranges writes ranges as a CBOR array of [from, to].
func Ranges(ranges []decrypt.Range) []byte {
	wire := make([][2]uint32, 0, len(ranges))
	for _, r := range ranges {
		wire = append(wire, [2]uint32{r.From, r.To})
	}
	b, err := cbor.Marshal(wire)
	if err != nil {
		panic("columns: " + err.Error()) // numbers only
	}
	return b
}

// Fingerprint returns the 16 bytes of a fingerprint.
func Fingerprint(f keys.Fingerprint) []byte {
	b, err := hex.DecodeString(f.String())
	if err != nil {
		panic("columns: a fingerprint is not hex: " + err.Error())
	}
	return b
}

// NotNil returns b as a value that is not NULL.
func NotNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
