package dukpt

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// The saved state: magic, version, algorithm, two zero bytes; key id, filled up to 10 bytes; next counter; the registers in
// order; the first 16 bytes of the SHA-256 of all that. The check finds damage, not forgery: a state is as secret as the
// registers in it and is kept where only the terminal can write.
const (
	stateMagic   = "lkts"
	stateVersion = 1
	stateKeyID   = 8
	stateCounter = stateKeyID + keyIDSize
	stateHeader  = stateCounter + 4
	stateCheck   = 16
)

// stateAlgorithms are the codes of algorithms in the state. They are stored for years.
var stateAlgorithms = map[byte]keys.Algorithm{1: keys.TDES2, 2: keys.AES128, 3: keys.AES192, 4: keys.AES256}

// OpenTerminal reads what [Terminal.AppendState] gave or a save function was given. It copies the state; the caller still
// wipes it. It fails with [ErrState] for anything else, be it one bit, and with [ErrUnsupported] for a TDES state where Go's
// FIPS mode forbids TDES.
func OpenTerminal(state secret.Bytes) (*Terminal, error) {
	b := state.Expose()
	if len(b) < stateHeader+stateCheck {
		return nil, fmt.Errorf("%w: %d bytes", ErrState, len(b))
	}
	body, check := b[:len(b)-stateCheck], b[len(b)-stateCheck:]
	sum := sha256.Sum256(body)
	if !equal(sum[:stateCheck], check) {
		return nil, fmt.Errorf("%w: its check does not fit", ErrState)
	}
	r, err := parseRegisters(body)
	if err != nil {
		return nil, err
	}
	return newTerminal(r), nil
}

// AppendState appends the state after all reserved keys to dst. The caller wipes it.
func (t *Terminal) AppendState(dst []byte) []byte { return t.registers.append(dst) }

// StateSize returns the length in bytes of the state, which does not change over the life of a key: 336 (TDES), 512, 768 or
// 1024 (AES-128, 192, 256) and 38 more.
func (t *Terminal) StateSize() int { return t.registers.stateSize() }

func (r *registers) stateSize() int { return stateHeader + r.cell.Len() + stateCheck }

func (r *registers) append(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, stateMagic...)
	dst = append(dst, stateVersion, r.stateAlgorithm(), 0, 0)
	dst = append(dst, r.id.b[:]...)
	dst = binary.BigEndian.AppendUint32(dst, r.next)
	dst = append(dst, r.cell.Expose()...)
	sum := sha256.Sum256(dst[n:])
	return append(dst, sum[:stateCheck]...)
}

func (r *registers) stateAlgorithm() byte {
	for code, a := range stateAlgorithms {
		if a == r.family.algorithm() {
			return code
		}
	}
	panic("dukpt: no state code for an algorithm")
}

// parseRegisters accepts one form only: what append makes of the result.
func parseRegisters(body []byte) (registers, error) {
	if string(body[:4]) != stateMagic || body[4] != stateVersion || body[6] != 0 || body[7] != 0 {
		return registers{}, fmt.Errorf("%w: not a state of version %d", ErrState, stateVersion)
	}
	algorithm, ok := stateAlgorithms[body[5]]
	if !ok {
		return registers{}, fmt.Errorf("%w: algorithm %d", ErrState, body[5])
	}
	f, err := familyOf(algorithm)
	if err != nil {
		return registers{}, err
	}
	id := KeyID{scheme: f.scheme, b: [keyIDSize]byte(body[stateKeyID:])}
	if !id.canonical() {
		return registers{}, fmt.Errorf("%w: key id %X", ErrState, id.b)
	}
	r := newRegisters(f, id)
	r.next = binary.BigEndian.Uint32(body[stateCounter:])
	if r.next != 0 && !f.scheme.validCounter(r.next) {
		return registers{}, fmt.Errorf("%w: counter %X", ErrState, r.next)
	}
	if len(body) != stateHeader+r.cell.Len() {
		return registers{}, fmt.Errorf("%w: %d bytes", ErrState, len(body)+stateCheck)
	}
	copy(r.cell.Expose(), body[stateHeader:])
	if i := r.misfit(); i >= 0 {
		r.cell.Wipe()
		return registers{}, fmt.Errorf("%w: register %d", ErrState, i)
	}
	return r, nil
}

// misfit returns a register that is empty and should not be, or the other way round, and -1 if there is none.
func (r *registers) misfit() int {
	zero := make([]byte, r.family.size)
	for i := range r.id.scheme.counterBits() {
		if equal(r.at(i), zero) != (r.node(i) == 0) { // of secrets only zeros are told apart
			return i
		}
	}
	return -1
}
