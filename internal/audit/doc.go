// Package audit is a log of records that cannot be changed unnoticed.
//
// Each [Record] is the leaf of a Merkle tree of RFC 6962, as golang.org/x/mod/sumdb/tlog computes it. A store appends
// leaves with a [Tree], in the transaction of what they record. From time to time a [Signer] signs the size and the root of
// the tree: a checkpoint, in the form of a signed note (C2SP tlog-checkpoint). Whoever keeps checkpoints elsewhere can later
// tell, with [Verify] and without the service, that no leaf before them was changed, dropped or inserted.
//
// What is not covered: leaves after the last checkpoint, which whoever writes to the disk can replace together with their
// hashes; and what was never recorded.
package audit
