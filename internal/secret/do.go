//go:build !goexperiment.runtimesecret

package secret

// Do calls f. In builds with GOEXPERIMENT=runtimesecret it also erases the registers, stack and heap that f used.
func Do(f func()) { f() }
