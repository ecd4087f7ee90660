// Package storetest is the conformance suite of decrypt.Store: [Run] holds a store to every rule that its interface states,
// and compares it with [Model] over random histories.
package storetest
