// Package hsm works with keys that stay in a PKCS#11 token.
//
// [ParseURI] reads which token (RFC 7512), [Open] logs in to it, [Token.Engine] is an engine for the host service. What a
// token can do is found out by known answers and not by what it lists ([Token.Probe]), and decides how each base key works:
//
//	token         AES DUKPT wholly inside: base key, initial key and all keys below are objects that are sensitive, cannot be
//	              extracted and have one use each
//	bdk-in-token  the base key stays inside; one terminal's initial key comes out for one request, and is wiped. So works
//	              TDES, and AES on a token that cannot derive; TDES is inside, too, where a maker's mechanisms do it ([OneCall],
//	              untested)
//
// A token may vanish and come back: errors are told apart, sessions and keys are made anew, and work that may be repeated is
// repeated once. A wrong PIN is never tried again.
//
// What it does not protect against: whoever is logged in to a token may use its keys, and on tokens that know no template for
// derived keys may derive one that can be read. The base key stays inside even then. A PIN passes through the memory of the
// host while it is translated.
//
// The bridge to modules needs cgo. Without it, or with the build tag nohsm, everything compiles and [Open] fails with
// [ErrNoBridge].
package hsm
