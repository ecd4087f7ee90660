package message

import (
	"errors"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// wirePayload is the form of a payload on the wire.
type wirePayload struct {
	Version     uint          `cbor:"v"`
	Type        string        `cbor:"type"`
	Environment string        `cbor:"environment"`
	Tenant      string        `cbor:"tenant"`
	Terminal    string        `cbor:"terminal"`
	BootCounter uint64        `cbor:"boot"`
	Sequence    uint64        `cbor:"sequence"`
	Time        int64         `cbor:"time"`
	Flags       []string      `cbor:"flags,omitempty"`
	MAC         wireMAC       `cbor:"mac"`
	Fields      []wireField   `cbor:"fields,omitempty"`
	Amount      *wireAmount   `cbor:"amount,omitempty"`
	Original    *wireOriginal `cbor:"original,omitempty"`
	Nonce       []byte        `cbor:"nonce,omitempty"`
	SlotMACs    []wireSlotMAC `cbor:"slot-macs,omitempty"`
	Inner       []byte        `cbor:"inner,omitempty"`
	Body        []byte        `cbor:"body,omitempty"`
}

type wireMAC struct {
	Slot      uint8  `cbor:"slot"`
	KSN       []byte `cbor:"ksn"`
	Algorithm string `cbor:"algorithm"`
	Padding   uint8  `cbor:"padding,omitempty"`
	Length    int    `cbor:"length"`
}

type wireSlotMAC struct {
	Slot      uint8  `cbor:"slot"`
	KSN       []byte `cbor:"ksn"`
	Algorithm string `cbor:"algorithm"`
	Padding   uint8  `cbor:"padding,omitempty"`
	Length    int    `cbor:"length"`
	MAC       []byte `cbor:"mac"`
}

type wireField struct {
	Slot       uint8  `cbor:"slot"`
	KSN        []byte `cbor:"ksn"`
	Usage      string `cbor:"usage"`
	Mode       string `cbor:"mode,omitempty"`
	IV         []byte `cbor:"iv,omitempty"`
	PINFormat  string `cbor:"pin-format,omitempty"`
	Ciphertext []byte `cbor:"ciphertext"`
}

type wireAmount struct {
	Minor    int64  `cbor:"minor"`
	Currency string `cbor:"currency"`
	Exponent uint8  `cbor:"exponent"`
}

type wireOriginal struct {
	Sequence uint64 `cbor:"sequence"`
	KSN      []byte `cbor:"ksn"`
	Digest   []byte `cbor:"digest"`
}

const (
	flagOffline = "offline"
	flagQueued  = "queued"
)

func (p *Payload) wire() *wirePayload {
	w := &wirePayload{
		Version: p.Version, Type: p.Type.String(), Environment: p.Environment.String(),
		Tenant: string(p.Tenant), Terminal: string(p.Terminal),
		BootCounter: p.BootCounter, Sequence: p.Sequence, Time: p.Time,
		MAC: p.MAC.wire(), Nonce: p.Nonce, Inner: p.Inner, Body: p.Body,
	}
	if p.Offline {
		w.Flags = append(w.Flags, flagOffline)
	}
	if p.Queued {
		w.Flags = append(w.Flags, flagQueued)
	}
	for i := range p.Fields {
		w.Fields = append(w.Fields, p.Fields[i].wire())
	}
	if a := p.Amount; a != nil {
		w.Amount = &wireAmount{a.Minor, a.Currency.String(), a.Exponent}
	}
	if o := p.Original; o != nil {
		w.Original = &wireOriginal{o.Sequence, o.KSN.Append(nil), slices.Clone(o.Digest[:])}
	}
	for _, m := range p.SlotMACs {
		r := m.wire()
		w.SlotMACs = append(w.SlotMACs, wireSlotMAC{r.Slot, r.KSN, r.Algorithm, r.Padding, r.Length, m.MAC})
	}
	return w
}

func (r MACRef) wire() wireMAC {
	return wireMAC{r.Slot, r.KSN.Append(nil), r.Algorithm.String(), uint8(r.Padding), r.Length}
}

func (f *Field) wire() wireField {
	w := wireField{Slot: f.Slot, KSN: f.KSN.Append(nil), Usage: f.Usage.String(), IV: f.IV, Ciphertext: f.Ciphertext}
	if f.Mode != 0 {
		w.Mode = f.Mode.String()
	}
	if f.PINFormat != 0 {
		w.PINFormat = f.PINFormat.String()
	}
	return w
}

func (w *wirePayload) parse() (*Payload, error) {
	p := &Payload{
		Version: w.Version, Tenant: keyset.TenantID(w.Tenant), Terminal: keyset.TerminalID(w.Terminal),
		BootCounter: w.BootCounter, Sequence: w.Sequence, Time: w.Time,
		Nonce: w.Nonce, Inner: w.Inner, Body: w.Body,
	}
	var r reader
	r.text(&p.Type, w.Type)
	r.text(&p.Environment, w.Environment)
	r.flags(p, w.Flags)
	p.MAC = r.mac(w.MAC)
	for i := range w.Fields {
		p.Fields = append(p.Fields, r.field(&w.Fields[i]))
	}
	if w.Amount != nil {
		p.Amount = r.amount(w.Amount)
	}
	if w.Original != nil {
		p.Original = &Original{
			Sequence: w.Original.Sequence, KSN: r.ksn(w.Original.KSN), Digest: r.digest(w.Original.Digest),
		}
	}
	for _, m := range w.SlotMACs {
		ref := r.mac(wireMAC{m.Slot, m.KSN, m.Algorithm, m.Padding, m.Length})
		p.SlotMACs = append(p.SlotMACs, SlotMAC{MACRef: ref, MAC: m.MAC})
	}
	return p, r.err
}

// reader reads member after member and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(err error) {
	switch {
	case r.err != nil || err == nil:
	case errors.Is(err, ErrMessage):
		r.err = err
	default:
		r.err = broken("%v", err)
	}
}

func (r *reader) text(dst interface{ UnmarshalText([]byte) error }, s string) {
	r.fail(dst.UnmarshalText([]byte(s)))
}

func (r *reader) flags(p *Payload, flags []string) {
	for _, f := range flags {
		switch f {
		case flagOffline:
			p.Offline = true
		case flagQueued:
			p.Queued = true
		default:
			r.fail(broken("unknown flag"))
		}
	}
}

func (r *reader) ksn(b []byte) dukpt.KSN {
	k, err := dukpt.ParseKSN(b)
	r.fail(err)
	return k
}

func (r *reader) digest(b []byte) (d Digest) {
	if len(b) != len(d) {
		r.fail(broken("a digest of %d bytes, want %d", len(b), len(d)))
		return d
	}
	return Digest(b)
}

func (r *reader) mac(w wireMAC) MACRef {
	ref := MACRef{Slot: w.Slot, KSN: r.ksn(w.KSN), Padding: dukpt.MACPadding(w.Padding), Length: w.Length}
	var err error
	ref.Algorithm, err = dukpt.ParseMACAlgorithm(w.Algorithm)
	r.fail(err)
	return ref
}

func (r *reader) field(w *wireField) Field {
	f := Field{Slot: w.Slot, KSN: r.ksn(w.KSN), IV: w.IV, Ciphertext: w.Ciphertext}
	r.text(&f.Usage, w.Usage)
	var err error
	if w.Mode != "" {
		f.Mode, err = dukpt.ParseCipherMode(w.Mode)
		r.fail(err)
	}
	if w.PINFormat != "" {
		f.PINFormat, err = pin.ParseFormat(w.PINFormat)
		r.fail(err)
	}
	return f
}

func (r *reader) amount(w *wireAmount) *Amount {
	c, err := ParseCurrency(w.Currency)
	r.fail(err)
	return &Amount{Minor: w.Minor, Currency: c, Exponent: w.Exponent}
}
