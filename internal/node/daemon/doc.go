// Package daemon is what every daemon needs to run: a strict configuration file, sealed credentials, checkpoints of its audit
// log, a loop that reads again, metrics, and listeners that start and end together.
package daemon
