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
// (X9.24-3:2017, 6.3). The result has usage K1: keys travel in key blocks only (PCI PIN v3.1, 18-3). A terminal takes it before
// [NewTerminal], because the initial key is gone afterwards and no register leads to that counter.
//
// It fails with [ErrUnsupported] for a TDES initial key, which has none, for HMAC types, and for TDES types where Go's FIPS mode
// forbids them, and with [ErrStrength]. The caller wipes the result.
func (ik *InitialKey) UpdateKey(w WorkingKey) (keys.Key, error) {
	if ik.key.IsZero() {
		return keys.Key{}, ErrWiped
	}
	a, err := keyEncryption(ik.family, w, keys.ModeBoth)
	if err != nil {
		return keys.Key{}, err
	}
	room := secret.New(2*maxKey + aesScratch)
	defer room.Wipe()
	k, node, scratch := room.Expose()[:a.Algorithm.KeyBytes()], room.Expose()[maxKey:][:ik.family.size], room.Expose()[2*maxKey:]
	secret.Do(func() {
		ik.family.descend(node, ik.key.Material().Expose(), scratch, &ik.id, 0, updateCounter)
		aesDerive(k, node, scratch, usageKeyEncryption, w, &ik.id, updateCounter)
	})
	return keys.NewKey(a, k)
}

// KeyEncryptionKey computes the key under which this transaction sends keys to the terminal, of the type w: TDES or AES, and no
// stronger than the key of the transaction (X9.24-3:2017, 6.3.2, usage 0002). Unlike the other working keys it leaves the
// transaction, because what it protects is a key block, which this package does not know. It has usage K1, as the update key
// has, and mode E: a host wraps with it, and cannot unwrap.
//
// It fails with [ErrUnsupported] under TDES, which has no such key, for HMAC types, and for TDES types where Go's FIPS mode
// forbids them, and with [ErrStrength]. The caller wipes the result, which outlives End.
func (tx *HostTransaction) KeyEncryptionKey(w WorkingKey) (keys.Key, error) {
	return tx.s.keyEncryptionKey(w, keys.ModeEncrypt)
}

// KeyEncryptionKey computes the key under which the host sends keys in this transaction. It is that of
// [HostTransaction.KeyEncryptionKey], with mode D: a terminal unwraps with it, and cannot wrap. It fails as that does. The caller
// wipes the result, which outlives End.
func (tx *Transaction) KeyEncryptionKey(w WorkingKey) (keys.Key, error) {
	return tx.s.keyEncryptionKey(w, keys.ModeDecrypt)
}

func (s *session) keyEncryptionKey(w WorkingKey, m keys.Mode) (key keys.Key, err error) {
	s.check()
	a, err := keyEncryption(s.family, w, m)
	if err != nil {
		return keys.Key{}, err
	}
	secret.Do(func() {
		defer s.wipeWorkingKey()
		var k []byte
		if k, err = s.derive(usageKeyEncryption, w); err == nil {
			key, err = keys.NewKey(a, k)
		}
	})
	return key, err
}

// keyEncryption returns the attributes of a key encryption key of type w under the keys of f, if those can have one.
func keyEncryption(f family, w WorkingKey, m keys.Mode) (keys.Attributes, error) {
	if f.scheme != AES {
		return keys.Attributes{}, fmt.Errorf("%w: %v has no key for key encryption", ErrUnsupported, f.scheme)
	}
	if !w.isAES() && !w.isTDES() {
		return keys.Attributes{}, fmt.Errorf("%w: a key of %v for key encryption", ErrUnsupported, w)
	}
	if err := checkStrength(w, f.key); err != nil {
		return keys.Attributes{}, fmt.Errorf("%w: %v under %v", err, w, f.key)
	}
	if w.isTDES() {
		if err := checkDES(); err != nil {
			return keys.Attributes{}, err
		}
	}
	return keys.Attributes{Algorithm: w.Algorithm(), Usage: keys.UsageKBPK, Mode: m, Exportability: keys.NonExportable}, nil
}
