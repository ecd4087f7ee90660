// Package planted switches deliberate faults on, so that tests can prove they would be caught.
//
// A guard that no test can miss is no guard. Each place that a fault test watches asks [On] whether the guard is to be
// skipped. Ordinary builds compile the question to the constant false and carry no trace of the fault; only a build with
// the tag "planted" can answer yes, for names given to Set or in the environment variable LATCHKEY_PLANTED. A binary
// built with that tag says so when asked by [Built], and the daemons print it at start.
package planted
