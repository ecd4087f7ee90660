package dukpt

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Derivation is one step of AES DUKPT for a host whose keys stay in a device: the key of type Key is the encryption of Data,
// block by block, under its parent (X9.24-3:2017, 6.3.1). It is public.
type Derivation struct {
	Key  WorkingKey
	Data []byte // one block, or two for keys of more than 16 bytes; the device drops what a 24-byte key does not need
}

// InitialDerivation gives the step from a base key of this type, which is AES, to the initial key of id. It fails with [ErrKSN]
// for a key id of TDES, and with [ErrUnsupported] for another type.
func (id KeyID) InitialDerivation(base WorkingKey) (Derivation, error) {
	if id.scheme != AES {
		return Derivation{}, fmt.Errorf("%w: %v is not of the scheme %v", ErrKSN, id, AES)
	}
	if !base.isAES() {
		return Derivation{}, fmt.Errorf("%w: AES DUKPT under a key of %v", ErrUnsupported, base)
	}
	return newDerivation(usageInitialKey, base, &id, 0), nil
}

// Derivations gives the steps from the initial key of this type down to the key of the transaction, and for each the counter
// of the key that it makes; the last counter is that of k. Two transactions of a terminal share the steps with which both
// lists begin. It fails as [KeyID.InitialDerivation] does.
func (k KSN) Derivations(initial WorkingKey) (counters []uint32, steps []Derivation, err error) {
	if _, err := k.id.InitialDerivation(initial); err != nil {
		return nil, nil, err
	}
	for node := uint32(0); node != k.counter; {
		node = below(node, k.counter)
		counters = append(counters, node)
		steps = append(steps, newDerivation(usageDerivation, initial, &k.id, node))
	}
	return counters, steps, nil
}

// Derivation gives the step to the PIN key from the key of the transaction, which is of this type. It fails with
// [ErrUnsupported] for what AES DUKPT does not have, and with [ErrStrength].
func (s PINSpec) Derivation(k KSN, parent WorkingKey) (Derivation, error) {
	if err := s.Validate(AES); err != nil {
		return Derivation{}, err
	}
	return working(k, usagePIN, s.key(AES), parent)
}

// Derivation is [PINSpec.Derivation] for the PIN key of a block.
func (b PINBlock) Derivation(k KSN, parent WorkingKey) (Derivation, error) {
	return b.spec().Derivation(k, parent)
}

// Derivation gives the step to the data key of an operation in the direction implied, [Request] or [Response]. It fails as
// [HostTransaction.DecryptData] does.
func (s DataSpec) Derivation(k KSN, parent WorkingKey, implied Direction) (Derivation, error) {
	if err := s.Validate(AES); err != nil {
		return Derivation{}, err
	}
	if err := s.checkDirection(implied); err != nil {
		return Derivation{}, err
	}
	return working(k, dataUsage(s.Direction), s.Key, parent)
}

// Derivation gives the step to the MAC key of an operation in the direction implied, [Request] or [Response]. It fails as
// [HostTransaction.VerifyMAC] does.
func (s MACSpec) Derivation(k KSN, parent WorkingKey, implied Direction) (Derivation, error) {
	d, err := s.direction(AES, implied)
	if err != nil {
		return Derivation{}, err
	}
	return working(k, macUsage(d), s.Key, parent)
}

// working gives the step to a working key.
func working(k KSN, usage aesUsage, w, parent WorkingKey) (Derivation, error) {
	if k.Scheme() != AES {
		return Derivation{}, fmt.Errorf("%w: %v is not of the scheme %v", ErrKSN, k, AES)
	}
	if !parent.isAES() {
		return Derivation{}, fmt.Errorf("%w: AES DUKPT under a key of %v", ErrUnsupported, parent)
	}
	if err := checkStrength(w, parent); err != nil {
		return Derivation{}, fmt.Errorf("%w: %v under %v", err, w, parent)
	}
	return newDerivation(usage, w, &k.id, k.counter), nil
}

func newDerivation(usage aesUsage, w WorkingKey, id *KeyID, counter uint32) Derivation {
	d := Derivation{Key: w, Data: make([]byte, (int(workingKeys[w].bits)/8+15)/16*16)}
	for n := range len(d.Data) / 16 {
		block := d.Data[16*n : 16*n+16]
		derivationData(block, usage, w, id, counter)
		block[1] = byte(n + 1)
	}
	return d
}

// Begin derives the key of one transaction from the initial key, for a host that has no base key at hand. The initial key is
// not kept, and the caller wipes it. It fails with [ErrKSN] when ksn is not one of this initial key, and as [NewInitialKey]
// does where TDES is forbidden. End the result.
func (ik *InitialKey) Begin(ksn KSN) (*HostTransaction, error) {
	if ik.key.IsZero() {
		return nil, ErrWiped
	}
	if ksn.id != ik.id { // the zero value is of no key id
		return nil, fmt.Errorf("%w: %v is not of the initial key %v", ErrKSN, ksn, ik.id)
	}
	if err := ik.family.check(); err != nil {
		return nil, err
	}
	tx := NewHostTransaction()
	secret.Do(func() {
		ik.family.descend(tx.s.cell.Expose()[:ik.family.size], ik.key.Material().Expose(), tx.s.scratch(), &ik.id, 0, ksn.counter)
	})
	tx.s.bind(ik.family, ksn)
	return tx, nil
}
