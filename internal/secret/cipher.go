package secret

import (
	"reflect"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// WipeCipher zeroes the key schedule inside a cipher of the standard library, such as a cipher.Block of crypto/aes, or a
// cipher.BlockMode over one, which holds a copy of the schedule. The cipher must not be used again. What a cipher only points
// to is not reached: wipe the block beside its mode. A nil cipher is none.
//
// The library gives no way to do this; the size of its struct is known to reflection, its layout need not be.
func WipeCipher(c any) {
	v := reflect.ValueOf(c)
	if v.Kind() != reflect.Pointer || v.IsNil() || planted.On(planted.SkipWipe) {
		return
	}
	v.Elem().SetZero()
}
