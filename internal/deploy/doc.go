// Package deploy is the folder that `latchkey init` makes: everything one tenant needs to run, on one machine.
//
// [Create] makes it, [Open] uses it; daemons that are given only some of its parts read them with [Credential],
// [LoadTrust], [NewCatalog] and [OpenCheckpointKey].
//
//	latchkey.yaml                       tenant, environment, date
//	{decryptd,provisiond,keyd}.yaml     the configuration of each daemon, with comments
//	ca/{terminals,services,keydist}/    the three issuers (tls/ca/embedded)
//	trust/{terminals,services,keydist}.pem   the roots, each good for its own roles only
//	trust/services.issuing.pem          the issuing certificates that signers of documents chain through
//	trust/list.{signed,key.sealed,pin}  the trust list of terminals (tls/trustlist), the key that signs it, and its pin
//	services/{decrypt,acquirer,ra,keydist}/  cert.pem (leaf, then issuing) and key.sealed
//	services/{registry,kdh-signer}/     the same for what signs the registry feed and the deliveries
//	services/ra/pepper.sealed           the key under which one-time codes are stored
//	operators/NAME/                     the same for each person who signs or audits
//	keyring/                            keys (internal/keyring)
//	keysets/ID.rN.signed                key sets, every revision
//	keysets/ID.last                     the highest key id that was ever given out of a set
//	terminals/ID.gN.signed              terminal records, every generation
//	attested/rN.signed                  the makers of devices and the devices that may have attested keys, every revision
//	audit/{checkpoint,provisiond,keyd}.{key.sealed,pub}   the keys that sign checkpoints of the audit logs, and their
//	                                    verifiers; checkpoint is that of latchkey-decryptd
//
// Everything that is secret is sealed under one passphrase. That makes a first day easy, and it makes whoever knows the
// passphrase everyone at once: for production, move the ca folder and the people's keys elsewhere.
package deploy
