// Package keydisttest is the conformance suite of keydist.Store: [Run] holds a store to every rule that its interface
// states, and compares it with [Model] over random histories.
package keydisttest
