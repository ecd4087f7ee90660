//go:build cgo && !core

package main

/*
#include "api.h"
*/
import "C"

import (
	"unsafe"

	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
)

// outcomes are the numbers of results, which stay when those of package message change.
var outcomes = map[message.Result]C.uint32_t{
	message.Approved: C.LK_APPROVED, message.Declined: C.LK_DECLINED, message.Held: C.LK_HELD, message.Reversed: C.LK_REVERSED,
	message.SignedIn: C.LK_SIGNED_IN, message.RolledBack: C.LK_ROLLED_BACK, message.KsnReplayed: C.LK_KSN_REPLAYED,
	message.KsnSpent: C.LK_KSN_SPENT, message.KsnTooOld: C.LK_KSN_TOO_OLD, message.KsnFenced: C.LK_KSN_FENCED,
	message.KsnOutOfWindow: C.LK_KSN_OUT_OF_WINDOW, message.PinBlockInvalid: C.LK_PIN_BLOCK_INVALID, message.Refused: C.LK_MESSAGE_REFUSED,
}

// outcomeOf is the number of what the host has said. It is never 0, which says that the host was not asked.
func outcomeOf(r message.Result) C.uint32_t {
	if n, ok := outcomes[r]; ok {
		return n
	}
	return C.LK_OTHER
}

// resultOf is the answer to a sale.
func resultOf(r *terminal.SaleResult) C.lk_result {
	out := C.lk_result{
		outcome: outcomeOf(r.Result), sequence: C.uint64_t(r.Sequence), host_time: C.int64_t(r.HostTime.Unix()),
		body_len: C.uint32_t(len(r.Body)), ksn_len: C.uint32_t(len(r.KSN.Append(nil))),
	}
	out.size = C.uint32_t(spanOf(&out).size)
	if r.Reversal {
		out.reversal = 1
	}
	putKSN(&out.ksn, r.KSN)
	copy(span{ptr(&out.digest), uintptr(len(r.Digest))}.bytes(), r.Digest[:])
	return out
}

// keep remembers what the acquirer says, for lk_terminal_body.
func (d *device) keep(body []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.body = body
}

// requestOf reads a sale. The caller wipes the secrets in it, after an error too.
func requestOf(s *C.lk_sale) (r terminal.SaleRequest, err error) {
	track, pan, digits, body := field(&s.track, s.track_len), field(&s.pan, s.pan_len), field(&s.pin, s.pin_len), field(&s.body, s.body_len)
	if err := readable(track, pan, digits, body); err != nil {
		return r, err
	}
	letters := span{ptr(&s.currency), uintptr(len(s.currency))}.bytes()
	if letters[3] != 0 || s.exponent > 4 || s.ask_pin > 1 || s.amount < 0 || s.amount > 999_999_999_999 {
		return r, errArgument
	}
	r.Amount = message.Amount{Minor: int64(s.amount), Exponent: uint8(s.exponent)}
	if r.Amount.Currency, err = message.ParseCurrency(string(letters[:3])); err != nil {
		return r, errArgument
	}
	r.AskPIN = s.ask_pin == 1
	r.Body = append([]byte{}, body.bytes()...)
	if track.size > 0 {
		r.Track = track.secret()
	}
	if pan.size > 0 {
		if r.PAN, err = panOf(pan); err != nil {
			return r, err
		}
	}
	if given(&s.pin) {
		b := digits.secret()
		defer b.Wipe()
		r.PIN, err = pin.ParsePIN(b.Expose())
	}
	return r, err
}

func wipe(r *terminal.SaleRequest) {
	r.Track.Wipe()
	r.PAN.Wipe()
	r.PIN.Wipe()
}

// checkSale checks the structures of a sale.
func checkSale(s *C.lk_sale, result *C.lk_result) error {
	if err := sized(s); err != nil {
		return err
	}
	if err := sized(result); err != nil {
		return err
	}
	for _, in := range []span{spanOf(s), field(&s.track, s.track_len), field(&s.pan, s.pan_len), field(&s.pin, s.pin_len), field(&s.body, s.body_len)} {
		if in.overlaps(spanOf(result)) {
			return errOverlap
		}
	}
	return nil
}

//export lk_terminal_sale
func lk_terminal_sale(h C.lk_handle, s *C.lk_sale, ms C.uint32_t, result *C.lk_result) C.int {
	return call(func() error {
		if err := checkSale(s, result); err != nil {
			return err
		}
		return with(h, func(d *device, t *terminal.Terminal) error {
			r, err := requestOf(s)
			defer wipe(&r)
			if err != nil {
				return err
			}
			ctx, cancel := d.within(ms)
			defer cancel()
			answer, err := t.Sale(ctx, r)
			if err != nil {
				return err
			}
			d.keep(answer.Body)
			*result = resultOf(answer)
			return nil
		})
	})
}

//export lk_terminal_sale_offline
func lk_terminal_sale_offline(h C.lk_handle, s *C.lk_sale, result *C.lk_result) C.int {
	return call(func() error {
		if err := checkSale(s, result); err != nil {
			return err
		}
		return with(h, func(d *device, t *terminal.Terminal) error {
			r, err := requestOf(s)
			defer wipe(&r)
			if err != nil {
				return err
			}
			p, err := t.SaleOffline(r)
			if err != nil {
				return err
			}
			d.keep(nil)
			*result = resultOf(&terminal.SaleResult{Sequence: p.Sequence, Digest: p.Digest, KSN: p.KSN})
			result.outcome, result.host_time = 0, 0 // nobody has said anything
			return nil
		})
	})
}

//export lk_terminal_sign_in
func lk_terminal_sign_in(h C.lk_handle, ms C.uint32_t, result *C.lk_result) C.int {
	return call(func() error {
		if err := sized(result); err != nil {
			return err
		}
		return with(h, func(d *device, t *terminal.Terminal) error {
			ctx, cancel := d.within(ms)
			defer cancel()
			answer, err := t.SignIn(ctx)
			if answer != nil {
				d.keep(answer.Body)
				*result = resultOf(&terminal.SaleResult{Result: answer.Result, HostTime: answer.HostTime, Body: answer.Body})
			}
			return err
		})
	})
}

//export lk_go_terminal_drain
func lk_go_terminal_drain(h C.lk_handle, ms C.uint32_t, settled C.lk_settled, context C.uintptr_t) C.int {
	return call(func() error {
		return with(h, func(d *device, t *terminal.Terminal) error {
			ctx, cancel := d.within(ms)
			defer cancel()
			return t.Drain(ctx, 0, d.teller(settled, context))
		})
	})
}

// teller tells a callback of sales that were answered.
func (d *device) teller(settled C.lk_settled, context C.uintptr_t) func(*terminal.SaleResult) {
	return func(r *terminal.SaleResult) {
		if settled == nil {
			return
		}
		out := resultOf(r)
		out.body_len = 0 // of what this handle does not keep
		d.guard.during(func() { C.lk_call_settled(settled, context, &out) })
	}
}

//export lk_go_terminal_run
func lk_go_terminal_run(h C.lk_handle, settled C.lk_settled, context C.uintptr_t) C.int {
	return call(func() error {
		return with(h, func(d *device, t *terminal.Terminal) error {
			if !d.running.CompareAndSwap(false, true) {
				return errBusy
			}
			defer d.running.Store(false)
			return t.Run(d.ctx, terminal.Upkeep{Settled: d.teller(settled, context), Failed: d.tell})
		})
	})
}

//export lk_go_terminal_body
func lk_go_terminal_body(h C.lk_handle, body *C.uint8_t, n *C.size_t) C.int {
	return call(func() error {
		out := outputOf(body, n)
		if err := out.apart(); err != nil {
			return err
		}
		d, err := devices.find(h)
		if err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		return out.give(d.body)
	})
}

// amount writes a sum of money into its three parts.
func amount(a message.Amount, minor *C.int64_t, exponent *C.uint32_t, currency unsafe.Pointer) {
	*minor, *exponent = C.int64_t(a.Minor), C.uint32_t(a.Exponent)
	copy(span{currency, 4}.bytes(), append(a.Currency[:], 0))
}

// queue takes no turn: it works while a sale waits for the host.
func queue(h C.lk_handle, f func(terminal.Queue) error) error {
	return with(h, func(_ *device, t *terminal.Terminal) error { return f(t.Queue()) })
}

//export lk_terminal_queue
func lk_terminal_queue(h C.lk_handle, out *C.lk_queue) C.int {
	return call(func() error {
		if err := sized(out); err != nil {
			return err
		}
		return queue(h, func(q terminal.Queue) error {
			s := C.lk_queue{
				size: out.size, count: C.uint32_t(q.Count), bytes: C.uint32_t(q.Bytes), exceptions: C.uint32_t(q.Exceptions),
				currencies: C.uint32_t(len(q.Amounts)),
			}
			if q.Count > 0 {
				s.oldest = C.int64_t(q.Oldest.Unix())
			}
			if l := q.Limits; l != nil {
				s.offline, s.limit_count, s.limit_bytes, s.limit_age = 1, C.uint32_t(l.Count), C.uint32_t(l.Bytes), C.uint32_t(l.AgeSeconds)
				amount(l.Amount, &s.limit_amount, &s.limit_exponent, ptr(&s.limit_currency))
			}
			*out = s
			return nil
		})
	})
}

//export lk_terminal_queue_amount
func lk_terminal_queue_amount(h C.lk_handle, index C.uint32_t, minor *C.int64_t, exponent *C.uint32_t, currency *C.char) C.int {
	return call(func() error {
		if minor == nil || exponent == nil || currency == nil {
			return errArgument
		}
		sum, decimals, letters := spanOf(minor), spanOf(exponent), span{ptr(currency), 4}
		if sum.overlaps(decimals) || sum.overlaps(letters) || decimals.overlaps(letters) {
			return errOverlap
		}
		return queue(h, func(q terminal.Queue) error {
			if uint64(index) >= uint64(len(q.Amounts)) {
				return errEnd
			}
			amount(q.Amounts[index], minor, exponent, ptr(currency))
			return nil
		})
	})
}

//export lk_terminal_renew
func lk_terminal_renew(h C.lk_handle, ms C.uint32_t) C.int {
	return call(func() error {
		return with(h, func(d *device, t *terminal.Terminal) error {
			if !t.RenewDue(now()) {
				return nil
			}
			ctx, cancel := d.within(ms)
			defer cancel()
			return t.Renew(ctx)
		})
	})
}

//export lk_terminal_rekey
func lk_terminal_rekey(h C.lk_handle, ms C.uint32_t) C.int {
	return call(func() error {
		return with(h, func(d *device, t *terminal.Terminal) error {
			ctx, cancel := d.within(ms)
			defer cancel()
			return t.Rekey(ctx)
		})
	})
}
