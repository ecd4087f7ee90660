//go:build valgrind

package secret

import "unsafe"

// OnPublic is what [Public] and [PublicBytes] give the bytes of their argument to. Only the constant-time check sets it.
var OnPublic = func([]byte) {}

// Public returns v and takes Valgrind's mark from it. Other builds have a Public that returns v.
func Public[T ~uint8 | ~uint16 | ~int](v T) T {
	OnPublic(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)))
	return v
}

// PublicBytes takes Valgrind's mark from b. Other builds have one that does nothing.
func PublicBytes(b []byte) { OnPublic(b) }
