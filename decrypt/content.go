package decrypt

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// Content says which content a claim is for without telling it: an HMAC over all that shapes what is released. It is
// comparable and public; the zero value is none.
type Content [sha256.Size]byte

// String returns 64 lower-case hex digits.
func (c Content) String() string { return hex.EncodeToString(c[:]) }

// claimKeySize is the length of a claim key in bytes.
const claimKeySize = sha256.Size

var errContent = errors.New("decrypt: there is no content without all of its parts")

// PINContent binds a claim to a PIN block and to the PAN that opens it: of formats 0 and 3 the twelve digits that the
// block holds, of format 4 all of them.
func PINContent(key secret.Bytes, ksn dukpt.KSN, block []byte, f pin.Format, pan pin.PAN) (Content, error) {
	if pan.IsZero() {
		return Content{}, errContent
	}
	switch f {
	case pin.Format0, pin.Format3:
		digits := pan.Canonical12()
		defer digits.Wipe()
		return pinContent(key, ksn, block, digits.Expose())
	case pin.Format4:
		return pinContent(key, ksn, block, pan.Digits().Expose())
	default:
		return Content{}, fmt.Errorf("decrypt: a claim has no content for PIN block format %v", f)
	}
}

func pinContent(key secret.Bytes, ksn dukpt.KSN, block, digits []byte) (Content, error) {
	if len(block) == 0 || len(digits) == 0 {
		return Content{}, errContent
	}
	return content(key, ksn, PurposePIN, block, nil, nil, digits)
}

// DataContent binds a claim to encrypted data, its IV as it was sent (none is another content than zeros) and its mode.
func DataContent(key secret.Bytes, ksn dukpt.KSN, ciphertext, iv []byte, mode dukpt.CipherMode) (Content, error) {
	return dataContent(key, ksn, PurposeData, ciphertext, iv, mode)
}

// dataContent is DataContent for PurposeData and PurposeDataResponse.
func dataContent(key secret.Bytes, ksn dukpt.KSN, p Purpose, ciphertext, iv []byte, mode dukpt.CipherMode) (Content, error) {
	if len(ciphertext) == 0 {
		return Content{}, errContent
	}
	if mode != dukpt.CBC && mode != dukpt.ECB {
		return Content{}, fmt.Errorf("decrypt: a claim has no content for %v", mode)
	}
	return content(key, ksn, p, ciphertext, iv, []byte(mode.String()))
}

// MACContent binds a claim to bytes and their MAC, for PurposeMAC, PurposeSignIn and PurposeMACResponse.
func MACContent(key secret.Bytes, ksn dukpt.KSN, p Purpose, msg, mac []byte) (Content, error) {
	if p != PurposeMAC && p != PurposeSignIn && p != PurposeMACResponse {
		return Content{}, fmt.Errorf("decrypt: %v is not the purpose of a MAC", p)
	}
	if len(msg) == 0 || len(mac) == 0 {
		return Content{}, errContent
	}
	return content(key, ksn, p, msg, mac)
}

func content(key secret.Bytes, ksn dukpt.KSN, p Purpose, parts ...[]byte) (Content, error) {
	if key.Len() != claimKeySize {
		return Content{}, fmt.Errorf("decrypt: claim key of %d bytes, want %d", key.Len(), claimKeySize)
	}
	if ksn.IsZero() {
		return Content{}, errContent
	}
	h := hmac.New(sha256.New, key.Expose())
	input := contentInput(ksn, p, parts...)
	defer secret.Wipe(input) // it may hold a PAN
	h.Write(input)
	return Content(h.Sum(nil)), nil
}

// contentInput puts each part after its length, 4 bytes big-endian, so that no two lists of parts give the same bytes.
func contentInput(ksn dukpt.KSN, p Purpose, parts ...[]byte) []byte {
	size := 64
	for _, part := range parts {
		size += 4 + len(part)
	}
	out := make([]byte, 0, size) // never grown, so that wiping it wipes every copy
	out = appendPart(out, ksn.Append(nil))
	out = appendPart(out, []byte(p.String()))
	for _, part := range parts {
		out = appendPart(out, part)
	}
	return out
}

func appendPart(dst, part []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(part)))
	return append(dst, part...)
}

// Treatment says in what way a content was released. It is stored so that an auditor can read it. The members are the
// words of this module's types, empty where one has no meaning; Resolved is the identifier of the outgoing key that was
// used, which comparisons leave out: a resend uses it again, whatever the name means by then.
type Treatment struct {
	Operation   string // "translate-pin", "decrypt-data", "verify-mac", …
	Derivation  string // scheme and working key
	Variant     string // DUKPT variant or maker profile
	Padding     string
	FromFormat  string // PIN block format of the terminal
	ToFormat    string // PIN block format for the outgoing key
	OutgoingKey keyset.KeyRef
	Resolved    keyset.KeyRef
}

// treatmentWire is the CBOR form of a Treatment.
type treatmentWire struct {
	Version     uint   `cbor:"v"`
	Operation   string `cbor:"operation"`
	Derivation  string `cbor:"derivation,omitempty"`
	Variant     string `cbor:"variant,omitempty"`
	Padding     string `cbor:"padding,omitempty"`
	FromFormat  string `cbor:"from,omitempty"`
	ToFormat    string `cbor:"to,omitempty"`
	OutgoingKey string `cbor:"key,omitempty"`
	Resolved    string `cbor:"resolved,omitempty"`
}

// maxTreatment bounds a stored treatment in bytes.
const maxTreatment = 1024

var treatmentCodec = canon.New(16, 4)

// Encode returns the deterministic CBOR form. It fails for a treatment without operation and for one that is too long.
func (t Treatment) Encode() ([]byte, error) {
	if t.Operation == "" {
		return nil, errors.New("decrypt: a treatment without operation")
	}
	w := treatmentWire{
		Version: 1, Operation: t.Operation, Derivation: t.Derivation, Variant: t.Variant, Padding: t.Padding,
		FromFormat: t.FromFormat, ToFormat: t.ToFormat,
	}
	if !t.OutgoingKey.IsZero() {
		w.OutgoingKey = t.OutgoingKey.String()
	}
	if !t.Resolved.IsZero() {
		w.Resolved = t.Resolved.String()
	}
	b, err := treatmentCodec.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %v", err)
	}
	if len(b) > maxTreatment {
		return nil, fmt.Errorf("decrypt: a treatment of %d bytes, want at most %d", len(b), maxTreatment)
	}
	return b, nil
}

// ParseTreatment reads what Encode made and nothing else.
func ParseTreatment(b []byte) (Treatment, error) {
	if len(b) > maxTreatment {
		return Treatment{}, fmt.Errorf("decrypt: a treatment of %d bytes, want at most %d", len(b), maxTreatment)
	}
	var w treatmentWire
	if err := treatmentCodec.Unmarshal(b, &w); err != nil {
		return Treatment{}, fmt.Errorf("decrypt: treatment: %v", err)
	}
	if w.Version != 1 {
		return Treatment{}, fmt.Errorf("decrypt: treatment of version %d, want 1", w.Version)
	}
	t := Treatment{
		Operation: w.Operation, Derivation: w.Derivation, Variant: w.Variant, Padding: w.Padding,
		FromFormat: w.FromFormat, ToFormat: w.ToFormat,
	}
	var err error
	if t.OutgoingKey, err = optionalRef(w.OutgoingKey); err != nil {
		return Treatment{}, fmt.Errorf("decrypt: treatment: %v", err)
	}
	if t.Resolved, err = optionalRef(w.Resolved); err != nil {
		return Treatment{}, fmt.Errorf("decrypt: treatment: %v", err)
	}
	again, err := t.Encode()
	if err != nil {
		return Treatment{}, err
	}
	if !bytes.Equal(again, b) {
		return Treatment{}, errors.New("decrypt: treatment: not the deterministic encoding of its content")
	}
	return t, nil
}

func optionalRef(s string) (keyset.KeyRef, error) {
	if s == "" {
		return keyset.KeyRef{}, nil
	}
	return keyset.ParseKeyRef(s)
}

// Same reports whether two treatments release the same, whatever the version of the outgoing key.
func (t Treatment) Same(u Treatment) bool {
	t.Resolved, u.Resolved = keyset.KeyRef{}, keyset.KeyRef{}
	return t == u
}

// sameTreatment compares encoded treatments. One that cannot be read is like no other.
func sameTreatment(a, b []byte) bool {
	ta, err := ParseTreatment(a)
	if err != nil {
		return false
	}
	tb, err := ParseTreatment(b)
	return err == nil && ta.Same(tb)
}
