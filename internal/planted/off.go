//go:build !planted

package planted

// Built reports whether this binary can carry planted faults. It cannot.
const Built = false

// On reports whether the named fault is switched on. In this build it never is, and the compiler drops the branch.
func On(Name) bool { return false }
