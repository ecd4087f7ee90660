//go:build cgo && !core

package main

/*
#include "api.h"
*/
import "C"

import (
	"crypto/elliptic"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

var curves = map[C.uint32_t]elliptic.Curve{0: nil, C.LK_P256: elliptic.P256(), C.LK_P384: elliptic.P384(), C.LK_P521: elliptic.P521()}

var environments = map[C.uint32_t]keyset.Environment{C.LK_TEST: keyset.Test, C.LK_PRODUCTION: keyset.Production}

func now() time.Time { return time.Now() }

// enrolmentOf reads an enrolment. Enroll wipes the ticket.
func enrolmentOf(p *C.lk_enrolment) (o terminal.EnrolOptions, err error) {
	ticket := field(&p.ticket, p.ticket_len)
	if err := ticket.check(); err != nil {
		return o, err
	}
	var texts [4]string
	for i, from := range []*C.char{p.url, p.trust_url, p.tenant, p.terminal} {
		if texts[i], err = text(from); err != nil {
			return o, err
		}
		if texts[i] == "" {
			return o, errArgument
		}
	}
	o.URL, o.TrustURL = texts[0], texts[1]
	if o.Tenant, err = keyset.ParseTenant(texts[2]); err != nil {
		return o, errArgument
	}
	if o.Terminal, err = keyset.ParseTerminal(texts[3]); err != nil {
		return o, errArgument
	}
	curve, known := curves[p.curve]
	if o.Environment = environments[p.environment]; o.Environment == 0 || !known {
		return o, errArgument
	}
	o.Curve = curve
	if !given(&p.ticket) {
		return o, nil
	}
	typed := ticket.secret()
	defer typed.Wipe()
	o.Ticket, err = enroll.ParseTicket(typed.Expose())
	return o, err
}

//export lk_terminal_enrol
func lk_terminal_enrol(h C.lk_handle, p *C.lk_enrolment, ms C.uint32_t) C.int {
	return call(func() error {
		if err := sized(p); err != nil {
			return err
		}
		return before(h, func(d *device) error {
			o, err := enrolmentOf(p)
			if err != nil {
				return err
			}
			if d.sealer == nil && o.Environment == keyset.Production { // which Enroll refuses too, with a key left in the folder
				o.Ticket.Wipe()
				return terminal.ErrInsecure
			}
			on, err := d.options(true)
			if err != nil {
				o.Ticket.Wipe()
				return err
			}
			o.Engine = d.engine
			ctx, cancel := d.within(ms)
			defer cancel()
			return terminal.Enroll(ctx, on.FS, on.Sealer, o)
		})
	})
}

//export lk_terminal_status
func lk_terminal_status(h C.lk_handle, out *C.lk_status) C.int {
	return call(func() error {
		if err := sized(out); err != nil {
			return err
		}
		return with(h, func(_ *device, t *terminal.Terminal) error {
			s := t.Status()
			r := C.lk_status{
				size: out.size, starts: C.uint64_t(s.BootCounter), not_after: C.int64_t(s.NotAfter.Unix()),
				slots: C.uint32_t(len(s.Slots) + len(s.Waiting)),
			}
			for number, e := range environments {
				if e == s.Environment {
					r.environment = number
				}
			}
			if !s.RenewAfter.IsZero() {
				r.renew_after, r.renew_before = C.int64_t(s.RenewAfter.Unix()), C.int64_t(s.RenewBefore.Unix())
			}
			name(&r.tenant, string(s.Tenant))
			name(&r.terminal, string(s.Terminal))
			*out = r
			return nil
		})
	})
}

// name writes a text, of 32 bytes at most, and a 0.
func name(field *[33]C.char, s string) {
	b := span{ptr(field), uintptr(len(field))}.bytes()
	b[copy(b[:32], s)] = 0
}

//export lk_terminal_slot
func lk_terminal_slot(h C.lk_handle, index C.uint32_t, out *C.lk_slot_status) C.int {
	return call(func() error {
		if err := sized(out); err != nil {
			return err
		}
		return with(h, func(_ *device, t *terminal.Terminal) error {
			s := t.Status()
			if uint64(index) >= uint64(len(s.Slots)+len(s.Waiting)) {
				return errEnd
			}
			report := append(s.Slots, s.Waiting...)[index]
			r := C.lk_slot_status{
				size: out.size, slot: C.uint32_t(report.Number), remaining: C.uint32_t(report.Remaining),
				jumped: C.uint64_t(report.Jumped), jump_limit: C.uint64_t(report.JumpLimit),
			}
			if int(index) >= len(s.Slots) {
				r.slot += C.LK_STAGED
			}
			if report.Confirmed {
				r.confirmed = 1
			}
			putKSNs(&r, report.SlotStatus)
			*out = r
			return nil
		})
	})
}

// putKSNs writes the name of the key and what it takes next.
func putKSNs(r *C.lk_slot_status, st terminal.SlotStatus) {
	id := initialKSN(st.KeyID)
	r.ksn_len = C.uint32_t(copy(span{ptr(&r.key_id), uintptr(len(r.key_id))}.bytes(), id))
	if st.Next == (dukpt.KSN{}) {
		r.used_up = 1
		return
	}
	putKSN(&r.next, st.Next)
}
