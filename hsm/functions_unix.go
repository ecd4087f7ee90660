//go:build cgo && !nohsm && unix

package hsm

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

// functions returns 0 for a module that gives its list of functions, CKR_GENERAL_ERROR where it gives none, or what it says instead.
static unsigned long functions(const void *path) {
	unsigned long (*ask)(void **), rv = 5;
	void *list = NULL, *module = dlopen(path, RTLD_LAZY);
	if (module == NULL) return rv;
	ask = (unsigned long (*)(void **))dlsym(module, "C_GetFunctionList");
	if (ask != NULL) rv = ask(&list);
	if (rv == 0 && list == NULL) rv = 5;
	dlclose(module);
	return rv;
}
*/
import "C"

// functions asks a module that is loaded for its list of functions: the library does not look at that answer, and would call what is
// not there.
func functions(path string) error {
	name := C.CBytes(append([]byte(path), 0))
	defer C.free(name)
	if code := C.functions(name); code != 0 {
		return rv(code)
	}
	return nil
}
