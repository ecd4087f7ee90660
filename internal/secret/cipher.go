package secret

import (
	"crypto/aes"
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
	kind, at := parts(b)
	size := aesSize
	if kind != aesKind {
		t := reflect.TypeOf(b)
		if t.Kind() != reflect.Pointer {
			return
		}
		size = t.Elem().Size()
	}
	clear(unsafe.Slice((*byte)(at), size))
	runtime.KeepAlive(b)
}

// The cipher of AES is wiped after every step of a derivation: what reflection says of it is asked once.
var aesKind, aesSize = aesLayout()

func aesLayout() (unsafe.Pointer, uintptr) {
	b, err := aes.NewCipher(make([]byte, 16))
	if err != nil || reflect.TypeOf(b).Kind() != reflect.Pointer {
		return nil, 0
	}
	kind, _ := parts(b)
	return kind, reflect.TypeOf(b).Elem().Size()
}

// parts of an interface are its type and, of a pointer, the pointer.
func parts(b cipher.Block) (kind, at unsafe.Pointer) {
	w := (*[2]unsafe.Pointer)(unsafe.Pointer(&b))
	return w[0], w[1]
}
