package laws

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// outside is what the firmware of a maker does in a module of its own: a sealer over its secure element, a key that it has
// certified, a swiped card.
const outside = `package main

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

type element struct{}

func (element) Name() string                                    { return "element" }
func (element) Seal(label string, plain []byte) ([]byte, error) { return nil, fmt.Errorf("%s", label) }
func (element) Open(label string, sealed []byte) (keys.Secret, error) {
	return keys.NewSecret(sealed), nil
}

var _ terminal.Sealer = element{}

func main() {
	ticket, err := enroll.ParseTicket([]byte("typed"))
	fmt.Println(terminal.Enroll(context.Background(), terminal.OSFS("."), element{}, terminal.EnrolOptions{
		Ticket: ticket, Agreement: keys.NewSecret(nil),
	}), err)
	_ = terminal.SaleRequest{Track: keys.NewSecret([]byte("track"))}
}
`

// TestOutside builds a module that is not this one: what is public can be used without anything that is internal.
func TestOutside(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(mod), "module example.com/maker")
	own += "\nrequire " + Module + " v0.0.0\n\nreplace " + Module + " => " + root + "\n"
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": own, "go.sum": string(sum), "main.go": outside} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", "-mod=mod", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
