package main

import (
	"errors"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

var blockCases = []oneCase{
	{"key block wrapped", caseWrap},
	{"key block unwrapped", caseUnwrap},
	{"key block moved", caseRewrap},
	{"key block refused", caseRefuse},
	{"key blocks of versions A and C", caseOldBlocks},
}

// kbpk is a protection key.
type kbpk struct {
	algorithm keys.Algorithm
	raw       []byte
}

// kbpks are the protection keys of versions D and B. The last is a 2TDEA key in 24 bytes.
var kbpks = []kbpk{
	{keys.AES128, aesKey}, {keys.TDES2, desKey[:16]}, {keys.TDES3, []byte("0123456789abcdefghijklmn")},
	{keys.TDES3, append(desKey[:16:16], desKey[:8]...)},
}

// protect returns a protector under the key, marked where m is not nil.
func (k kbpk) protect(m *marks) (*keyblock.Protector, error) {
	raw := k.raw
	if m != nil {
		raw = m.secret(raw)
	}
	key, err := keys.NewKey(keys.Attributes{
		Algorithm: k.algorithm, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, raw)
	if err != nil {
		return nil, err
	}
	return keyblock.NewProtector(key)
}

// wrappedKey is what the key blocks hold.
var wrappedKey = []byte("\x89\xab\xcd\xef\x01\x23\x45\x67\xfe\xdc\xba\x98\x76\x54\x32\x10")

// wrap returns a key block of wrappedKey with both its check values; the key is marked where m is not nil.
func wrap(m *marks, p *keyblock.Protector) (string, error) {
	raw := wrappedKey
	if m != nil {
		raw = m.secret(raw)
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.Exportable,
	}, raw)
	if err != nil {
		return "", err
	}
	return p.Wrap(k, keyblock.OptionalBlock{ID: keyblock.OptionalKC}, keyblock.OptionalBlock{ID: keyblock.OptionalKP})
}

// opens demands that a block holds wrappedKey and has nothing against it.
func opens(p *keyblock.Protector, block string) error {
	content, err := p.Unwrap(block)
	if err != nil {
		return err
	}
	k, err := content.Key()
	if err != nil {
		return err
	}
	if len(content.Warnings()) > 0 {
		return errWrong
	}
	return want(k.Material().Expose(), wrappedKey)
}

// each runs f under every protection key, marked, with a protector under the same key that has no mark.
func each(m *marks, f func(marked, plain *keyblock.Protector) error) error {
	for _, k := range kbpks {
		marked, err := k.protect(m)
		if err != nil {
			return err
		}
		plain, err := k.protect(nil)
		if err != nil {
			return err
		}
		if err := f(marked, plain); err != nil {
			return err
		}
	}
	return nil
}

func caseWrap(m *marks) error {
	return each(m, func(marked, plain *keyblock.Protector) error {
		block, err := wrap(m, marked)
		if err != nil {
			return err
		}
		return opens(plain, block)
	})
}

func caseUnwrap(m *marks) error {
	return each(m, func(marked, plain *keyblock.Protector) error {
		block, err := wrap(nil, plain)
		if err != nil {
			return err
		}
		return opens(marked, block)
	})
}

func caseRewrap(m *marks) error {
	to, err := kbpks[0].protect(nil)
	if err != nil {
		return err
	}
	return each(m, func(marked, plain *keyblock.Protector) error {
		block, err := wrap(nil, plain)
		if err != nil {
			return err
		}
		content, err := marked.Unwrap(block)
		if err != nil {
			return err
		}
		if block, err = to.Rewrap(content); err != nil {
			return err
		}
		return opens(to, block)
	})
}

func caseRefuse(m *marks) error {
	return each(m, func(marked, plain *keyblock.Protector) error {
		block, err := wrap(nil, plain)
		if err != nil {
			return err
		}
		for _, at := range []int{len(block) - 1, len(block) - 40} { // of the MAC, of the content
			last := "0"
			if block[at:at+1] == last {
				last = "1"
			}
			if _, err := marked.Unwrap(block[:at] + last + block[at+1:]); !errors.Is(err, keyblock.ErrBlock) {
				return errWrong
			}
		}
		return nil
	})
}

// caseOldBlocks opens published blocks.
func caseOldBlocks(m *marks) error {
	for _, c := range []struct{ kbpk, block, key string }{
		{"\x89\xe8\x8c\xf7\x93\x14\x44\xf3\x34\xbd\x75\x47\xfc\x3f\x38\x0c", "A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701",
			"\xf0\x39\x12\x1b\xec\x83\xd2\x6b\x16\x9b\xdc\xd5\xb2\x2a\xaf\x8f"},
		{"\xef\xe0\x85\x3b\x25\x6b\x58\x3d\x86\x8f\x25\x1c\xe9\x9e\xa1\xd9", "C0072K0TN00N0000C9B875FF7A5316BF221C09ED52080DE0B45632A4EA9CE87699CB565E",
			"\x5d\xb5\x0b\x45\x4f\x83\x89\xad\xce\x57\x3b\xe5\x08\x61\xf2\xbf"},
	} {
		p, err := kbpk{keys.TDES2, []byte(c.kbpk)}.protect(m)
		if err != nil {
			return err
		}
		content, err := p.Unwrap(c.block)
		if err != nil {
			return err
		}
		if err := want(content.Material().Expose(), []byte(c.key)); err != nil {
			return err
		}
	}
	return nil
}
