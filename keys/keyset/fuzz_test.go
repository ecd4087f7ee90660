package keyset

import (
	"bytes"
	"crypto/elliptic"
	"slices"
	"testing"
	"time"
)

// FuzzKeySet: whatever Unmarshal accepts is valid, has exactly one spelling, and may follow itself as a revision.
func FuzzKeySet(f *testing.F) {
	for _, s := range []*KeySet{
		tdes(NewTDESPIN(), "PIN-TDES"), tdes(NewTDESData(), "DATA-TDES"), aes(NewAESPIN(), "P"), aes(NewAESData(), "D"),
	} {
		b, err := Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := Unmarshal(b); err != nil {
			f.Fatalf("seed %x: %v", b, err)
		}
		f.Add(b, []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		s, err := Unmarshal(b)
		if err != nil {
			return
		}
		again, err := Marshal(s)
		if err != nil {
			t.Fatalf("Marshal of what %x says: %v", b, err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("Marshal of what %x says gives %x", b, again)
		}
		if !s.Contains(s.FirstID) || !s.Contains(s.LastID) {
			t.Fatalf("%x does not contain its own ends", b)
		}
		if s.Has(UsagePIN) && s.Profile != 0 && !s.Profile.SparesPIN() {
			t.Fatalf("%x has PINs under keys that its data keys give away", b)
		}
		if s.State == Retired || s.Revision == ^uint(0) {
			return
		}
		if err := CheckSuccessor(s, s.NextRevision()); err != nil {
			t.Fatalf("%x does not follow itself: %v", b, err)
		}
	})
}

// FuzzTerminal: whatever UnmarshalTerminal accepts is valid and has exactly one spelling.
func FuzzTerminal(f *testing.F) {
	for _, r := range []*Terminal{
		{Version: 1, Tenant: "SHOP", ID: "T", Status: StatusPending, Generation: 1, Slots: []Slot{
			{1, "A", keyID("1234567890123456"), SlotPending, 0}, {2, "B", keyID("FFFF9876543210E00000"), SlotActive, 0},
		}},
		{
			Version: 1, Tenant: "SHOP", ID: "T", Status: StatusActive, Generation: 2, Serial: "0a", PreviousSerial: "0b",
			PreviousUntil: time.Unix(1767225600, 0), Slots: []Slot{{1, "A", keyID("1234567890123456"), SlotActive, 0}},
		},
	} {
		b, err := MarshalTerminal(r)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := UnmarshalTerminal(b); err != nil {
			f.Fatalf("seed %x: %v", b, err)
		}
		f.Add(b, []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		r, err := UnmarshalTerminal(b)
		if err != nil {
			return
		}
		again, err := MarshalTerminal(r)
		if err != nil {
			t.Fatalf("MarshalTerminal of what %x says: %v", b, err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("MarshalTerminal of what %x says gives %x", b, again)
		}
	})
}

// FuzzSigned: whatever Open accepts has exactly one spelling, and the payload that was signed.
func FuzzSigned(f *testing.F) {
	anna, bert := newPerson(f, "ANNA", elliptic.P256()), newPerson(f, "BERT", elliptic.P256())
	payload := []byte("payload")
	for _, doc := range [][]byte{signed(f, "note", payload, anna), signed(f, "note", payload, anna, bert)} {
		if _, _, err := Open(doc, "note", byCommonName); err != nil {
			f.Fatalf("seed %x: %v", doc, err)
		}
		f.Add(doc, []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		s, err := ParseSigned(b)
		if err != nil {
			return
		}
		again, err := s.marshal()
		if err != nil {
			t.Fatalf("marshal of what %x says: %v", b, err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("marshal of what %x says gives %x", b, again)
		}
		got, approvers, err := Open(b, "note", byCommonName)
		if err == nil && (!bytes.Equal(got, payload) || len(approvers) == 0) {
			t.Fatalf("%x opens as %x of %v", b, got, approvers)
		}
	})
}
