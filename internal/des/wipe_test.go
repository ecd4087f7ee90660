package des

import (
	"bytes"
	"reflect"
	"testing"
	"unsafe"
)

// TestWipeReachesTheSchedule looks into the memory of the standard library's cipher before and after.
func TestWipeReachesTheSchedule(t *testing.T) {
	t.Parallel()
	for _, size := range []int{8, 16, 24} {
		c, err := New(bytes.Repeat([]byte{0x13, 0x9b, 0x25, 0xc4}, 6)[:size])
		if err != nil {
			t.Fatal(err)
		}
		v := reflect.ValueOf(**c.block)
		if v.Kind() != reflect.Pointer {
			t.Fatalf("the standard library's cipher is a %v: Wipe does not reach it", v.Kind())
		}
		memory := unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
		if len(memory) < 16*8 || bytes.Equal(memory, make([]byte, len(memory))) {
			t.Fatalf("%d bytes of schedule, all zero before Wipe", len(memory))
		}
		c.Wipe()
		if !bytes.Equal(memory, make([]byte, len(memory))) {
			t.Errorf("%d-byte key: Wipe left some of the schedule", size)
		}
	}
}
