// Package vault has the PKI secrets engine of a HashiCorp Vault, or of an OpenBao, issue the certificates of terminals.
//
// [New] makes an [Issuer] of a role of Vault; [Issuer.Run] keeps it logged in. [Setup] prepares a Vault for it, from the
// files policy.hcl and role.json, which are part of this package.
//
// Vault decides nothing here. What it signs is compared with the request before anybody gets it, and a certificate that
// differs is refused and revoked: a role that somebody has changed signs no stranger into the fleet. Vault is asked only
// to sign under that role, never sign-verbatim, which ignores the rules of a role; the policy of the issuer's token grants
// no more.
//
// Vault is slow, sealed or away at times. Each call ends after [Options.Timeout] and is not repeated; so many at once go to
// Vault and no more; after some failures nobody asks for a while. What is refused for such a reason is an [Unavailable],
// which says when to come again, spread at random so that a fleet does not come back as one.
//
// The environment variables of Vault's own tools (VAULT_ADDR, VAULT_TOKEN, VAULT_SKIP_VERIFY and so on) count for nothing
// here; one that cannot be read is an error of the library all the same.
package vault
