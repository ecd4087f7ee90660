// Package catest is the conformance suite of certificate issuers, with issuers that misbehave to prove that it notices.
//
// An implementation calls [Run] in a test. [Fakes] are issuers in memory that sign wrongly in one way each; ca.Check
// refuses what they return, and so does the suite. It is for tests only.
package catest
