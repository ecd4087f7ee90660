// Package enroll gets a terminal its certificates and initial keys from the registration authority.
//
// It begins with the [Ticket] from the slip of paper. [FetchTrustList] reads the signed list of roots that the pin in the
// ticket vouches for, over a connection that need not be trusted. Under that list, a client made by [NewVisitor] enrols the
// TLS key of the terminal with the one-time code. One made by [NewMember] shows the certificate so obtained: it enrols the
// agreement key, asks what is assigned, fetches initial keys and renews the certificate.
//
// The client believes no answer for coming over TLS. A certificate must be for the key and the identity that it asked for,
// verify under the roots of its authority, and be good for nothing more. A delivery is handed on unopened: keys/remote
// verifies it, with the exporter value of the connection that it came over.
//
// A client retries nothing. A [Refusal] says when to come again, and a [Schedule] does: it renews a certificate at a time of the window,
// and spreads the terminals of an authority that was away.
package enroll
