package message

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const maxDigests = 8

// AckPayload is what the host answers. It is plain data: EncodeAck checks it, and ParseAck returns checked ones.
type AckPayload struct {
	Version  uint        // FormatVersion
	Result   Result      // what became of the request
	Digests  []Digest    // the requests it answers: 1 to 8, each once; a resend and its original are two
	Floors   []SlotFloor // where the host's counters stand, ascending by slot
	Limits   *Limits     // what sales without the host may come to; nil: there are to be none
	HostTime int64       // the host's clock, seconds since 1970 UTC
	Body     []byte      // opaque: what the acquirer tells the terminal; at most MaxBody
}

// SlotFloor says below which ordinal the host accepts nothing new of a key slot. It is comparable.
type SlotFloor struct {
	Slot  uint8       // 1 to keyset.MaxSlots
	KeyID dukpt.KeyID // the initial key of the slot
	Floor uint32      // ordinal; 0 when nothing is refused yet
}

// Limits bounds what a terminal may keep in its queue of sales that it makes without the host. It is comparable.
type Limits struct {
	Count      uint32 // messages
	Bytes      uint32 // of all messages
	AgeSeconds uint32 // of the oldest; when it is older, no further one is made
	Amount     Amount // of all together, which also says in which currency
}

// Check reports the first rule that limits break. The error wraps ErrMessage.
func (l *Limits) Check() error {
	if err := l.Amount.Check(); err != nil {
		return fmt.Errorf("%w, in the limits", err)
	}
	return nil
}

// AckMessage is an ack as it was received. What it says is only a claim until its MAC has been verified.
type AckMessage struct {
	Payload      *AckPayload // what it says
	PayloadBytes []byte      // the bytes that the MAC covers
	MAC          []byte      // under the response key of the request's MAC KSN
	Raw          []byte      // the whole message
}

// Answers reports whether the ack is one of the request with this digest.
func (a *AckPayload) Answers(request Digest) bool { return slices.Contains(a.Digests, request) }

// Floor returns the floor of a slot, when the ack has one for that slot and key id.
func (a *AckPayload) Floor(slot uint8, id dukpt.KeyID) (uint32, bool) {
	for _, f := range a.Floors {
		if f.Slot == slot && f.KeyID == id {
			return f.Floor, true
		}
	}
	return 0, false
}

// Check reports the first rule that the ack breaks. The error wraps ErrMessage.
func (a *AckPayload) Check() error {
	if a.Version != FormatVersion {
		return broken("format version %d, want %d", a.Version, FormatVersion)
	}
	if !resultWords.known(uint8(a.Result)) {
		return broken("an ack has no result")
	}
	if a.Limits != nil {
		if err := a.Limits.Check(); err != nil {
			return err
		}
	}
	if a.HostTime < 0 || a.HostTime > maxTime {
		return broken("time is out of range")
	}
	if len(a.Body) > MaxBody {
		return broken("body of %d bytes, want at most %d", len(a.Body), MaxBody)
	}
	if err := a.checkDigests(); err != nil {
		return err
	}
	return a.checkFloors()
}

func (a *AckPayload) checkDigests() error {
	if len(a.Digests) < 1 || len(a.Digests) > maxDigests {
		return broken("an ack of %d requests, want 1 to %d", len(a.Digests), maxDigests)
	}
	for i, d := range a.Digests {
		if d.IsZero() || slices.Contains(a.Digests[:i], d) {
			return broken("request digests are zero or repeated")
		}
	}
	return nil
}

func (a *AckPayload) checkFloors() error {
	if len(a.Floors) > keyset.MaxSlots {
		return broken("%d floors, want at most %d", len(a.Floors), keyset.MaxSlots)
	}
	for i, f := range a.Floors {
		if err := checkSlot(f.Slot); err != nil {
			return err
		}
		if f.KeyID.IsZero() || f.Floor > f.KeyID.Scheme().MaxOrdinal() {
			return broken("slot %d has no key id, or a floor beyond its last key", f.Slot)
		}
		if i > 0 && a.Floors[i-1].Slot >= f.Slot {
			return broken("floors are not ascending, each slot once")
		}
	}
	return nil
}

// EncodeAck returns the payload bytes that a MAC is to cover. The error wraps ErrMessage.
func EncodeAck(a *AckPayload) ([]byte, error) {
	err := a.Check()
	if err != nil {
		return nil, err
	}
	return encode(a.wire())
}

// AssembleAck returns the ack message of payload bytes and their MAC.
func AssembleAck(payload, mac []byte) []byte { return assemble(payload, mac) }

// ParseAck reads an ack. AssembleAck of the parts of the result gives back the same bytes, and so does EncodeAck of its
// payload. Whether it answers the request at hand is AckPayload.Answers' question. The error wraps ErrMessage. The
// result shares no memory with b.
func ParseAck(b []byte) (*AckMessage, error) {
	if len(b) > MaxSize {
		return nil, broken("%d bytes, want at most %d", len(b), MaxSize)
	}
	payload, mac, err := split(b)
	if err != nil {
		return nil, err
	}
	a, err := parseAckPayload(payload)
	if err != nil {
		return nil, err
	}
	return &AckMessage{Payload: a, PayloadBytes: payload, MAC: mac, Raw: slices.Clone(b)}, nil
}

func parseAckPayload(b []byte) (*AckPayload, error) {
	var w wireAck
	err := decode(b, &w)
	if err != nil {
		return nil, err
	}
	a, err := w.parse()
	if err != nil {
		return nil, err
	}
	err = a.Check()
	if err != nil {
		return nil, err
	}
	again, err := encode(a.wire())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, broken("not the deterministic encoding of its content")
	}
	return a, nil
}

// wireAck is the form of an ack on the wire. Its type keeps it apart from what terminals send.
type wireAck struct {
	Version  uint        `cbor:"v"`
	Type     string      `cbor:"type"`
	Result   string      `cbor:"result"`
	Digests  [][]byte    `cbor:"digests"`
	Floors   []wireFloor `cbor:"floors,omitempty"`
	Limits   *wireLimits `cbor:"limits,omitempty"`
	HostTime int64       `cbor:"time"`
	Body     []byte      `cbor:"body,omitempty"`
}

type wireFloor struct {
	Slot  uint8  `cbor:"slot"`
	KeyID []byte `cbor:"key-id"`
	Floor uint32 `cbor:"floor"`
}

type wireLimits struct {
	Count  uint32     `cbor:"count"`
	Bytes  uint32     `cbor:"bytes"`
	Age    uint32     `cbor:"age"`
	Amount wireAmount `cbor:"amount"`
}

func (a *AckPayload) wire() *wireAck {
	w := &wireAck{
		Version: a.Version, Type: Ack.String(), Result: a.Result.String(), HostTime: a.HostTime, Body: a.Body,
	}
	for _, d := range a.Digests {
		w.Digests = append(w.Digests, slices.Clone(d[:]))
	}
	for _, f := range a.Floors {
		w.Floors = append(w.Floors, wireFloor{f.Slot, f.KeyID.Append(nil), f.Floor})
	}
	if l := a.Limits; l != nil {
		w.Limits = &wireLimits{l.Count, l.Bytes, l.AgeSeconds, wireAmount{l.Amount.Minor, l.Amount.Currency.String(), l.Amount.Exponent}}
	}
	return w
}

func (w *wireAck) parse() (*AckPayload, error) {
	if w.Type != Ack.String() {
		return nil, broken("not an ack")
	}
	a := &AckPayload{Version: w.Version, HostTime: w.HostTime, Body: w.Body}
	var r reader
	r.text(&a.Result, w.Result)
	for _, d := range w.Digests {
		a.Digests = append(a.Digests, r.digest(d))
	}
	for _, wf := range w.Floors {
		f := SlotFloor{Slot: wf.Slot, Floor: wf.Floor}
		r.fail(f.KeyID.UnmarshalBinary(wf.KeyID))
		a.Floors = append(a.Floors, f)
	}
	if l := w.Limits; l != nil {
		a.Limits = &Limits{Count: l.Count, Bytes: l.Bytes, AgeSeconds: l.Age, Amount: *r.amount(&l.Amount)}
	}
	return a, r.err
}
