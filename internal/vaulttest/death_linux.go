package vaulttest

import "syscall"

// dies has a program end with the thread that started it: a test that panics leaves no Vault behind.
func dies() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
