package message

import (
	"bytes"
	"slices"
	"testing"
)

// seeds are small valid messages, so that the first execution of each fuzz target takes the path of success.
func seeds(tb testing.TB) [][]byte {
	tb.Helper()
	sale := assembled(tb, examplePayload())
	reversal := examplePayload()
	reversal.Type, reversal.Fields, reversal.Amount = Reversal, nil, nil
	reversal.Original = &Original{Sequence: 1, KSN: reversal.MAC.KSN, Digest: DigestOf(sale)}
	signIn := examplePayload()
	signIn.Type, signIn.Fields, signIn.Amount, signIn.Body = SignIn, nil, nil, nil
	signIn.Nonce = bytes.Repeat([]byte{7}, NonceSize)
	slot := signIn.MAC
	slot.Slot = 2
	signIn.SlotMACs = []SlotMAC{{MACRef: slot, MAC: make([]byte, slot.Length)}}
	least := examplePayload()
	least.Tenant, least.Terminal, least.Fields, least.Body = "T", "T", nil, nil
	return [][]byte{assembled(tb, least), sale, assembled(tb, reversal), assembled(tb, signIn), assembled(tb, resendOf(sale))}
}

func assembled(tb testing.TB, p *Payload) []byte {
	tb.Helper()
	b, err := Encode(p)
	if err != nil {
		tb.Fatal(err)
	}
	return Assemble(b, make([]byte, p.MAC.Length))
}

// FuzzParse: whatever Parse accepts has exactly one spelling, and what it says is written back as the same bytes. The
// message comes in two pieces, so that the fuzzer lengthens it at its end as often as it changes its middle.
func FuzzParse(f *testing.F) {
	for _, s := range seeds(f) {
		if _, err := Parse(s); err != nil {
			f.Fatalf("seed %x: %v", s, err)
		}
		f.Add(s, []byte{})
		f.Add(s[:len(s)-1], s[len(s)-1:])
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		m, err := Parse(b)
		if err != nil {
			return
		}
		if again := Assemble(m.PayloadBytes, m.MAC); !bytes.Equal(again, b) {
			t.Fatalf("Assemble of the parts of %x gives %x", b, again)
		}
		payload, err := Encode(m.Payload)
		if err != nil {
			t.Fatalf("Encode of what %x says: %v", b, err)
		}
		if !bytes.Equal(payload, m.PayloadBytes) {
			t.Fatalf("Encode of what %x says gives %x", m.PayloadBytes, payload)
		}
		if m.Payload.Type != Resend {
			inner(t, m)
		}
	})
}

// inner checks that every message but a resend and a sign-in can travel inside a resend.
func inner(t *testing.T, m *Message) {
	if m.Payload.Type == SignIn {
		return
	}
	p := resendOf(m.Raw)
	p.Environment, p.Tenant, p.Terminal = m.Payload.Environment, m.Payload.Tenant, m.Payload.Terminal
	if p.MAC.KSN == m.Payload.MAC.KSN {
		p.MAC.KSN = examplePayload().MAC.KSN
	}
	b := assembled(t, p)
	r, err := Parse(b)
	if err != nil {
		t.Fatalf("a resend of %x: %v", m.Raw, err)
	}
	if r.Inner.Digest() != m.Digest() {
		t.Fatalf("a resend of %x carries %x", m.Raw, r.Inner.Raw)
	}
}

// FuzzParseAck: whatever ParseAck accepts has exactly one spelling. It comes in two pieces as in FuzzParse.
func FuzzParseAck(f *testing.F) {
	limited := exampleAck()
	limited.Limits = &Limits{Count: 20, Bytes: 1 << 16, AgeSeconds: 86400, Amount: Amount{50000, Currency{'E', 'U', 'R'}, 2}}
	for _, a := range []*AckPayload{exampleAck(), limited, {Version: 1, Result: KsnSpent, Digests: []Digest{{1}, {2}}}} {
		b, err := EncodeAck(a)
		if err != nil {
			f.Fatal(err)
		}
		b = AssembleAck(b, make([]byte, 8))
		if _, err := ParseAck(b); err != nil {
			f.Fatalf("seed %x: %v", b, err)
		}
		f.Add(b, []byte{})
	}
	f.Fuzz(func(t *testing.T, head, tail []byte) {
		b := slices.Concat(head, tail)
		m, err := ParseAck(b)
		if err != nil {
			return
		}
		if again := AssembleAck(m.PayloadBytes, m.MAC); !bytes.Equal(again, b) {
			t.Fatalf("AssembleAck of the parts of %x gives %x", b, again)
		}
		payload, err := EncodeAck(m.Payload)
		if err != nil {
			t.Fatalf("EncodeAck of what %x says: %v", b, err)
		}
		if !bytes.Equal(payload, m.PayloadBytes) {
			t.Fatalf("EncodeAck of what %x says gives %x", m.PayloadBytes, payload)
		}
		if !m.Payload.Answers(m.Payload.Digests[0]) || m.Payload.Answers(Digest{}) {
			t.Fatalf("%x answers the wrong requests", b)
		}
	})
}
