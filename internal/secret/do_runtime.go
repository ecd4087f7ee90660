//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Do calls f and erases the registers, stack and heap that f used.
func Do(f func()) { secret.Do(f) }
