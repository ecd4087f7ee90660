// Package keyset says what a family of terminal keys may be used for.
//
// A [KeySet] is a versioned document that the registration authority, the key-distribution host and the decryption
// service read alike: which base key, which key ids, which purposes, how far counters may jump, who may register. It
// holds names and check values and never key bytes. A [Terminal] record says which key id of which set sits in which
// slot of a terminal. Both are deterministic CBOR (RFC 8949, 4.2.1) with one spelling for every value, and both travel
// inside an envelope that their approvers sign.
//
// The usual path: [OpenKeySet] reads a signed set, [KeySet.Contains] asks whether a key id belongs to it. To write one,
// start from [NewTDESPIN] or a sibling, fill in the names, then [Marshal] and [Sign]. A change of state is a new
// revision, see [KeySet.NextRevision] and [CheckSuccessor].
//
// A key lives as NIST SP 800-57 has it: [KeyState] says what each state permits and what it can become, and the stored states
// of sets, slots and terminals say which it is. The services ask State.Permits and SlotState.Permits, and CheckSuccessor holds
// sets to their changes of state. [NewRotation] plans how one set takes over from another.
//
// Nothing in this module calls NewRotation, [CheckTransition] or [Strictest] yet. A plan is not stored or signed, and no
// service acts on one: whoever rotates today makes the two sets, registers terminals under the new one, and retires the old one
// by hand, with the plan as a check. A key-distribution host that rotates by itself will hold to Rotation.Delivering, and a
// store of key records to CheckTransition.
//
// The package does not know whether a certificate is trusted: the caller's [Verifier] does. It keeps no list of what it
// has seen, so an old revision with good signatures still opens; refusing it is up to whoever stores the latest.
//
// The formats and the rules stand in docs/protocol.md, sections 1, 2 and 4.
package keyset
