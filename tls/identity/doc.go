// Package identity says who a peer is: the name and role that its certificate carries.
//
// Every certificate of a latchkey system holds one URI latchkey://TENANT/ROLE/NAME in its subject alternative name and
// the certificate policy of that role. [FromCertificate] reads both back and refuses anything that could be read in two
// ways; [Role.Authority] says which of the three issuers a role must come from.
//
// The package decides what a certificate claims. Whether the claim is true is decided by the chain it was verified with:
// see tls/tlsconf.
package identity
