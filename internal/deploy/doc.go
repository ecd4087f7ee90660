// Package deploy is the folder that `latchkey init` makes: everything one tenant needs to run, on one machine.
//
// [Create] makes it, [Open] uses it; daemons that are given only some of its parts read them with [Credential],
// [LoadTrust], [NewCatalog] and [OpenCheckpointKey].
//
//	latchkey.yaml                       tenant, environment, date
//	decryptd.yaml                       the configuration of latchkey-decryptd, with comments
//	ca/{terminals,services,keydist}/    the three issuers (tls/ca/embedded)
//	trust/{terminals,services,keydist}.pem   the roots, each good for its own roles only
//	trust/services.issuing.pem          the issuing certificates that signers of documents chain through
//	services/{decrypt,acquirer}/        cert.pem (leaf, then issuing) and key.sealed
//	operators/NAME/                     the same for each person who signs or audits
//	keyring/                            keys (internal/keyring)
//	keysets/ID.rN.signed                key sets, every revision
//	keysets/ID.last                     the highest key id that was ever given out of a set
//	terminals/ID.gN.signed              terminal records, every generation
//	audit/checkpoint.{key.sealed,pub}   the key that signs checkpoints of the audit log, and its verifier
//
// Everything that is secret is sealed under one passphrase. That makes a first day easy, and it makes whoever knows the
// passphrase everyone at once: for production, move the ca folder and the people's keys elsewhere.
package deploy
