//go:build cgo && !nohsm && !unix

package hsm

// functions believes a module elsewhere.
func functions(string) error { return nil }
