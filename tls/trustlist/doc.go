// Package trustlist is the signed list of roots that a terminal trusts.
//
// A terminal that leaves its box trusts nothing. The slip of paper with its one-time code carries a [Pin], the digest of a
// public key. It fetches the list over a connection that protects nothing, and [Open] believes it only if that key has
// signed it. From then on it keeps an [Accepted]: later lists must be signed by the same key, or by one that an accepted
// list names, and their version never goes back.
//
// A list has the roots of all three authorities, apart. It has no end: a list that is withdrawn is replaced by one with a
// higher version. Whoever holds a signing key decides what terminals trust; the key is used a few times in the life of a
// system, and stays offline.
//
// The format stands in docs/protocol.md, section 8.
package trustlist
