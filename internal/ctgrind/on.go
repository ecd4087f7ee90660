//go:build valgrind && linux && amd64

package ctgrind

import (
	"runtime"
	"unsafe"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// The requests of valgrind/valgrind.h and valgrind/memcheck.h. They never change: programs carry them compiled in.
const (
	runningOnValgrind = 0x1001
	makeMemUndefined  = 'M'<<24 | 'C'<<16 | 1
	makeMemDefined    = 'M'<<24 | 'C'<<16 | 2
)

//go:noescape
func request(code, arg1, arg2, arg3, arg4, arg5 uintptr) uintptr

func init() { secret.OnPublic = Public }

// Running reports whether the program runs under Valgrind.
func Running() bool { return request(runningOnValgrind, 0, 0, 0, 0, 0) != 0 }

// Secret marks b: what depends on it is reported.
func Secret(b []byte) { mark(makeMemUndefined, b) }

// Public takes the mark from b.
func Public(b []byte) { mark(makeMemDefined, b) }

func mark(code uintptr, b []byte) {
	if len(b) > 0 {
		request(code, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	}
	runtime.KeepAlive(b)
}

// PublicValue takes the mark from the memory of v itself, not from what it points to.
func PublicValue[T any](v *T) { Public(unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))) }
