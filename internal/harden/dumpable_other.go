//go:build !linux

package harden

// undumpable does nothing: only Linux has the flag.
func undumpable() error { return nil }
