package dukpt

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// updateCounter is the counter of the update key: all ones, which no transaction has.
const updateCounter = 0xFFFFFFFF

// UpdateKey computes the key under which a terminal of AES DUKPT is sent its next initial key, of the type w: TDES or AES, and
// no stronger than the initial key. It is the working key for key encryption of counter FFFFFFFF, 32 steps down the tree
// (X9.24-3:2017, 6.3). The result has usage K0. A terminal takes it before [NewTerminal], because the initial key is gone
// afterwards and no register leads to that counter.
//
// It fails with [ErrUnsupported] for a TDES initial key, which has none, and for HMAC types, and with [ErrStrength]. The
// caller wipes the result.
func (ik *InitialKey) UpdateKey(w WorkingKey) (keys.Key, error) {
	if ik.key.IsZero() {
		return keys.Key{}, errWiped
	}
	if ik.family.scheme != AES {
		return keys.Key{}, fmt.Errorf("%w: %v has no update key", ErrUnsupported, ik.family.scheme)
	}
	a := w.algorithm()
	if !a.IsAES() && !a.IsTDES() {
		return keys.Key{}, fmt.Errorf("%w: an update key of %v", ErrUnsupported, w)
	}
	if err := checkStrength(w, ik.family.key); err != nil {
		return keys.Key{}, fmt.Errorf("%w: %v under %v", err, w, ik.family.key)
	}
	room := secret.New(2*maxKey + aesScratch)
	defer room.Wipe()
	k, node, scratch := room.Expose()[:a.KeyBytes()], room.Expose()[maxKey:][:ik.family.size], room.Expose()[2*maxKey:]
	secret.Do(func() {
		ik.family.descend(node, ik.key.Material().Expose(), scratch, ik.id, 0, updateCounter)
		aesDerive(k, node, scratch, usageKeyEncryption, w, ik.id, updateCounter)
	})
	return keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageKEK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, k)
}
