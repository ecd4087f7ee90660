//go:build !linux

package vaulttest

import "syscall"

// dies does nothing where a program cannot be made to end with who started it.
func dies() *syscall.SysProcAttr { return nil }
