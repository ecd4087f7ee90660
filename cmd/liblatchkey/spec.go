package main

/*
#include "api.h"
*/
import "C"

import (
	"unsafe"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/pin"
)

// sized checks the first field of a structure, which says how much of it the caller knows. All fields of the first version are
// required, and more than this library knows is refused.
func sized[T any](p *T) error {
	if p == nil {
		return errArgument
	}
	if *(*C.uint32_t)(unsafe.Pointer(p)) != C.uint32_t(unsafe.Sizeof(*p)) {
		return errArgument
	}
	return nil
}

// small turns a field into a value of a domain type: what does not fit into a byte is none of them.
func small[T ~uint8](v C.uint32_t, most T) (T, error) {
	if v > C.uint32_t(most) {
		return 0, errArgument
	}
	return T(v), nil
}

func pinFormat(v C.uint32_t) (pin.Format, error) {
	f, err := small(v, pin.Format4PAN12)
	if err == nil && !f.IsValid() {
		err = errArgument
	}
	return f, err
}

// macSpec reads a specification; nil is the default of the scheme.
func macSpec(p *C.lk_mac_spec, scheme dukpt.Scheme) (s dukpt.MACSpec, err error) {
	if p == nil {
		return scheme.DefaultMAC(), nil
	}
	if err := sized(p); err != nil {
		return s, err
	}
	if s.Algorithm, err = small(p.algorithm, dukpt.MACHMACSHA512); err != nil {
		return s, err
	}
	if s.Direction, err = small(p.direction, dukpt.Both); err != nil {
		return s, err
	}
	if s.Key, err = small(p.key, dukpt.KeyHMAC256); err != nil {
		return s, err
	}
	if s.Padding, err = small(p.padding, dukpt.MACPadding3); err != nil {
		return s, err
	}
	length, err := small[uint8](p.length, 64)
	s.Length = int(length)
	return s, err
}

// dataSpec reads a specification; nil is the default of the scheme in this direction. The initialisation vector is copied.
func dataSpec(p *C.lk_data_spec, scheme dukpt.Scheme, direction dukpt.Direction) (s dukpt.DataSpec, err error) {
	if p == nil {
		s = scheme.DefaultData()
		s.Direction = direction
		return s, nil
	}
	if err := sized(p); err != nil {
		return s, err
	}
	if s.Direction, err = small(p.direction, dukpt.Both); err != nil {
		return s, err
	}
	if s.Profile, err = small(p.profile, dukpt.DataBareKey); err != nil {
		return s, err
	}
	if s.Key, err = small(p.key, dukpt.KeyAES256); err != nil {
		return s, err
	}
	if s.Mode, err = small(p.mode, dukpt.ECB); err != nil {
		return s, err
	}
	if s.Padding, err = small(p.padding, dukpt.PKCS7Padding); err != nil {
		return s, err
	}
	iv := field(&p.iv, p.iv_len)
	if err := iv.check(); err != nil {
		return s, err
	}
	if iv.size > 0 {
		s.IV = append([]byte{}, iv.bytes()...)
	}
	return s, nil
}

// dataSpans are the pieces of memory that a specification consists of.
func dataSpans(p *C.lk_data_spec) []span {
	if sized(p) != nil { // nil, or refused in a moment
		return nil
	}
	return []span{spanOf(p), field(&p.iv, p.iv_len)}
}

// macSpans is the same for a MAC.
func macSpans(p *C.lk_mac_spec) []span {
	if p == nil {
		return nil
	}
	return []span{spanOf(p)}
}
