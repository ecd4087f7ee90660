package main

/*
#include "api.h"
*/
import "C"

import (
	"errors"
	"strconv"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// code is one of the numbers of latchkey.h as an error.
type code int

// Error names the number; lk_error_text says what it means.
func (c code) Error() string { return "latchkey code " + strconv.Itoa(int(c)) }

// The codes that this package gives by itself.
const (
	errArgument    code = C.LK_ARGUMENT
	errShortBuffer code = C.LK_SHORT_BUFFER
	errOverlap     code = C.LK_OVERLAP
	errHandle      code = C.LK_HANDLE
	errOrder       code = C.LK_ORDER
	errBusy        code = C.LK_BUSY
	errLength      code = C.LK_LENGTH
	errUnsupported code = C.LK_UNSUPPORTED
	errInternal    code = C.LK_INTERNAL
	errSave        code = C.LK_SAVE
)

// meaning is the code of an error that a caller acts on.
type meaning struct {
	err  error
	code code
}

// meanings of the errors of both flavours. The first that fits counts.
var meanings = []meaning{
	{dukpt.ErrKSN, C.LK_KSN},
	{dukpt.ErrExhausted, C.LK_EXHAUSTED},
	{dukpt.ErrLength, C.LK_LENGTH},
	{dukpt.ErrVerify, C.LK_VERIFY},
	{dukpt.ErrStrength, C.LK_STRENGTH},
	{dukpt.ErrUnsupported, C.LK_UNSUPPORTED},
	{dukpt.ErrState, C.LK_STATE},
	{keys.ErrLength, C.LK_KEY},
	{keys.ErrWeak, C.LK_KEY},
	{keys.ErrForbidden, C.LK_UNSUPPORTED},
	{pin.ErrPIN, C.LK_PIN},
	{pin.ErrPAN, C.LK_PAN},
	{pin.ErrFormat, C.LK_UNSUPPORTED},
}

// codeOf returns the code of an error. One that nobody has foreseen is a fault of the library.
//
// A sale that is kept comes before all else, whatever the reason that it has no answer: every other code says that there is none, and
// who believes that makes it again.
func codeOf(err error) code {
	if err == nil {
		return C.LK_OK
	}
	if kept(err) {
		return C.LK_UNANSWERED
	}
	if c, ok := errors.AsType[code](err); ok {
		return c
	}
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			return m.code
		}
	}
	return unforeseen(err)
}

// call is the boundary: what f returns becomes a number, and a panic ends here.
func call(f func() error) (result C.int) {
	defer func() {
		if recover() != nil {
			result = C.LK_INTERNAL
		}
	}()
	return C.int(codeOf(f()))
}
