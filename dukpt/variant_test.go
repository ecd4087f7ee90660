package dukpt

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/pin"
)

// TestVariants holds which key of TDES DUKPT an operation asks a device for against the operation itself: two that differ in their
// key name two variants, and what the host role refuses has none.
func TestVariants(t *testing.T) {
	t.Parallel()
	mac := TDES.DefaultMAC()
	for _, tt := range []struct {
		direction, implied Direction
		want               Variant
		err                error
	}{
		{0, Request, VariantMACRequest, nil}, {Request, Request, VariantMACRequest, nil}, {Both, Request, VariantMACRequest, nil},
		{0, Response, VariantMACResponse, nil}, {Response, Response, VariantMACResponse, nil}, {Both, Response, VariantMACRequest, nil},
		{Response, Request, 0, ErrUnsupported}, {Request, Response, 0, ErrUnsupported},
	} {
		mac.Direction = tt.direction
		if got, err := mac.Variant(tt.implied); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("MAC %v where %v belongs: %v, %v", tt.direction, tt.implied, got, err)
		}
	}
	if got, err := AES.DefaultMAC().Variant(Request); got != 0 || !errors.Is(err, ErrUnsupported) {
		t.Errorf("CMAC under AES: %v, %v", got, err)
	}
	for _, tt := range []struct {
		profile            DataProfile
		direction, implied Direction
		want               Variant
		err                error
	}{
		{DataOneWay, Request, Request, VariantDataRequest, nil}, {DataOneWay, Both, Request, VariantDataRequest, nil},
		{DataOneWay, Response, Response, VariantDataResponse, nil}, {DataOneWay, Both, Response, VariantDataRequest, nil},
		{DataOneWay, Request, Response, 0, ErrUnsupported}, {DataPINVariant, Request, Request, VariantPIN, nil},
		{DataMask, Request, Request, 0, ErrUnsupported}, {DataBareKey, Request, Request, 0, ErrUnsupported}, {0, Request, Request, 0, ErrUnsupported},
	} {
		s := DataSpec{Profile: tt.profile, Direction: tt.direction, Mode: ECB}
		if got, err := s.Variant(tt.implied); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("data %v, %v where %v belongs: %v, %v", tt.profile, tt.direction, tt.implied, got, err)
		}
	}
	for f, want := range map[pin.Format]Variant{pin.Format0: VariantPIN, pin.Format1: VariantPIN, pin.Format3: VariantPIN, pin.Format4: 0} {
		got, err := PINBlock{Format: f}.Variant()
		if got != want || (err == nil) != (want != 0) || err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
}
