package main

/*
#include "api.h"
*/
import "C"

import (
	"unsafe"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// span is some memory of the caller.
type span struct {
	at   unsafe.Pointer
	size uintptr
}

// overlaps reports whether two pieces of memory share a byte.
func (s span) overlaps(t span) bool {
	if s.at == nil || t.at == nil || s.size == 0 || t.size == 0 {
		return false
	}
	a, b := uintptr(s.at), uintptr(t.at)
	return a < b+t.size && b < a+s.size
}

// spanOf is the memory of a structure.
func spanOf[T any](p *T) span {
	var t T
	return span{unsafe.Pointer(p), unsafe.Sizeof(t)}
}

// input is what the caller hands in; entry.c has made the address of nothing NULL.
func input[T C.uint8_t | C.char](p *T, n C.size_t) span { return span{unsafe.Pointer(p), uintptr(n)} }

// field is input for a pointer in a structure. One that stands for no memory is not read as a pointer: it may be anything.
func field[T C.uint8_t | C.char](p **T, n C.size_t) span {
	if n == 0 {
		return span{}
	}
	return span{unsafe.Pointer(*p), uintptr(n)}
}

// given reports whether a pointer in a structure is not NULL.
func given[T any](p **T) bool { return *(*uintptr)(unsafe.Pointer(p)) != 0 }

// check refuses what cannot be read.
func (s span) check() error {
	switch {
	case s.size > C.LK_MAX_INPUT:
		return errLength
	case s.size > 0 && s.at == nil:
		return errArgument
	}
	return nil
}

// bytes is the memory itself.
func (s span) bytes() []byte {
	if s.at == nil {
		return nil
	}
	return unsafe.Slice((*byte)(s.at), s.size)
}

// secret returns a copy, which the caller wipes.
func (s span) secret() secret.Bytes { return secret.From(s.bytes()) }

// output is a buffer of the caller and the size beside it.
type output struct {
	span
	n *C.size_t
}

func outputOf(p *C.uint8_t, n *C.size_t) output {
	o := output{n: n}
	o.at = unsafe.Pointer(p)
	if p != nil && n != nil {
		o.size = uintptr(*n)
	}
	return o
}

// apart checks all arguments of a call that has one output: each input can be read, and nothing overlaps the output. The room
// of an output may be larger than any address behind it, when a caller means "enough": it is cut at the end of memory.
func (o *output) apart(inputs ...span) error {
	if o.n == nil {
		return errArgument
	}
	if most := ^uintptr(0) - uintptr(o.at); o.size > most {
		o.size = most
	}
	size := spanOf(o.n)
	if o.overlaps(size) {
		return errOverlap
	}
	for _, in := range inputs {
		if err := in.check(); err != nil {
			return err
		}
		if in.overlaps(o.span) || in.overlaps(size) {
			return errOverlap
		}
	}
	return nil
}

// room sets the size to what is needed, and refuses when that is more than there is.
func (o *output) room(need int) error {
	short := uintptr(need) > o.size
	*o.n = C.size_t(need)
	if short && !planted.On(planted.ClibOverrun) {
		return errShortBuffer
	}
	return nil
}

// give copies a result into the buffer.
func (o *output) give(b []byte) error {
	if err := o.room(len(b)); err != nil || len(b) == 0 {
		return err
	}
	copy(unsafe.Slice((*byte)(o.at), len(b)), b)
	return nil
}

// readable checks inputs of a call without outputs.
func readable(inputs ...span) error {
	for _, in := range inputs {
		if err := in.check(); err != nil {
			return err
		}
	}
	return nil
}
