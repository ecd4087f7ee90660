package main

/*
#include "api.h"
*/
import "C"

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"unsafe"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

const defaultBatch = 8

// registers are the keys of one initial key, and the caller's way to save what follows them.
type registers struct {
	mu      sync.Mutex // taken by whoever uses the handle; never waited for
	keys    *dukpt.Terminal
	tx      *dukpt.Transaction
	live    bool
	closed  bool
	batch   int
	save    C.lk_save
	context uintptr // the caller's, which is not always a pointer
}

// Format prints what it is, whatever the verb.
func (r *registers) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "registers") }

var opened registry[*registers]

// use has f work on the registers of a handle, if nobody else does.
func use(h C.lk_handle, f func(*registers) error) error {
	r, err := opened.find(h)
	if err != nil {
		return err
	}
	if !r.mu.TryLock() {
		return errBusy
	}
	defer r.mu.Unlock()
	if r.closed {
		return errHandle
	}
	return f(r)
}

// inTransaction is use for what needs a transaction.
func inTransaction(h C.lk_handle, f func(*registers) error) error {
	return use(h, func(r *registers) error {
		if !r.live {
			return errOrder
		}
		return f(r)
	})
}

func (r *registers) scheme() dukpt.Scheme { return r.keys.KeyID().Scheme() }

// saved calls the caller's function with the state.
func (r *registers) saved(state secret.Bytes) error {
	b := state.Expose()
	if C.lk_call_save(r.save, C.uintptr_t(r.context), unsafe.Pointer(&b[0]), C.size_t(len(b))) != 0 {
		return errSave
	}
	return nil
}

// open gives registers a handle.
func open(t *dukpt.Terminal, batch C.uint32_t, save C.lk_save, context uintptr, h *C.lk_handle) {
	r := &registers{keys: t, tx: dukpt.NewTransaction(), batch: int(batch), save: save, context: context}
	if batch == 0 {
		r.batch = defaultBatch
	}
	*h = opened.add(r)
}

func checkOpen(batch C.uint32_t, save C.lk_save, h *C.lk_handle, inputs ...span) error {
	if h == nil || save == nil || batch > dukpt.MaxReserve {
		return errArgument
	}
	if err := readable(inputs...); err != nil {
		return err
	}
	for _, in := range inputs {
		if in.overlaps(spanOf(h)) {
			return errOverlap
		}
	}
	return nil
}

//export lk_go_dukpt_load
func lk_go_dukpt_load(ksn *C.uint8_t, ksnLen C.size_t, key *C.uint8_t, keyLen C.size_t, batch C.uint32_t, save C.lk_save, context C.uintptr_t, h *C.lk_handle) C.int {
	return call(func() error {
		name, material := input(ksn, ksnLen), input(key, keyLen)
		if err := checkOpen(batch, save, h, name, material); err != nil {
			return err
		}
		id, err := dukpt.ParseInitialKSN(name.bytes())
		if err != nil {
			return err
		}
		ik, err := initialKey(id, material)
		if err != nil {
			return err
		}
		defer ik.Wipe()
		t, err := dukpt.NewTerminal(ik)
		if err != nil {
			return err
		}
		open(t, batch, save, uintptr(context), h)
		return nil
	})
}

// initialKey takes key bytes for an initial key of that name.
func initialKey(id dukpt.KeyID, material span) (*dukpt.InitialKey, error) {
	algorithm := map[uintptr]keys.Algorithm{16: keys.AES128, 24: keys.AES192, 32: keys.AES256}[material.size]
	if id.Scheme() == dukpt.TDES {
		algorithm = keys.TDES2
	}
	b := material.secret()
	defer b.Wipe()
	k, err := keys.ImportKey(keys.Attributes{
		Algorithm: algorithm, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, keys.ParityIgnored, b.Expose())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", code(C.LK_KEY), err)
	}
	defer k.Wipe()
	return dukpt.NewInitialKey(id, k)
}

//export lk_go_dukpt_open
func lk_go_dukpt_open(state *C.uint8_t, stateLen C.size_t, batch C.uint32_t, save C.lk_save, context C.uintptr_t, h *C.lk_handle) C.int {
	return call(func() error {
		in := input(state, stateLen)
		if err := checkOpen(batch, save, h, in); err != nil {
			return err
		}
		b := in.secret()
		defer b.Wipe()
		t, err := dukpt.OpenTerminal(b)
		if err != nil {
			return err
		}
		open(t, batch, save, uintptr(context), h)
		return nil
	})
}

//export lk_go_dukpt_begin
func lk_go_dukpt_begin(h C.lk_handle, ksn *C.uint8_t, ksnLen *C.size_t) C.int {
	return call(func() error {
		out := outputOf(ksn, ksnLen)
		if err := out.apart(); err != nil {
			return err
		}
		return use(h, func(r *registers) error {
			if r.live {
				return errOrder
			}
			next, ok := r.keys.NextKSN()
			if !ok {
				return dukpt.ErrExhausted
			}
			if err := out.room(len(next.Append(nil))); err != nil {
				return err
			}
			if r.keys.Available() == 0 {
				if err := r.keys.Reserve(r.batch, r.saved); err != nil {
					return err
				}
			}
			if err := r.keys.Next(r.tx); err != nil {
				return err
			}
			r.live = true
			return out.give(r.tx.KSN().Append(nil))
		})
	})
}

//export lk_go_dukpt_pin
func lk_go_dukpt_pin(h C.lk_handle, format C.uint32_t, digits *C.char, digitsLen C.size_t, pan *C.char, panLen C.size_t, block *C.uint8_t, blockLen *C.size_t) C.int {
	return call(func() error {
		out, number, card := outputOf(block, blockLen), input(digits, digitsLen), input(pan, panLen)
		if err := out.apart(number, card); err != nil {
			return err
		}
		f, err := pinFormat(format)
		if err != nil {
			return err
		}
		p, a, err := pinAndPAN(f, number, card)
		defer p.Wipe()
		defer a.Wipe()
		if err != nil {
			return err
		}
		return inTransaction(h, func(r *registers) error {
			b, err := r.tx.EncryptPIN(nil, f, p, a)
			if err != nil {
				return err
			}
			return out.give(b)
		})
	})
}

// pinAndPAN reads both; the caller wipes them, after an error too.
func pinAndPAN(f pin.Format, number, card span) (p pin.PIN, a pin.PAN, err error) {
	digits := number.secret()
	defer digits.Wipe()
	if p, err = pin.ParsePIN(digits.Expose()); err != nil {
		return p, a, err
	}
	if !f.HasPAN() && card.size == 0 {
		return p, a, nil
	}
	a, err = panOf(card)
	return p, a, err
}

// panOf reads a card number that has nothing behind it.
func panOf(card span) (pin.PAN, error) {
	digits := card.secret()
	defer digits.Wipe()
	a, err := pin.FindPAN(digits.Expose())
	if err != nil {
		return pin.PAN{}, err
	}
	if d := a.Digits(); !slices.Equal(d.Expose(), digits.Expose()) {
		a.Wipe()
		return pin.PAN{}, pin.ErrPAN
	}
	return a, nil
}

//export lk_go_dukpt_data
func lk_go_dukpt_data(h C.lk_handle, spec *C.lk_data_spec, plain *C.uint8_t, plainLen C.size_t, cipher *C.uint8_t, cipherLen *C.size_t) C.int {
	return crypt(h, spec, dukpt.Request, input(plain, plainLen), outputOf(cipher, cipherLen), (*dukpt.Transaction).EncryptData)
}

//export lk_go_dukpt_decrypt
func lk_go_dukpt_decrypt(h C.lk_handle, spec *C.lk_data_spec, cipher *C.uint8_t, cipherLen C.size_t, plain *C.uint8_t, plainLen *C.size_t) C.int {
	return crypt(h, spec, dukpt.Response, input(cipher, cipherLen), outputOf(plain, plainLen), (*dukpt.Transaction).DecryptResponse)
}

// crypt encrypts or decrypts data. Both sides are copied, so that clear data has no more copies than it must, and those are wiped.
func crypt(h C.lk_handle, spec *C.lk_data_spec, d dukpt.Direction, in span, out output,
	do func(*dukpt.Transaction, []byte, dukpt.DataSpec, []byte) ([]byte, error)) C.int {
	return call(func() error {
		if err := out.apart(append(dataSpans(spec), in)...); err != nil {
			return err
		}
		return inTransaction(h, func(r *registers) error {
			s, err := dataSpec(spec, r.scheme(), d)
			if err != nil {
				return err
			}
			from := in.secret()
			defer from.Wipe()
			to := secret.New(from.Len() + 16) // room for any padding, so that it never moves
			defer to.Wipe()
			b, err := do(r.tx, to.Expose()[:0], s, from.Expose())
			if err != nil {
				return err
			}
			return out.give(b)
		})
	})
}

//export lk_go_dukpt_mac
func lk_go_dukpt_mac(h C.lk_handle, spec *C.lk_mac_spec, message *C.uint8_t, messageLen C.size_t, mac *C.uint8_t, macLen *C.size_t) C.int {
	return call(func() error {
		out, in := outputOf(mac, macLen), input(message, messageLen)
		if err := out.apart(append(macSpans(spec), in)...); err != nil {
			return err
		}
		return inTransaction(h, func(r *registers) error {
			s, err := macSpec(spec, r.scheme())
			if err != nil {
				return err
			}
			b, err := r.tx.MAC(nil, s, in.bytes())
			if err != nil {
				return err
			}
			return out.give(b)
		})
	})
}

//export lk_go_dukpt_verify
func lk_go_dukpt_verify(h C.lk_handle, spec *C.lk_mac_spec, message *C.uint8_t, messageLen C.size_t, mac *C.uint8_t, macLen C.size_t) C.int {
	return call(func() error {
		in, tag := input(message, messageLen), input(mac, macLen)
		if err := readable(in, tag); err != nil {
			return err
		}
		return inTransaction(h, func(r *registers) error {
			s, err := macSpec(spec, r.scheme())
			if err != nil {
				return err
			}
			return r.tx.VerifyResponse(s, in.bytes(), tag.bytes())
		})
	})
}

//export lk_dukpt_end
func lk_dukpt_end(h C.lk_handle) C.int {
	return call(func() error {
		return use(h, func(r *registers) error {
			r.end()
			return nil
		})
	})
}

func (r *registers) end() {
	if r.live {
		r.tx.End()
		r.live = false
	}
}

//export lk_go_dukpt_skip
func lk_go_dukpt_skip(h C.lk_handle, ksn *C.uint8_t, ksnLen C.size_t) C.int {
	return call(func() error {
		in := input(ksn, ksnLen)
		if err := readable(in); err != nil {
			return err
		}
		to, err := dukpt.ParseKSN(in.bytes())
		if err != nil {
			return err
		}
		return use(h, func(r *registers) error {
			if r.live {
				return errOrder
			}
			return r.keys.SkipTo(to, r.saved)
		})
	})
}

//export lk_dukpt_describe
func lk_dukpt_describe(h C.lk_handle, status *C.lk_dukpt_status) C.int {
	return call(func() error {
		if err := sized(status); err != nil {
			return err
		}
		return use(h, func(r *registers) error {
			s := C.lk_dukpt_status{size: status.size, state_len: C.uint32_t(r.keys.StateSize())}
			if r.live {
				s.live = 1
			}
			if next, ok := r.keys.NextKSN(); ok {
				s.remaining = C.uint32_t(next.Remaining() + 1)
				s.next_len = C.uint32_t(putKSN(&s.next, next))
			}
			*status = s
			return nil
		})
	})
}

// putKSN writes a KSN into a field that has room for any, and returns its length.
func putKSN(field *[12]C.uint8_t, ksn dukpt.KSN) int {
	return copy(unsafe.Slice((*byte)(unsafe.Pointer(field)), len(field)), ksn.Append(nil))
}

//export lk_dukpt_close
func lk_dukpt_close(h C.lk_handle) C.int {
	return call(func() error {
		return use(h, func(r *registers) error {
			r.end()
			r.keys.Wipe()
			r.closed = true
			return opened.remove(h)
		})
	})
}
