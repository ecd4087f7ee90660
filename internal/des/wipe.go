package des

import (
	"reflect"
	"unsafe"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Wipe zeroes the key schedule. The cipher must not be used again; Wipe itself may be called again.
//
// The standard library keeps the schedule inside an opaque value; its size is known, its layout need not be.
func (c *Cipher) Wipe() {
	if c == nil || c.block == nil {
		return
	}
	v := reflect.ValueOf(**c.block)
	if v.Kind() == reflect.Pointer {
		secret.Wipe(unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size()))
	}
	c.block = nil
}
