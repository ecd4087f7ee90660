// Package terminaltest is a laboratory for tests of terminals: certificates and keys, a medium that crashes, a host.
//
// [NewLab] makes a terminal's bundle and everything on the other side of it; [Lab.Host] verifies every message with the
// host's half of the keys and notices any key that serves twice; [Wire] joins the two without a network and loses what a
// test wants lost; [FS] forgets what was not synced. Keys and cards are made up. Nothing here is for production.
package terminaltest
