package dukpt

import "fmt"

// Variant names a working key of TDES DUKPT (X9.24-1:2009, table A-1), for a host whose keys stay in a device that makes it of base
// key and KSN by itself. The zero value is none.
type Variant uint8

// The working keys. That of data is the standard's, with the one-way step.
const (
	VariantPIN Variant = iota + 1
	VariantMACRequest
	VariantMACResponse
	VariantDataRequest
	VariantDataResponse
)

// Variant gives the PIN key of a block. It fails with [ErrUnsupported] for what TDES DUKPT does not have.
func (b PINBlock) Variant() (Variant, error) {
	if err := b.spec().Validate(TDES); err != nil {
		return 0, err
	}
	return VariantPIN, nil
}

// Variant gives the MAC key of an operation in the direction implied, [Request] or [Response]. It fails as
// [HostTransaction.VerifyMAC] does.
func (s MACSpec) Variant(implied Direction) (Variant, error) {
	d, err := s.direction(TDES, implied)
	if err != nil {
		return 0, err
	}
	if d == Response {
		return VariantMACResponse, nil
	}
	return VariantMACRequest, nil
}

// Variant gives the data key of an operation in the direction implied, [Request] or [Response]. It fails as
// [HostTransaction.DecryptData] does, and with [ErrUnsupported] for the profiles [DataMask] and [DataBareKey].
func (s DataSpec) Variant(implied Direction) (Variant, error) {
	if err := s.Validate(TDES); err != nil {
		return 0, err
	}
	if err := s.checkDirection(implied); err != nil {
		return 0, err
	}
	switch {
	case s.Profile == DataPINVariant:
		return VariantPIN, nil
	case s.Profile != DataOneWay:
		return 0, fmt.Errorf("%w: data profile %v in a device that makes the standard's key", ErrUnsupported, s.Profile)
	case s.Direction == Response:
		return VariantDataResponse, nil
	}
	return VariantDataRequest, nil
}
