package message

import (
	"encoding/binary"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const signInContext = "latchkey-sign-in-v1"

// SignInContent returns the bytes that a slot MAC of a sign-in covers. They name the terminal, this one sign-in and the
// slot, so that the MAC proves possession of the slot's key and nothing else. The MAC of m is not looked at.
func SignInContent(p *Payload, m SlotMAC) []byte {
	b := lengthPrefixed(nil, []byte(signInContext))
	b = lengthPrefixed(b, []byte(p.Environment.String()))
	b = lengthPrefixed(b, []byte(p.Tenant))
	b = lengthPrefixed(b, []byte(p.Terminal))
	b = lengthPrefixed(b, binary.BigEndian.AppendUint64(nil, p.BootCounter))
	b = lengthPrefixed(b, p.Nonce)
	b = lengthPrefixed(b, []byte{m.Slot})
	return lengthPrefixed(b, m.KSN.Append(nil))
}

func lengthPrefixed(dst, part []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(part)))
	return append(dst, part...)
}

func (p *Payload) checkSignIn() error {
	if p.Type != SignIn {
		return nil
	}
	if len(p.Nonce) != NonceSize {
		return broken("nonce of %d bytes, want %d", len(p.Nonce), NonceSize)
	}
	if len(p.SlotMACs) >= keyset.MaxSlots {
		return broken("%d slot MACs, want at most %d", len(p.SlotMACs), keyset.MaxSlots-1)
	}
	for i, m := range p.SlotMACs {
		if err := m.check(); err != nil {
			return err
		}
		if len(m.MAC) != m.Length {
			return broken("a slot MAC of %d bytes, named as %d", len(m.MAC), m.Length)
		}
		if m.Slot == p.MAC.Slot {
			return broken("slot %d is confirmed by the MAC of the message already", m.Slot)
		}
		if i > 0 && p.SlotMACs[i-1].Slot >= m.Slot {
			return broken("slot MACs are not ascending, each once")
		}
	}
	return nil
}
