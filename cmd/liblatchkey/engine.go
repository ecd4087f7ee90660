//go:build cgo && !core

package main

/*
#include "api.h"
*/
import "C"

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
)

// Bounds of what an engine gives.
const (
	maxMAC  = 64 // bytes
	maxKeys = 64
)

// engine is a maker's secure processor, behind a table of functions.
type engine struct {
	functions C.kept_engine
	guard     *guard
}

var _ terminal.Engine = (*engine)(nil)

func newEngine(p *C.lk_engine, g *guard) (*engine, error) {
	if err := sized(p); err != nil {
		return nil, err
	}
	for _, missing := range []bool{
		p.begin == nil, p.encrypt_pin == nil, p.encrypt_data == nil, p.mac == nil, p.verify == nil, p.end == nil, p.skip == nil,
		p.stage == nil, p.replace == nil, p.status == nil, p.zeroize == nil,
	} {
		if missing {
			return nil, errArgument
		}
	}
	e := &engine{guard: g}
	C.lk_keep_engine(&e.functions, p)
	return e, nil
}

// said are the codes that an engine may give, and what they mean to a terminal.
var said = map[C.int]error{
	C.LK_ORDER: terminal.ErrNoTransaction, C.LK_LENGTH: dukpt.ErrLength, C.LK_UNSUPPORTED: dukpt.ErrUnsupported,
	C.LK_KSN: dukpt.ErrKSN, C.LK_EXHAUSTED: dukpt.ErrExhausted, C.LK_VERIFY: dukpt.ErrVerify, C.LK_STRENGTH: dukpt.ErrStrength,
	C.LK_STATE: terminal.ErrState, C.LK_PIN: pin.ErrPIN, C.LK_PAN: pin.ErrPAN, C.LK_SLOT: terminal.ErrSlot,
	C.LK_ZEROIZED: terminal.ErrZeroized, C.LK_NO_KEYPAD: terminal.ErrNoKeypad, C.LK_JUMP: terminal.ErrJump,
	C.LK_JUMP_BUDGET: terminal.ErrJumpBudget,
}

// do calls one function.
func (e *engine) do(name string, f func() C.int) error {
	var got C.int
	e.guard.during(func() { got = f() })
	if got == C.LK_OK {
		return nil
	}
	err := said[got]
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s gives %d", errEngine, name, got)
	case got == C.LK_ORDER || got == C.LK_LENGTH: // which from this library say that nothing has changed, and a key may be used by now
		return fmt.Errorf("%w: %s: %w", errEngine, name, err)
	}
	return err
}

// into is do for a function with an output, which is appended to dst. No output is one of nothing, and one of a byte more than any has is
// a size that was never set.
func (e *engine) into(name string, dst []byte, room int, f func(out []byte, n *C.size_t) C.int) ([]byte, error) {
	out := make([]byte, room+1)
	n := C.size_t(len(out))
	if err := e.do(name, func() C.int { return f(out, &n) }); err != nil {
		return dst, err
	}
	if n == 0 || n > C.size_t(room) {
		return dst, fmt.Errorf("%w: %s gives %d bytes, with room for %d", errEngine, name, n, room)
	}
	return append(dst, out[:n]...), nil
}

// Begin implements terminal.Engine.
func (e *engine) Begin(slot uint8) (dukpt.KSN, error) {
	b, err := e.into("begin", nil, len(C.lk_slot_status{}.next), func(out []byte, n *C.size_t) C.int {
		return C.lk_call_begin(&e.functions, C.uint32_t(slot), first(out), n)
	})
	if err != nil {
		return dukpt.KSN{}, err
	}
	return dukpt.ParseKSN(b)
}

// EncryptPIN implements terminal.Engine.
func (e *engine) EncryptPIN(slot uint8, dst []byte, f pin.Format, p pin.PIN, pan pin.PAN) ([]byte, error) {
	digits, err := digitsOf(p)
	if err != nil {
		return dst, err
	}
	defer clear(digits)
	card := pan.Digits() // which is the caller's memory
	return e.into("encrypt_pin", dst, 16, func(out []byte, n *C.size_t) C.int {
		return C.lk_call_pin(&e.functions, C.uint32_t(slot), C.uint32_t(f), first(digits), C.size_t(len(digits)),
			first(card.Expose()), C.size_t(card.Len()), first(out), n)
	})
}

// digitsOf reads the digits of a PIN out of the block for a chip card, the one that has them in the clear. There are none of the zero
// PIN, for which the engine asks itself. The caller wipes them.
func digitsOf(p pin.PIN) ([]byte, error) {
	if p.IsZero() {
		return nil, nil
	}
	block, err := pin.Format2.Append(make([]byte, 0, 8), p, pin.PAN{}, pin.Fill{})
	if err != nil {
		return nil, err
	}
	defer clear(block)
	digits := make([]byte, block[0]&0x0f)
	for i := range digits {
		digits[i] = '0' + block[1+i/2]>>(4*(1-i%2))&0x0f
	}
	return digits, nil
}

// EncryptData implements terminal.Engine.
func (e *engine) EncryptData(slot uint8, dst []byte, s dukpt.DataSpec, plain []byte) ([]byte, error) {
	spec := C.lk_data_spec{
		direction: C.uint32_t(s.Direction), profile: C.uint32_t(s.Profile), key: C.uint32_t(s.Key), mode: C.uint32_t(s.Mode),
		padding: C.uint32_t(s.Padding), iv_len: C.size_t(len(s.IV)),
	}
	spec.size = C.uint32_t(spanOf(&spec).size)
	return e.into("encrypt_data", dst, len(plain)+16, func(out []byte, n *C.size_t) C.int {
		return C.lk_call_data(&e.functions, C.uint32_t(slot), spec, first(s.IV), first(plain), C.size_t(len(plain)), first(out), n)
	})
}

func macSpecOf(s dukpt.MACSpec) C.lk_mac_spec {
	spec := C.lk_mac_spec{
		algorithm: C.uint32_t(s.Algorithm), direction: C.uint32_t(s.Direction), key: C.uint32_t(s.Key), padding: C.uint32_t(s.Padding),
		length: C.uint32_t(s.Length),
	}
	spec.size = C.uint32_t(spanOf(&spec).size)
	return spec
}

// MAC implements terminal.Engine.
func (e *engine) MAC(slot uint8, dst []byte, s dukpt.MACSpec, message []byte) ([]byte, error) {
	return e.into("mac", dst, maxMAC, func(out []byte, n *C.size_t) C.int {
		return C.lk_call_mac(&e.functions, C.uint32_t(slot), macSpecOf(s), first(message), C.size_t(len(message)), first(out), n)
	})
}

// VerifyResponse implements terminal.Engine.
func (e *engine) VerifyResponse(slot uint8, s dukpt.MACSpec, message, mac []byte) error {
	return e.do("verify", func() C.int {
		return C.lk_call_verify(&e.functions, C.uint32_t(slot), macSpecOf(s), first(message), C.size_t(len(message)), first(mac), C.size_t(len(mac)))
	})
}

// End implements terminal.Engine.
func (e *engine) End(slot uint8) {
	e.guard.during(func() { C.lk_call_end(&e.functions, C.uint32_t(slot)) })
}

// SkipTo implements terminal.Engine.
func (e *engine) SkipTo(slot uint8, ksn dukpt.KSN) error {
	b := ksn.Append(nil)
	return e.do("skip", func() C.int {
		return C.lk_call_skip(&e.functions, C.uint32_t(slot), first(b), C.size_t(len(b)))
	})
}

// Stage implements terminal.Engine.
func (e *engine) Stage(slot uint8, ik *dukpt.InitialKey, maxJump uint32) error {
	defer ik.Wipe()
	id, k := initialKSN(ik.KeyID()), ik.Key()
	defer k.Wipe()
	material := k.Material()
	defer material.Wipe()
	return e.do("stage", func() C.int {
		return C.lk_call_stage(&e.functions, C.uint32_t(slot), first(id), C.size_t(len(id)), first(material.Expose()),
			C.size_t(material.Len()), C.uint32_t(maxJump))
	})
}

// initialKSN is the name of a key as a KSN with counter 0.
func initialKSN(id dukpt.KeyID) []byte {
	b := id.Append(nil)
	if id.Scheme() == dukpt.AES {
		b = append(b, 0, 0, 0, 0)
	}
	return b
}

// Switch implements terminal.Engine.
func (e *engine) Switch(slot uint8) error {
	return e.do("replace", func() C.int { return C.lk_call_replace(&e.functions, C.uint32_t(slot)) })
}

// Status implements terminal.Engine. A key that the engine does not describe, or in a way that none has, is left out: the terminal misses
// it, and not those behind it.
func (e *engine) Status() (out []terminal.SlotStatus) {
	for i := range maxKeys {
		var s C.lk_slot_status
		s.size = C.uint32_t(spanOf(&s).size)
		var got C.int
		e.guard.during(func() { got = C.lk_call_status(&e.functions, C.uint32_t(i), &s) })
		if got == C.LK_END {
			break
		}
		if st, err := slotStatus(&s); got == C.LK_OK && err == nil {
			out = append(out, st)
		}
	}
	return out
}

func slotStatus(s *C.lk_slot_status) (st terminal.SlotStatus, err error) {
	if s.ksn_len > C.uint32_t(len(s.key_id)) {
		return st, errors.New("a KSN is too long")
	}
	if st.Slot, err = small[uint8](s.slot, 0xff); err != nil {
		return st, err
	}
	if st.KeyID, err = dukpt.ParseInitialKSN(ksnField(&s.key_id, s.ksn_len)); err != nil {
		return st, err
	}
	if s.used_up == 0 {
		if st.Next, err = dukpt.ParseKSN(ksnField(&s.next, s.ksn_len)); err != nil {
			return st, err
		}
	}
	st.Remaining, st.Jumped, st.JumpLimit = uint32(s.remaining), uint64(s.jumped), uint64(s.jump_limit)
	return st, nil
}

func ksnField(f *[12]C.uint8_t, n C.uint32_t) []byte {
	return span{ptr(f), uintptr(n)}.bytes()
}

// Zeroize implements terminal.Engine.
func (e *engine) Zeroize() error {
	return e.do("zeroize", func() C.int { return C.lk_call_zeroize(&e.functions) })
}
