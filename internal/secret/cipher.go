package secret

import (
	"crypto/aes"
	"reflect"
	"unsafe"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// WipeCipher zeroes the key schedule inside a cipher of the standard library, such as a cipher.Block of crypto/aes, or a
// cipher.BlockMode or the AEAD of cipher.NewGCM over one, which hold a copy of the schedule. The cipher must not be used again. What a cipher only points
// to is not reached: wipe the block beside its mode. A nil cipher is none.
//
// The library gives no way to do this; the size of its struct is known to reflection, its layout need not be.
func WipeCipher(c any) {
	if planted.On(planted.SkipWipe) {
		return
	}
	// An interface is its type and, of a pointer, the pointer. Of AES, which is wiped after every step of a derivation, the
	// size is asked once.
	if words := (*[2]unsafe.Pointer)(unsafe.Pointer(&c)); words[0] == aesType && words[1] != nil {
		clear(unsafe.Slice((*byte)(words[1]), aesSize))
		return
	}
	wipeOther(c)
}

// wipeOther is WipeCipher for what reflection has to look at.
func wipeOther(c any) {
	v := reflect.ValueOf(c)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return
	}
	v.Elem().SetZero()
}

var aesType, aesSize = aesLayout()

// aesLayout returns the type word of AES ciphers and the size of what they point to.
func aesLayout() (unsafe.Pointer, uintptr) {
	c, _ := aes.NewCipher(make([]byte, 16)) // refuses only other sizes
	var boxed any = c
	return (*[2]unsafe.Pointer)(unsafe.Pointer(&boxed))[0], reflect.Indirect(reflect.ValueOf(c)).Type().Size()
}
