//go:build cgo && !core

package main

/*
#include <stdlib.h>
#include "api.h"
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
)

const (
	maxText      = 4096 // bytes
	sealOverhead = 256  // bytes, that a sealer may add
)

func ptr[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

// text copies a string of C. One without an end in sight is none.
func text(p *C.char) (string, error) {
	if p == nil {
		return "", nil
	}
	for n := range maxText {
		if *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) == 0 {
			return string(unsafe.Slice((*byte)(unsafe.Pointer(p)), n)), nil
		}
	}
	return "", errLength
}

// first returns the address of some bytes; of none, none.
func first(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

// sealer is a maker's sealer.
type sealer struct {
	functions C.kept_sealer
	name      string
	guard     *guard
}

func newSealer(p *C.lk_sealer, g *guard) (terminal.Sealer, error) {
	if err := sized(p); err != nil {
		return nil, err
	}
	name, err := text(p.name)
	if err != nil || name == "" || name == terminal.InsecureFile || p.seal == nil || p.open == nil {
		return nil, errArgument
	}
	s := &sealer{name: name, guard: g}
	C.lk_keep_sealer(&s.functions, p)
	return s, nil
}

// Name implements terminal.Sealer.
func (s *sealer) Name() string { return s.name }

// Seal implements terminal.Sealer. The buffer has a byte more than may be used: a size that is the whole of it was never set.
func (s *sealer) Seal(label string, plain []byte) ([]byte, error) {
	out := make([]byte, len(plain)+sealOverhead+1)
	n := C.size_t(len(out))
	name := C.CString(label)
	defer C.free(unsafe.Pointer(name))
	var got C.int
	s.guard.during(func() {
		got = C.lk_call_seal(&s.functions, name, first(plain), C.size_t(len(plain)), first(out), &n)
	})
	if got != 0 || n == 0 || n >= C.size_t(len(out)) {
		return nil, fmt.Errorf("%w: sealer %s: seal gives %d, and %d bytes", errEngine, s.name, got, n)
	}
	return out[:n], nil
}

// Open implements terminal.Sealer. What was sealed is longer than what it holds, so that here, too, a size of the whole buffer was never
// set.
func (s *sealer) Open(label string, sealed []byte) (secret.Bytes, error) {
	out := secret.New(max(len(sealed), 1))
	defer out.Wipe()
	n := C.size_t(out.Len())
	name := C.CString(label)
	defer C.free(unsafe.Pointer(name))
	var got C.int
	s.guard.during(func() {
		got = C.lk_call_open(&s.functions, name, first(sealed), C.size_t(len(sealed)), first(out.Expose()), &n)
	})
	switch {
	case got == C.LK_STATE:
		return secret.Bytes{}, fmt.Errorf("%w: %s", terminal.ErrState, label)
	case got != 0 || n >= C.size_t(out.Len()):
		return secret.Bytes{}, fmt.Errorf("%w: sealer %s: open gives %d, and %d bytes", errEngine, s.name, got, n)
	}
	return secret.From(out.Expose()[:n]), nil
}
