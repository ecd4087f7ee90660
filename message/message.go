package message

import (
	"bytes"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// Message is a message as it was received. What it says is only a claim until its MAC has been verified.
type Message struct {
	Payload      *Payload // what it says
	PayloadBytes []byte   // the bytes that the MAC covers
	MAC          []byte   // of Payload.MAC.Length bytes
	Raw          []byte   // the whole message
	Inner        *Message // of a resend, the original message; else nil
}

// Encode returns the payload bytes that a MAC is to cover. The error wraps ErrMessage when the payload breaks a rule or
// is too long.
func Encode(p *Payload) ([]byte, error) {
	err := p.Check()
	if err != nil {
		return nil, err
	}
	b, err := encode(p.wire())
	if err != nil {
		return nil, err
	}
	if limit := maxMessage(p.Type) - maxAround; len(b) > limit {
		return nil, broken("payload of %d bytes, want at most %d", len(b), limit)
	}
	return b, nil
}

// Assemble returns the message of payload bytes and their MAC.
func Assemble(payload, mac []byte) []byte { return assemble(payload, mac) }

// Parse reads a message. Assemble of the parts of the result gives back the same bytes, and so does Encode of its
// payload. The error wraps ErrMessage. The result shares no memory with b.
func Parse(b []byte) (*Message, error) {
	m, err := parse(b)
	if err != nil {
		return nil, err
	}
	if m.Payload.Type == Resend {
		m.Inner, err = m.Payload.openInner()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// parse reads a message and leaves what is inside a resend unread.
func parse(b []byte) (*Message, error) {
	if len(b) > MaxSize {
		return nil, broken("%d bytes, want at most %d", len(b), MaxSize)
	}
	payload, mac, err := split(b)
	if err != nil {
		return nil, err
	}
	p, err := parsePayload(payload)
	if err != nil {
		return nil, err
	}
	if limit := maxMessage(p.Type); len(b) > limit {
		return nil, broken("%d bytes, want at most %d for type %v", len(b), limit, p.Type)
	}
	if len(mac) != p.MAC.Length {
		return nil, broken("a MAC of %d bytes, named as %d", len(mac), p.MAC.Length)
	}
	return &Message{Payload: p, PayloadBytes: payload, MAC: mac, Raw: slices.Clone(b)}, nil
}

func parsePayload(b []byte) (*Payload, error) {
	var w wirePayload
	err := decode(b, &w)
	if err != nil {
		return nil, err
	}
	p, err := w.parse()
	if err != nil {
		return nil, err
	}
	err = p.checkOuter()
	if err != nil {
		return nil, err
	}
	again, err := encode(p.wire())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, broken("not the deterministic encoding of its content")
	}
	return p, nil
}

// Digest returns the SHA-256 of the message as it was received.
func (m *Message) Digest() Digest { return DigestOf(m.Raw) }

// Digests returns the digests that an ack of the message answers: its own, and for a resend that of the original too.
func (m *Message) Digests() []Digest {
	if m.Inner == nil {
		return []Digest{m.Digest()}
	}
	return []Digest{m.Digest(), m.Inner.Digest()}
}

func maxMessage(t Type) int {
	if t == Resend {
		return MaxSize
	}
	return MaxInner
}

// openInner reads the original inside a resend and checks that it may be there.
func (p *Payload) openInner() (*Message, error) {
	m, err := parse(p.Inner)
	if err != nil {
		return nil, broken("inside a resend: %v", err)
	}
	q := m.Payload
	if q.Type == Resend || q.Type == SignIn {
		return nil, broken("a message of type %v inside a resend", q.Type)
	}
	if q.Tenant != p.Tenant || q.Terminal != p.Terminal || q.Environment != p.Environment {
		return nil, broken("a message of another terminal inside a resend")
	}
	if q.MAC.KSN == p.MAC.KSN {
		return nil, broken("a resend is MACed under the KSN of its original, want a fresh one")
	}
	return m, nil
}

// frame is the outer form of messages and acks.
type frame struct {
	_       struct{} `cbor:",toarray"`
	Payload []byte
	MAC     []byte
}

func assemble(payload, mac []byte) []byte {
	b, err := codec.Marshal(frame{Payload: payload, MAC: mac})
	if err != nil {
		panic("message: " + err.Error()) // two byte strings always encode
	}
	return b
}

func split(b []byte) (payload, mac []byte, err error) {
	var f frame
	err = decode(b, &f)
	if planted.On(planted.ParseMessage) {
		for n := len(b) - 1; err != nil && n > max(0, len(b)-64); n-- {
			err = decode(b[:n], &f)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if len(f.MAC) < MinMAC || len(f.MAC) > MaxMAC {
		return nil, nil, broken("a MAC of %d bytes, want %d to %d", len(f.MAC), MinMAC, MaxMAC)
	}
	return f.Payload, f.MAC, nil
}
