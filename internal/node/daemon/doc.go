// Package daemon is what every daemon needs to run: a strict configuration file, checkpoints of its audit log, a loop that
// reads again, and listeners that start and end together.
package daemon
