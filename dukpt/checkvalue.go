package dukpt

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// KeyUse is what a working key is for. The zero value is none.
type KeyUse uint8

// The uses: the kinds of working keys of X9.24-3:2017, 6.3.2, of which TDES has the first three.
const (
	UsePIN KeyUse = iota + 1
	UseMAC
	UseData
	UseKeyEncryption
)

// String returns "PIN", "MAC", "data" or "key encryption".
func (u KeyUse) String() string {
	return name(uint8(u), "KeyUse", "PIN", "MAC", "data", "key encryption")
}

// WorkingKeyCheck names one working key of a transaction, and has its check value. It holds no secret.
type WorkingKeyCheck struct {
	Use       KeyUse
	Direction Direction   // of MAC and data keys; zero for the others, and for DataBareKey
	Profile   DataProfile // of data keys under TDES; zero for AES
	Key       WorkingKey  // KeyTDES2 for TDES
	KCV       keys.KCV    // of the default kind of the key's algorithm, as keys.Key.KCV has it
}

// CheckValues returns the check values of all working keys of one transaction, by use, direction and type: under AES those of
// every usage and type that is no stronger than the base key (and no TDES type where Go's FIPS mode forbids TDES), under TDES
// those of the standard, of [DataMask] and of [DataBareKey]; [DataPINVariant] is the PIN key. Two who hold the same base key
// find out with them where they differ.
//
// Roles keep the keys of requests from a host: a [HostTransaction] verifies and opens with them, and neither MACs nor encrypts.
// This method goes past roles, and is therefore one of the base key, takes nothing but the KSN, and gives nothing but check
// values, which are public (ANSI X9.24-1:2017, annex A): a service cannot be brought to compute with a key of requests by it.
// What a check value gives away is the beginning of the CMAC, or of the encryption, of one block of zeros: a system that cuts
// CMACs to 5 bytes or fewer must not give that message a meaning.
//
// It fails with [ErrKSN] as [BaseKey.Begin] does, and is for benches and key ceremonies: it allocates, and derives some
// thirty keys.
func (b *BaseKey) CheckValues(ksn KSN) ([]WorkingKeyCheck, error) {
	tx, err := b.Begin(ksn)
	if err != nil {
		return nil, err
	}
	defer tx.End()
	rows := checksOf(b.family.scheme)
	out := rows[:0]
	for _, row := range rows {
		secret.Do(func() { row.KCV, err = tx.s.checkValue(row) })
		switch {
		case errors.Is(err, ErrStrength), row.Key.isTDES() && checkDES() != nil:
			continue
		case err != nil:
			return nil, err
		}
		out = append(out, row)
	}
	return out, nil
}

// checksOf lists the working keys of a scheme.
func checksOf(scheme Scheme) []WorkingKeyCheck {
	if scheme == TDES {
		rows := []WorkingKeyCheck{{Use: UsePIN}, {Use: UseMAC, Direction: Request}, {Use: UseMAC, Direction: Response}}
		for _, p := range []DataProfile{DataOneWay, DataMask} {
			rows = append(rows, WorkingKeyCheck{Use: UseData, Direction: Request, Profile: p},
				WorkingKeyCheck{Use: UseData, Direction: Response, Profile: p})
		}
		rows = append(rows, WorkingKeyCheck{Use: UseData, Profile: DataBareKey})
		for i := range rows {
			rows[i].Key = KeyTDES2
		}
		return rows
	}
	var rows []WorkingKeyCheck
	add := func(u KeyUse, d Direction, last WorkingKey) {
		for w := KeyTDES2; w <= last; w++ {
			rows = append(rows, WorkingKeyCheck{Use: u, Direction: d, Key: w})
		}
	}
	add(UsePIN, 0, KeyAES256)
	for d := Request; d <= Both; d++ {
		add(UseMAC, d, KeyHMAC256)
	}
	for d := Request; d <= Both; d++ {
		add(UseData, d, KeyAES256)
	}
	add(UseKeyEncryption, 0, KeyAES256)
	return rows
}

// checkValue computes the check value of one working key.
func (s *session) checkValue(c WorkingKeyCheck) (keys.KCV, error) {
	defer s.wipeWorkingKey()
	var k []byte
	var err error
	switch c.Use {
	case UsePIN:
		k, err = s.pinKey(PINSpec{Key: c.Key})
	case UseMAC:
		k, err = s.macKey(c.Direction, c.Key)
	case UseData:
		k, err = s.dataKey(DataSpec{Direction: c.Direction, Profile: c.Profile, Key: c.Key})
	case UseKeyEncryption:
		k, err = s.derive(usageKeyEncryption, c.Key)
	default:
		err = fmt.Errorf("%w: a working key for %v", ErrUnsupported, c.Use)
	}
	if err != nil {
		return keys.KCV{}, err
	}
	key, err := keys.NewKey(c.attributes(), k)
	if err != nil {
		return keys.KCV{}, err
	}
	defer key.Wipe()
	return key.KCV(), nil
}

// attributes are those of a key that is of this type; the check value is the same for every usage.
func (c WorkingKeyCheck) attributes() keys.Attributes {
	a := keys.Attributes{
		Algorithm: c.Key.Algorithm(), Usage: keys.UsageKEK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}
	if c.Key.isHMAC() {
		a.Usage, a.Mode = keys.UsageHMAC, keys.ModeGenVerify
	}
	return a
}
