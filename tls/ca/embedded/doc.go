// Package embedded is the issuer that needs nothing beside a folder: a root and an issuing certificate of one authority,
// with smallstep's softcas as the signing engine.
//
// [Create] makes the folder, [Open] uses it:
//
//	root.crt             the root, P-384, 10 years: what others trust
//	root.key.sealed      its key; Open does not need it, so it may be moved to another place
//	issuing.crt          the issuing certificate, P-256, 5 years, path length 0, the authority's roles as policies
//	issuing.key.sealed   its key
//	issued.jsonl         every certificate issued and revoked, one JSON object a line, only ever appended to
//
// The root is stronger than what it signs because it lives longest and signs once; P-256 below it is what secure elements
// of terminals verify quickly. Keys are on disk only under a passphrase (internal/seal). In the process they are ordinary
// memory: this is not the place for the keys of a production fleet, a token or Vault is.
//
// softcas signs what it is told, certificate authorities and lifetimes beyond its own included; everything that leaves
// this package has passed ca.Check.
package embedded
