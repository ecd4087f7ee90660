package admin_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// TestErrorsPage compares the codes of the registration authority and of the key-distribution host with
// docs/errors-onboarding.md, in both directions.
func TestErrorsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/errors-onboarding.md")
	must(t, err)
	parts := regexp.MustCompile(`(?m)^## .*$`).Split(string(page), -1)
	if len(parts) != 3 {
		t.Fatalf("%d parts, want a head and two tables", len(parts))
	}
	var authority, host []string
	for _, c := range provision.Codes() {
		authority = append(authority, fmt.Sprintf("| `%s` | %d | %s | %s |", c.Code, c.HTTPStatus, c.Meaning, c.Hint))
	}
	for _, c := range keydist.Codes() {
		host = append(host, fmt.Sprintf("| `%s` | %d | %s | %s |", c.Code, c.HTTPStatus, c.Meaning, c.Hint))
	}
	for i, want := range [][]string{authority, host} {
		var got []string
		for line := range strings.Lines(parts[i+1]) {
			if strings.HasPrefix(line, "| `") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("table %d is\n%s\nwant\n%s", i+1, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
