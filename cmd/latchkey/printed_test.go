package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// shellBlock finds the commands in a page.
var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestPrinted types every command that help and docs print, as they print it: the examples of a verb in an empty folder, and those
// of a page from its top to its end in another one.
func TestPrinted(t *testing.T) {
	t.Parallel()
	printed := make(map[string]string)
	cmd, _, err := newRoot(&console{}).Find([]string{"keyblock"})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range cmd.Commands() {
		printed["keyblock-"+verb.Name()] = verb.Example
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "keyblock.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range shellBlock.FindAllStringSubmatch(string(page), -1) {
		printed["page-keyblock"] += block[1]
	}
	dir, commands := t.TempDir(), 0
	for name, text := range printed {
		n := len(regexp.MustCompile(`(?m)^ *latchkey `).FindAllString(text, -1))
		if n == 0 {
			t.Errorf("%s prints no command", name)
		}
		commands += n
		script := "exec sh -eu printed.sh\n-- printed.sh --\n" + strings.TrimSuffix(text, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if commands < 12 {
		t.Errorf("only %d commands are printed", commands)
	}
	testscript.Run(t, testscript.Params{Dir: dir})
}
