// liblatchkey is the C library of the terminal: the functions of latchkey.h, built as an archive or a shared library.
//
// It has two flavours. With the build tag core it has the keys of DUKPT only, PIN blocks, MACs and card data, and no network.
// Without, it has terminal.Terminal besides, and takes a maker's secure processor as its engine.
//
// What every exported function does is the same: arguments are checked before anything is used, outputs are copied into the
// caller's buffers at the end, errors become numbers, and a panic ends here. The C compiler holds the exported signatures to
// the header, because both are seen by it at once.
package main

/*
#include <stddef.h>
#include <stdint.h>
#include "api.h"
*/
import "C"

// Version of the library; the first two numbers are those of the header.
const (
	versionMajor = C.LK_VERSION_MAJOR
	versionMinor = C.LK_VERSION_MINOR
	versionPatch = 0
)

//export lk_version
func lk_version() C.uint32_t {
	return versionMajor<<16 | versionMinor<<8 | versionPatch
}

//export lk_has_link
func lk_has_link() C.int {
	if hasLink {
		return 1
	}
	return 0
}

// main is never called: the library has its own entry points.
func main() {}
