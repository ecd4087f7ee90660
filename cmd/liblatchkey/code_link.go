//go:build cgo && !core

package main

/*
#include "api.h"
*/
import "C"

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"syscall"

	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// hasLink says which flavour this is.
const hasLink = true

const (
	errEngine code = C.LK_ENGINE
	errEnd    code = C.LK_END
	errClosed code = C.LK_CLOSED
)

// linkMeanings are those of the terminal. An error that wraps two has the meaning of the first.
var linkMeanings = []meaning{
	{terminal.ErrNoTransaction, C.LK_ENGINE}, // in the midst of a call: LK_ORDER says that nothing has changed
	{terminal.ErrSlot, C.LK_SLOT},
	{terminal.ErrZeroized, C.LK_ZEROIZED},
	{terminal.ErrNoKeypad, C.LK_NO_KEYPAD},
	{terminal.ErrJump, C.LK_JUMP},
	{terminal.ErrJumpBudget, C.LK_JUMP_BUDGET},
	{terminal.ErrNoTerminal, C.LK_NO_TERMINAL},
	{terminal.ErrExists, C.LK_EXISTS},
	{terminal.ErrLocked, C.LK_LOCKED},
	{terminal.ErrInsecure, C.LK_INSECURE},
	{terminal.ErrTicket, C.LK_TICKET},
	{enroll.ErrTicket, C.LK_TICKET},
	{terminal.ErrCertificateRefused, C.LK_CERTIFICATE_REFUSED},
	{terminal.ErrAssignment, C.LK_ASSIGNMENT},
	{terminal.ErrNotEnrolled, C.LK_ASSIGNMENT},
	{terminal.ErrUnconfirmed, C.LK_UNCONFIRMED},
	{terminal.ErrBehind, C.LK_BEHIND},
	{terminal.ErrState, C.LK_STATE},
	{terminal.ErrQueue, C.LK_QUEUE},
	{terminal.ErrOffline, C.LK_OFFLINE},
	{terminal.ErrSale, C.LK_SALE},
	{trustlist.ErrTrust, C.LK_TRUST},
	{tlsconf.ErrRefused, C.LK_TRUST},
	{terminal.ErrClock, C.LK_TRUST},
	{enroll.ErrClock, C.LK_TRUST},
	{remote.ErrDelivery, C.LK_TRUST},
	{enroll.ErrAnswer, C.LK_TRUST},
	{terminal.ErrClosed, C.LK_CLOSED},
}

func init() { meanings = append(meanings, linkMeanings...) }

// kept reports whether an error is about a sale that is on the medium and may have been sent.
func kept(err error) bool {
	_, ok := errors.AsType[*terminal.UnansweredError](err)
	return ok
}

// unforeseen tells errors apart that are known by their types, the narrower before the wider.
func unforeseen(err error) code {
	if _, ok := errors.AsType[*terminal.HostError](err); ok {
		return C.LK_REFUSED
	}
	if r, ok := errors.AsType[*enroll.Refusal](err); ok {
		if r.Status >= 500 {
			return C.LK_UNREACHABLE
		}
		return C.LK_REFUSED
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return C.LK_TRUST
	}
	if tlsconf.CertificateRefused(err) {
		return C.LK_CERTIFICATE_REFUSED
	}
	if errors.Is(err, terminal.ErrAck) {
		return C.LK_ACK
	}
	_, asked := errors.AsType[*url.Error](err)
	_, dialled := errors.AsType[net.Error](err)
	_, file := errors.AsType[*fs.PathError](err)
	switch {
	case file || errors.Is(err, syscall.ENOSPC) || errors.Is(err, fs.ErrNotExist):
		return C.LK_MEDIUM
	case asked || dialled || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return C.LK_UNREACHABLE
	}
	return errInternal
}
