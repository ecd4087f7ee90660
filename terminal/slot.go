package terminal

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// budgetJumps is how many jumps of the largest size one key id allows over its life.
const budgetJumps = 10

// windowMargin is how many ordinals before the end of the window sales stop: room for the messages that settle the oldest.
const windowMargin = 64

// Slot says what one key of the terminal is for, as its key set prescribes. It holds no secret.
type Slot struct {
	Number    uint8          // the number of the slot in messages, 1 to keyset.MaxSlots
	KeySet    keyset.ID      // the key set that the key comes from
	Revision  uint           // its revision when the key was delivered
	KeyID     dukpt.KeyID    // which key: the KSN without its counter
	MAC       dukpt.MACSpec  // how messages are MACed; every slot can
	Data      dukpt.DataSpec // how card data is encrypted; the zero value: not under this slot
	PINFormat pin.Format     // how PINs are encrypted; the zero value: not under this slot
	Window    uint32         // W: how many ordinals below the highest the host still accepts; 0: it sets no floor
	MaxJump   uint32         // J: the most ordinals that the host may ask to skip at once; 0: none
}

// Scheme returns the DUKPT scheme of the slot.
func (s Slot) Scheme() dukpt.Scheme { return s.KeyID.Scheme() }

// HasData reports whether card data is encrypted under this slot.
func (s Slot) HasData() bool { return s.Data.Mode != 0 }

// HasPIN reports whether PINs are encrypted under this slot.
func (s Slot) HasPIN() bool { return s.PINFormat != 0 }

// budget is the most ordinals that jumps may give up over the life of the key.
func (s Slot) budget() uint64 { return budgetJumps * uint64(s.MaxJump) }

func (s Slot) validate() error {
	if s.Number == 0 || s.Number > keyset.MaxSlots {
		return fmt.Errorf("slot number %d, want 1 to %d", s.Number, keyset.MaxSlots)
	}
	if _, err := keyset.ParseID(string(s.KeySet)); err != nil {
		return err
	}
	if s.MaxJump >= s.Scheme().MaxOrdinal() {
		return fmt.Errorf("slot %d: jump of %d ordinals", s.Number, s.MaxJump)
	}
	if s.Window != 0 && s.Window <= windowMargin {
		return fmt.Errorf("slot %d: window of %d ordinals, want more than %d, or none", s.Number, s.Window, windowMargin)
	}
	if err := s.MAC.Validate(s.Scheme()); err != nil {
		return fmt.Errorf("slot %d: %w", s.Number, err)
	}
	if err := s.checkKinds(); err != nil {
		return err
	}
	if s.HasPIN() && s.PINFormat != pinFormat(s.Scheme()) {
		return fmt.Errorf("slot %d: PIN format %v under %v", s.Number, s.PINFormat, s.Scheme())
	}
	if !s.HasData() {
		return nil
	}
	if s.Data.Direction != dukpt.Request || s.Data.IV != nil {
		return fmt.Errorf("slot %d: data is a request without an IV of its own", s.Number)
	}
	if err := s.Data.Validate(s.Scheme()); err != nil {
		return fmt.Errorf("slot %d: %w", s.Number, err)
	}
	return nil
}

// checkKinds refuses what package dukpt can compute and neither key sets nor messages nor saved slots know.
func (s Slot) checkKinds() error {
	if err := keyset.CheckMAC(s.Scheme(), s.MAC); err != nil {
		return fmt.Errorf("slot %d: %w", s.Number, err)
	}
	for _, w := range []dukpt.WorkingKey{s.MAC.Key, s.Data.Key} {
		if w == dukpt.KeyTDES2 || w == dukpt.KeyTDES3 {
			return fmt.Errorf("slot %d: a working key %v is not of messages", s.Number, w)
		}
	}
	if s.Data.Padding != dukpt.NoPadding {
		return fmt.Errorf("slot %d: data padding %v is not of messages", s.Number, s.Data.Padding)
	}
	return nil
}

// slotOf describes a slot under a key set, with the key of id.
func slotOf(number uint8, set *keyset.KeySet, id dukpt.KeyID) (Slot, error) {
	if !set.Contains(id) || !set.Has(keyset.UsageMAC) {
		return Slot{}, fmt.Errorf("%w: key set %s does not contain %v, or makes no MACs", ErrBundle, set.ID, id)
	}
	s := Slot{
		Number: number, KeySet: set.ID, Revision: set.Revision, KeyID: id, MAC: set.MACSpec(), Window: set.W,
		MaxJump: set.J,
	}
	if set.Has(keyset.UsageData) {
		s.Data = set.DataSpec(dukpt.Request, dukpt.CBC, nil)
	}
	if set.Has(keyset.UsagePIN) {
		s.PINFormat = pinFormat(set.Scheme)
	}
	if err := s.validate(); err != nil {
		return Slot{}, fmt.Errorf("%w: %v", ErrBundle, err)
	}
	return s, nil
}

// pinFormat returns the PIN block format that messages have under a scheme.
func pinFormat(s dukpt.Scheme) pin.Format {
	switch s {
	case dukpt.TDES:
		return pin.Format0
	case dukpt.AES:
		return pin.Format4
	}
	return 0
}

// slotRecord is a Slot as stored.
type slotRecord struct {
	Number    uint8       `cbor:"slot"`
	KeySet    string      `cbor:"set"`
	Revision  uint        `cbor:"rev"`
	KeyID     dukpt.KeyID `cbor:"id"`
	MAC       macRecord   `cbor:"mac"`
	Data      *dataRecord `cbor:"data,omitempty"`
	PINFormat uint8       `cbor:"pf,omitempty"`
	Window    uint32      `cbor:"w"`
	MaxJump   uint32      `cbor:"j"`
}

type macRecord struct {
	Algorithm string `cbor:"alg"`
	Key       uint8  `cbor:"key,omitempty"`
	Padding   uint8  `cbor:"pad,omitempty"`
	Length    int    `cbor:"len"`
}

type dataRecord struct {
	Profile uint8 `cbor:"prof,omitempty"`
	Key     uint8 `cbor:"key,omitempty"`
	Mode    uint8 `cbor:"mode"`
}

func (s Slot) record() slotRecord {
	r := slotRecord{
		Number: s.Number, KeySet: string(s.KeySet), Revision: s.Revision, KeyID: s.KeyID, Window: s.Window, MaxJump: s.MaxJump,
		PINFormat: uint8(s.PINFormat),
		MAC: macRecord{
			Algorithm: s.MAC.Algorithm.String(), Key: uint8(s.MAC.Key), Padding: uint8(s.MAC.Padding), Length: s.MAC.Length,
		},
	}
	if s.HasData() {
		r.Data = &dataRecord{Profile: uint8(s.Data.Profile), Key: uint8(s.Data.Key), Mode: uint8(s.Data.Mode)}
	}
	return r
}

func slotRecords(in []Slot) (out []slotRecord) {
	for _, s := range in {
		out = append(out, s.record())
	}
	return out
}

func slotsOf(in []slotRecord) (out []Slot, err error) {
	for _, r := range in {
		s, err := r.slot()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (r slotRecord) slot() (Slot, error) {
	alg, err := dukpt.ParseMACAlgorithm(r.MAC.Algorithm)
	if err != nil {
		return Slot{}, err
	}
	s := Slot{
		Number: r.Number, KeySet: keyset.ID(r.KeySet), Revision: r.Revision, KeyID: r.KeyID, Window: r.Window, MaxJump: r.MaxJump,
		PINFormat: pin.Format(r.PINFormat),
		MAC: dukpt.MACSpec{
			Algorithm: alg, Key: dukpt.WorkingKey(r.MAC.Key), Padding: dukpt.MACPadding(r.MAC.Padding), Length: r.MAC.Length,
		},
	}
	if d := r.Data; d != nil {
		s.Data = dukpt.DataSpec{
			Direction: dukpt.Request, Profile: dukpt.DataProfile(d.Profile), Key: dukpt.WorkingKey(d.Key),
			Mode: dukpt.CipherMode(d.Mode),
		}
	}
	return s, s.validate()
}
