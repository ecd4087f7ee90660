package hsm

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// A key in the token carries what else is known of it in its CKA_ID, as text, and its name in its CKA_LABEL; neither can be
// changed afterwards (CKA_MODIFIABLE is false). Objects without such a text are others' and left alone.
const (
	keyRecord          = "latchkey-key-1"
	distributionRecord = "latchkey-kdh-1" // of a base key that initial keys come out of, and nothing else
	variantRecord      = "latchkey-c0-1"

	variantSuffix = "-c0"
	timeLayout    = time.RFC3339
	maxRecord     = 255
)

// record is what a key's CKA_ID says. It is comparable.
type record struct {
	distributes bool // it is for a key-distribution host
	id          keyset.KeyRef
	environment keyset.Environment
	usage       keys.Usage
	mode        keys.Mode
	exports     keys.Exportability
	created     time.Time
	kcv         keys.KCV
	fingerprint keys.Fingerprint
}

// String spells the record.
func (r record) String() string {
	kind := keyRecord
	if r.distributes {
		kind = distributionRecord
	}
	return strings.Join([]string{
		kind, r.id.String(), r.environment.String(), string(r.usage), r.mode.String(), r.exports.String(),
		r.created.Format(timeLayout), r.kcv.String(), r.fingerprint.String(),
	}, " ")
}

// isRecord reports whether a CKA_ID is meant to be a record, of a key or of a variant.
func isRecord(id []byte) bool {
	kind, _, more := strings.Cut(string(id), " ")
	return more && (kind == keyRecord || kind == distributionRecord || kind == variantRecord)
}

var errRecord = errors.New("hsm: not the record of a key")

// parseRecord reads what String spells, and nothing else.
func parseRecord(b []byte) (record, error) {
	fields := strings.Split(string(b), " ")
	if len(b) > maxRecord || len(fields) != 9 || len(fields[4]) != 1 || len(fields[5]) != 1 {
		return record{}, errRecord
	}
	r := record{distributes: fields[0] == distributionRecord} // that it is one of the two is held to below
	var errs [8]error
	r.id, errs[0] = keyset.ParseKeyRef(fields[1])
	r.environment, errs[1] = keyset.ParseEnvironment(fields[2])
	r.usage, errs[2] = keys.ParseUsage(fields[3])
	r.mode, errs[3] = keys.ParseMode(fields[4][0])
	r.exports, errs[4] = keys.ParseExportability(fields[5][0])
	r.created, errs[5] = time.Parse(timeLayout, fields[6])
	r.kcv, errs[6] = keys.ParseKCV(fields[7])
	r.fingerprint, errs[7] = keys.ParseFingerprint(fields[8])
	if err := errors.Join(errs[:]...); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	r.created = r.created.UTC()
	if r.id.IsAlias() || r.String() != string(b) {
		return record{}, errRecord
	}
	return r, nil
}

// variant is the CKA_ID of the C0 variant of a TDES base key: whose it is, and its fingerprint.
type variant struct {
	id          keyset.KeyRef
	fingerprint keys.Fingerprint // of the variant
}

// String spells the record of a variant.
func (v variant) String() string {
	return strings.Join([]string{variantRecord, v.id.String(), v.fingerprint.String()}, " ")
}

// parseVariant reads what String spells, and nothing else.
func parseVariant(b []byte) (variant, error) {
	fields := strings.Split(string(b), " ")
	if len(b) > maxRecord || len(fields) != 3 || fields[0] != variantRecord {
		return variant{}, errRecord
	}
	var v variant
	var err error
	if v.id, err = keyset.ParseKeyRef(fields[1]); err != nil {
		return variant{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if v.fingerprint, err = keys.ParseFingerprint(fields[2]); err != nil {
		return variant{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if v.id.IsAlias() || v.String() != string(b) {
		return variant{}, errRecord
	}
	return v, nil
}

// usesOf says what a token key may do: what its attributes ask for, and nothing else. A base key whose keys are derived inside
// may only derive; one whose initial keys come out encrypts, and so does each of a key-distribution host, on any token. It fails
// for what tokens do not hold here.
func usesOf(a keys.Attributes, derives, distributes bool) ([]use, error) {
	if distributes && a.Usage != keys.UsageBDK {
		return nil, fmt.Errorf("%w: a key-distribution host has base keys, not usage %s", ErrAttributes, a.Usage)
	}
	derives = derives && !distributes
	switch a.Usage {
	case keys.UsageBDK:
		if (a.Algorithm.IsAES() || a.Algorithm == keys.TDES2) && derives {
			return []use{useDerive}, nil
		}
		if a.Algorithm.IsAES() || a.Algorithm == keys.TDES2 {
			return []use{useEncrypt}, nil
		}
	case keys.UsagePIN:
		return []use{useEncrypt}, nil
	case keys.UsageData:
		return []use{useEncrypt, useDecrypt}, nil
	}
	return nil, fmt.Errorf("%w: a token here holds base keys, zone PIN keys and data keys; not usage %s of %s", ErrAttributes, a.Usage, a.Algorithm)
}

func bdkAttributes(a keys.Algorithm) keys.Attributes {
	return keys.Attributes{Algorithm: a, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}
}

// timeNow cuts a time to what a record says.
func (o Options) timeNow() time.Time { return o.Clock().UTC().Truncate(time.Second) }
