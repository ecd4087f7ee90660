// Package provisiontest is the conformance suite of provision.Store: [Run] holds a store to every rule that its interface
// states, and compares it with [Model] over random histories.
package provisiontest
