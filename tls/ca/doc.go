// Package ca is the seam to whatever signs certificates.
//
// An [Issuer] certifies the roles of one authority. A [Request] says all that a certificate will carry; [Check] compares
// what came back with it, because issuers are configured elsewhere and sign what they are told: one that would certify
// a certificate authority, another key, a longer life or one more name must not get its certificate into use. Every
// implementation runs the suite in tls/ca/catest.
//
// There is no renewal here: a renewal is a decision somewhere else, and then a new Request.
package ca
