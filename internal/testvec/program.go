package testvec

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Program demands a program of the system, such as openssl. Where LATCHKEY_REQUIRE names it, in a list with commas, or
// says all, as make test does, its absence is a failure; elsewhere the test is skipped, with the reason.
func Program(tb testing.TB, name string) {
	tb.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	required := strings.Split(os.Getenv("LATCHKEY_REQUIRE"), ",")
	if slices.Contains(required, name) || slices.Contains(required, "all") {
		tb.Fatalf("%s is missing and LATCHKEY_REQUIRE demands it: .ci/env installs it", name)
	}
	tb.Skipf("%s is not installed", name)
}
