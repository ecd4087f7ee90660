package secret

import (
	"crypto/cipher"
	"reflect"
	"runtime"
	"unsafe"
)

// WipeCipher zeroes the key schedule of a block cipher of the standard library, which must not be used again. Its size is
// known, its layout need not be. It does nothing for nil and for what is no pointer.
//
// It is the one place of the project that reaches into memory it does not own: a schedule gives its key away, and the
// library has no call for this.
func WipeCipher(b cipher.Block) {
	if b == nil {
		return
	}
	t := reflect.TypeOf(b)
	if t.Kind() != reflect.Pointer {
		return
	}
	at := (*[2]unsafe.Pointer)(unsafe.Pointer(&b))[1] // an interface is its type and, of a pointer, the pointer
	clear(unsafe.Slice((*byte)(at), t.Elem().Size()))
	runtime.KeepAlive(b)
}
