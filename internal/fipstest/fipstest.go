// Package fipstest runs a part of a test where Go's FIPS mode is enforced, which a process decides when it starts.
package fipstest

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Enforced runs f as the subtest "enforced" in a process that runs the calling test alone with GODEBUG=fips140=only. It fails
// when that process does, and when f was not run there. The caller is a test of its own, not a subtest, and calls it before
// anything else that takes time: its process does all that stands before the call, too.
func Enforced(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if fips140.Enforced() {
		t.Run("enforced", f)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v")
	cmd.Env = append(cmd.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+"/enforced") {
		t.Errorf("%v\n%s", err, out)
	}
}
