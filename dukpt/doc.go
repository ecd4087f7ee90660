// Package dukpt derives one key for each transaction of a payment terminal (derived unique key per transaction).
//
// A host holds a base key (BDK). Each terminal is loaded with an initial key derived from it, named by a [KeyID]. From the
// initial key come a million (TDES) or two thousand million (AES) transaction keys, each named by a [KSN]: the key id and a
// counter. A terminal destroys each key as it is used, so that a stolen terminal tells nothing about its past, and the
// host computes any of them again from the base key and the KSN.
//
// The usual path on a terminal: [NewTerminal] once, then [Terminal.Reserve] and [Terminal.Next] for each [Transaction].
// On a host: [NewBaseKey], then [BaseKey.Begin] for the KSN that came with a message, which gives a [HostTransaction];
// [Path] and [BaseKey.DeriveBatch] are for many at once. Roles are types: a terminal cannot open a PIN block, and a host can
// only move a PIN under another key.
//
// What this package does not protect against: it does not know which KSNs were seen before, so refusing a replay is the
// host's; a terminal whose saved state is put back to an older one repeats its keys, unless the host tells it where to
// continue (see [Terminal.SkipTo]).
//
// Follows ANSI X9.24-1:2009 for TDES, which is Annex C of X9.24-3:2017, and ANSI X9.24-3:2017 for AES.
package dukpt
