package dukpt

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/padding"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// WorkingKey is a type of working key of AES DUKPT (X9.24-3:2017, table 3). The zero value is none. PINs, data and MACs are
// computed under the TDES and AES ones, HMACs under the HMAC ones. None may be stronger than the key it comes from, or it
// fails with [ErrStrength].
type WorkingKey uint8

// The types of working keys.
const (
	KeyTDES2 WorkingKey = iota + 1
	KeyTDES3
	KeyAES128
	KeyAES192
	KeyAES256
	KeyHMAC128
	KeyHMAC192
	KeyHMAC256
)

// Direction says who encrypts or MACs. The zero value is neither.
type Direction uint8

// The directions. TDES has no separate key for Both: it is the request key (X9.24-1:2009, table A-1).
const (
	Request  Direction = iota + 1 // terminal to host
	Response                      // host to terminal
	Both                          // one key for both ways: AES usages 2002 and 3002
)

// DataProfile says how a TDES data key is made of the transaction key. Makers differ. The zero value is none.
type DataProfile uint8

// The profiles.
const (
	// DataOneWay is the standard's: the data variant, then each half encrypted under the whole (X9.24-1:2009, A.4.1). ID TECH
	// and Verifone readers use it.
	DataOneWay DataProfile = iota + 1
	// DataMask is the data variant without the one-way step, as in old editions.
	DataMask
	// DataPINVariant is the PIN key, as in MagTek readers. A key set that uses it must hold no PINs.
	DataPINVariant
	// DataBareKey is the transaction key itself. A key set that uses it must hold nothing else.
	DataBareKey
)

// CipherMode is a block cipher mode. The zero value is none.
type CipherMode uint8

// The modes.
const (
	CBC CipherMode = iota + 1
	ECB
)

// DataPadding is how data is filled up to whole blocks before it is encrypted. The zero value is [NoPadding].
type DataPadding uint8

// The paddings of data. Those that come off again say with [ErrVerify] that they were wrong, and whoever may try ciphertexts and
// see that decrypts without the key: verify a MAC first.
const (
	NoPadding DataPadding = iota // data comes in whole blocks
	// ZeroPadding adds as few zeros as needed. Decryption leaves them on: they cannot be told from zeros that data ends in.
	ZeroPadding
	ISO9797M2Padding // 80, then as few zeros as needed (ISO/IEC 9797-1, 6.3.3)
	PKCS7Padding     // 1 to a whole block of bytes, each the number of them (RFC 5652, 6.3)
)

// DataSpec says how card data is encrypted. Nothing in it has a default but IV and Padding.
type DataSpec struct {
	Direction Direction   // Request or Both on the way to the host, Response or Both on the way back
	Profile   DataProfile // TDES only; zero for AES
	Key       WorkingKey  // AES only: a TDES type, with blocks of 8 bytes, or an AES type, with blocks of 16; zero for TDES
	Mode      CipherMode
	IV        []byte      // one block, or nil for zeros; nil for ECB. Not kept.
	Padding   DataPadding // zero: none
}

// PINSpec says how a PIN is encrypted.
type PINSpec struct {
	Format pin.Format // one that goes with the cipher of the key: Format0 with TDES, Format4 with AES
	Key    WorkingKey // AES only: a TDES type or an AES type, zero for AES-128; zero for TDES
}

// MACAlgorithm is a MAC algorithm. The zero value is none.
type MACAlgorithm uint8

// The algorithms. New systems use MACRetail under TDES and MACCMAC under AES.
const (
	MACRetail MACAlgorithm = iota + 1 // ISO 9797-1 algorithm 3 with single DES inside, under a TDES key
	MACCMAC                           // NIST SP 800-38B, under a TDES or AES key
	// MACCBC is ISO 9797-1 algorithm 1 under a TDES key. With padding methods 1 and 2 it protects only messages of one length.
	MACCBC
	MACHMACSHA256 // RFC 2104, under an HMAC key of any size
	MACHMACSHA384
	MACHMACSHA512
)

// MACPadding is a padding method of ISO 9797-1. The zero value is none, as CMAC and HMAC need it.
type MACPadding uint8

// The padding methods for [MACRetail] and [MACCBC]. Methods 2 and 3 tell messages apart that differ in trailing zeros; new
// systems use method 2.
const (
	MACPadding1 MACPadding = iota + 1 // zeros
	MACPadding2                       // 80, then zeros
	MACPadding3                       // a block with the length in bits in front, then zeros at the end
)

// MACSpec says how a message is MACed. Start from [Scheme.DefaultMAC].
type MACSpec struct {
	Algorithm MACAlgorithm
	Direction Direction  // zero: the key of the method, request for MAC and VerifyMAC, response for the others. Both: one key for both
	Key       WorkingKey // AES only: what the algorithm goes with; zero for TDES
	Padding   MACPadding // MACRetail and MACCBC only; zero for CMAC and HMAC
	Length    int        // bytes kept from the left: 4 to a block of the cipher, or half to all of an HMAC
}

// DefaultMAC returns the MAC of new systems at full length: retail MAC with padding method 2, or CMAC under AES-128.
func (s Scheme) DefaultMAC() MACSpec {
	switch s {
	case TDES:
		return MACSpec{Algorithm: MACRetail, Padding: MACPadding2, Length: 8}
	case AES:
		return MACSpec{Algorithm: MACCMAC, Key: KeyAES128, Length: 16}
	}
	return MACSpec{}
}

// DefaultData returns CBC with zeros for IV under the request key: the standard's data variant, or an AES-128 key.
func (s Scheme) DefaultData() DataSpec {
	switch s {
	case TDES:
		return DataSpec{Direction: Request, Profile: DataOneWay, Mode: CBC}
	case AES:
		return DataSpec{Direction: Request, Key: KeyAES128, Mode: CBC}
	}
	return DataSpec{}
}

// Validate returns nil when data can be encrypted so under keys of the scheme, [ErrLength] for a wrong IV, and
// [ErrUnsupported] otherwise. Whether a working key is too strong for its parent shows only when it is derived.
func (s DataSpec) Validate(scheme Scheme) error {
	if s.Direction < Request || s.Direction > Both {
		return fmt.Errorf("%w: direction %v", ErrUnsupported, s.Direction)
	}
	if s.Padding > PKCS7Padding {
		return fmt.Errorf("%w: data padding %v", ErrUnsupported, s.Padding)
	}
	switch scheme {
	case TDES:
		if s.Profile < DataOneWay || s.Profile > DataBareKey {
			return fmt.Errorf("%w: data profile %v", ErrUnsupported, s.Profile)
		}
	case AES:
		if s.Profile != 0 {
			return fmt.Errorf("%w: AES has no data profiles, got %v", ErrUnsupported, s.Profile)
		}
	}
	size, err := s.Key.blockSize(scheme)
	if err != nil {
		return err
	}
	switch s.Mode {
	case CBC:
		if s.IV != nil && len(s.IV) != size {
			return fmt.Errorf("%w: the IV has %d bytes, not %d", ErrLength, len(s.IV), size)
		}
	case ECB:
		if s.IV != nil {
			return fmt.Errorf("%w: ECB takes no IV", ErrUnsupported)
		}
	default:
		return fmt.Errorf("%w: cipher mode %v", ErrUnsupported, s.Mode)
	}
	return nil
}

// Validate returns nil when a message can be MACed so under keys of the scheme, [ErrLength] for a Length out of range, and
// [ErrUnsupported] otherwise. Whether a working key is too strong for its parent shows only when it is derived.
func (s MACSpec) Validate(scheme Scheme) error {
	if s.Direction > Both {
		return fmt.Errorf("%w: direction %v", ErrUnsupported, s.Direction)
	}
	least, full, err := s.bounds(scheme)
	if err != nil {
		return err
	}
	if s.Length < least || s.Length > full {
		return fmt.Errorf("%w: a MAC of %d bytes is outside %d..%d", ErrLength, s.Length, least, full)
	}
	return nil
}

// bounds returns the shortest and the longest MAC of an algorithm under a key and with a padding that go with it.
func (s MACSpec) bounds(scheme Scheme) (least, full int, err error) {
	if h := s.Algorithm.hash(); h != 0 {
		if scheme != AES || !s.Key.isHMAC() {
			return 0, 0, fmt.Errorf("%w: %v under %v and a working key %v", ErrUnsupported, s.Algorithm, scheme, s.Key)
		}
		if s.Padding != 0 {
			return 0, 0, fmt.Errorf("%w: HMAC has its own padding, got %v", ErrUnsupported, s.Padding)
		}
		return h.Size() / 2, h.Size(), nil
	}
	full, err = s.Key.blockSize(scheme)
	if err != nil {
		return 0, 0, err
	}
	switch {
	case s.Algorithm == MACCMAC:
		if s.Padding != 0 {
			return 0, 0, fmt.Errorf("%w: CMAC has its own padding, got %v", ErrUnsupported, s.Padding)
		}
	case (s.Algorithm == MACRetail || s.Algorithm == MACCBC) && full == tdesBlock:
		if s.Padding < MACPadding1 || s.Padding > MACPadding3 {
			return 0, 0, fmt.Errorf("%w: MAC padding %v", ErrUnsupported, s.Padding)
		}
	default:
		return 0, 0, fmt.Errorf("%w: MAC algorithm %v under %v and a working key %v", ErrUnsupported, s.Algorithm, scheme, s.Key)
	}
	return mac.MinLength, full, nil
}

// Validate returns nil when a PIN can be encrypted so under keys of the scheme, and [ErrUnsupported] otherwise. Whether a
// working key is too strong for its parent shows only when it is derived.
func (s PINSpec) Validate(scheme Scheme) error {
	size, err := s.key(scheme).blockSize(scheme)
	if err != nil {
		return err
	}
	if size == tdesBlock {
		return checkPINFormat(s.Format, TDES)
	}
	return checkPINFormat(s.Format, AES)
}

// key returns the type of the PIN key: under AES an AES-128 key, whatever the initial key is, where nothing is chosen.
func (s PINSpec) key(scheme Scheme) WorkingKey {
	if s.Key == 0 && scheme == AES {
		return KeyAES128
	}
	return s.Key
}

// resolve returns the direction that s asks for in a method whose own is implied.
func (s MACSpec) resolve(implied Direction) (Direction, error) {
	switch s.Direction {
	case 0, implied:
		return implied, nil
	case Both:
		return Both, nil
	}
	return 0, fmt.Errorf("%w: a %v MAC where a %v one belongs", ErrUnsupported, s.Direction, implied)
}

// checkDirection refuses data that goes the other way.
func (s DataSpec) checkDirection(implied Direction) error {
	if s.Direction != implied && s.Direction != Both {
		return fmt.Errorf("%w: %v data where %v data belongs", ErrUnsupported, s.Direction, implied)
	}
	return nil
}

// method is the padding in package mac, which numbers the methods alike.
func (p MACPadding) method() mac.Padding { return mac.Padding(p) }

// method is the padding in package padding.
func (p DataPadding) method() padding.Method {
	switch p {
	case NoPadding:
		return padding.None
	case ZeroPadding:
		return padding.Zero
	case ISO9797M2Padding:
		return padding.ISO9797M2
	case PKCS7Padding:
		return padding.PKCS7
	}
	return 0
}

// hash is the hash function of an HMAC, and zero for the other algorithms.
func (a MACAlgorithm) hash() mac.Hash {
	switch a {
	case MACHMACSHA256:
		return mac.SHA256
	case MACHMACSHA384:
		return mac.SHA384
	case MACHMACSHA512:
		return mac.SHA512
	}
	return 0
}

// workingKeys gives each type its code and size in the derivation data (X9.24-3:2017, 6.3.2) and its strength in bits.
var workingKeys = [...]struct {
	name      string
	algorithm uint16
	bits      uint16
	strength  int
}{
	KeyTDES2:   {"2TDEA", 0x0000, 128, 80},
	KeyTDES3:   {"3TDEA", 0x0001, 192, 112},
	KeyAES128:  {"AES128", 0x0002, 128, 128},
	KeyAES192:  {"AES192", 0x0003, 192, 192},
	KeyAES256:  {"AES256", 0x0004, 256, 256},
	KeyHMAC128: {"HMAC128", 0x0005, 128, 128},
	KeyHMAC192: {"HMAC192", 0x0005, 192, 192},
	KeyHMAC256: {"HMAC256", 0x0005, 256, 256},
}

func (w WorkingKey) valid() bool { return w >= KeyTDES2 && w <= KeyHMAC256 }

func (w WorkingKey) isTDES() bool { return w == KeyTDES2 || w == KeyTDES3 }

func (w WorkingKey) isAES() bool { return w >= KeyAES128 && w <= KeyAES256 }

func (w WorkingKey) isHMAC() bool { return w >= KeyHMAC128 && w <= KeyHMAC256 }

const (
	tdesBlock = 8
	aesBlock  = 16
)

// blockSize returns the block of the cipher that works with this type of key under the scheme. It refuses types that are for no
// cipher, and any under TDES, which has none.
func (w WorkingKey) blockSize(scheme Scheme) (int, error) {
	switch {
	case scheme == TDES && w == 0, scheme == AES && w.isTDES():
		return tdesBlock, nil
	case scheme == AES && w.isAES():
		return aesBlock, nil
	case scheme == TDES:
		return 0, fmt.Errorf("%w: TDES has no working-key types, got %v", ErrUnsupported, w)
	}
	return 0, fmt.Errorf("%w: no cipher goes with a working key %v under %v", ErrUnsupported, w, scheme)
}

// WorkingKeyOf returns the type of working key that is like an algorithm, and 0 for HMAC and TDES ones, which are no parents.
func WorkingKeyOf(a keys.Algorithm) WorkingKey {
	switch a {
	case keys.AES128:
		return KeyAES128
	case keys.AES192:
		return KeyAES192
	case keys.AES256:
		return KeyAES256
	}
	return 0
}

// Algorithm returns the algorithm of a key of this type, and the invalid one for what is no type.
func (w WorkingKey) Algorithm() keys.Algorithm {
	if !w.valid() {
		return 0
	}
	return [...]keys.Algorithm{
		KeyTDES2: keys.TDES2, KeyTDES3: keys.TDES3, KeyAES128: keys.AES128, KeyAES192: keys.AES192, KeyAES256: keys.AES256,
		KeyHMAC128: keys.HMAC128, KeyHMAC192: keys.HMAC192, KeyHMAC256: keys.HMAC256,
	}[w]
}

// String returns the name of the type, as in "AES128".
func (w WorkingKey) String() string {
	if !w.valid() {
		return fmt.Sprintf("WorkingKey(%d)", uint8(w))
	}
	return workingKeys[w].name
}

// String returns "request", "response" or "both".
func (d Direction) String() string {
	return name(uint8(d), "Direction", "request", "response", "both")
}

// String returns "one-way", "mask", "pin-variant" or "bare-key".
func (p DataProfile) String() string {
	return name(uint8(p), "DataProfile", "one-way", "mask", "pin-variant", "bare-key")
}

// String returns "CBC" or "ECB".
func (m CipherMode) String() string { return name(uint8(m), "CipherMode", "CBC", "ECB") }

// String returns the name of the algorithm in payment APIs: "ISO9797_ALGORITHM3", "CMAC", "ISO9797_ALGORITHM1", "HMAC_SHA256",
// "HMAC_SHA384" or "HMAC_SHA512".
func (a MACAlgorithm) String() string {
	return name(uint8(a), "MACAlgorithm", "ISO9797_ALGORITHM3", "CMAC", "ISO9797_ALGORITHM1", "HMAC_SHA256", "HMAC_SHA384", "HMAC_SHA512")
}

// String returns "method1", "method2" or "method3".
func (p MACPadding) String() string {
	return name(uint8(p), "MACPadding", "method1", "method2", "method3")
}

// String returns "none", "zero", "iso9797-method2" or "pkcs7".
func (p DataPadding) String() string {
	if p == NoPadding {
		return "none"
	}
	return name(uint8(p), "DataPadding", "zero", "iso9797-method2", "pkcs7")
}

func name(v uint8, kind string, names ...string) string {
	if v == 0 || int(v) > len(names) {
		return fmt.Sprintf("%s(%d)", kind, v)
	}
	return names[v-1]
}

// ParseMACAlgorithm reads what String gives.
func ParseMACAlgorithm(s string) (MACAlgorithm, error) {
	return parseName(s, "MAC algorithm", MACRetail, MACCMAC, MACCBC, MACHMACSHA256, MACHMACSHA384, MACHMACSHA512)
}

// ParseMACPadding reads what String gives.
func ParseMACPadding(s string) (MACPadding, error) {
	return parseName(s, "MAC padding", MACPadding1, MACPadding2, MACPadding3)
}

// ParseDataPadding reads what String gives.
func ParseDataPadding(s string) (DataPadding, error) {
	return parseName(s, "data padding", NoPadding, ZeroPadding, ISO9797M2Padding, PKCS7Padding)
}

// ParseDataProfile reads what String gives.
func ParseDataProfile(s string) (DataProfile, error) {
	return parseName(s, "data profile", DataOneWay, DataMask, DataPINVariant, DataBareKey)
}

// ParseCipherMode reads what String gives.
func ParseCipherMode(s string) (CipherMode, error) {
	return parseName(s, "cipher mode", CBC, ECB)
}

// ParseWorkingKey reads what String gives.
func ParseWorkingKey(s string) (WorkingKey, error) {
	return parseName(s, "working key", KeyTDES2, KeyTDES3, KeyAES128, KeyAES192, KeyAES256, KeyHMAC128, KeyHMAC192, KeyHMAC256)
}

// ParseDirection reads what String gives.
func ParseDirection(s string) (Direction, error) {
	return parseName(s, "direction", Request, Response, Both)
}

func parseName[T fmt.Stringer](s, what string, values ...T) (T, error) {
	for _, v := range values {
		if v.String() == s {
			return v, nil
		}
	}
	var zero T
	return zero, fmt.Errorf("%w: %s %q", ErrUnsupported, what, s)
}
