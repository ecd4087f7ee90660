//go:build cgo && core

package main

// hasLink says which flavour this is.
const hasLink = false

// kept is of the terminal.
func kept(error) bool { return false }

func unforeseen(error) code { return errInternal }
