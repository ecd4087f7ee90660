package exit

import "runtime/debug"

// Version returns the version that the programs of this repository print: that of the module as the go command recorded it,
// which names the commit, or "unknown" in a build that records none.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
