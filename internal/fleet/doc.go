// Package fleet reads lists of terminals as spreadsheets give them, and keeps what became of each in a file that a run which
// was stopped goes on from.
//
// [Parse] reads a list and names every line that is wrong. [Create] and [Open] are for the results, which hold one-time
// codes: nobody but the owner may read the file.
package fleet
