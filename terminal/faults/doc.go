// Package faults is what befalls terminals: power that goes, and networks that fail.
//
// [FS] is a medium in memory that forgets what was not synced when its power is cut; [Listen] is a network between terminals and a
// server that carries each of the [NetFaults]. Both draw their chances by a seed. They are for tests, rehearsals and demos: an FS
// ends with its process.
package faults
