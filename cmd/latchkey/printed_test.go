package main

import (
	"fmt"
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
// of a page from its top to its end in another one. What a page prints under a command must come out of it.
func TestPrinted(t *testing.T) {
	t.Parallel()
	printed := make(map[string]string)
	for _, noun := range []string{"keyblock", "pin"} {
		cmd, _, err := newRoot(&console{}).Find([]string{noun})
		if err != nil {
			t.Fatal(err)
		}
		for _, verb := range cmd.Commands() {
			printed[noun+"-"+verb.Name()] = typed(verb.Example)
		}
	}
	for _, name := range []string{"keyblock", "profiles"} {
		page, err := os.ReadFile(filepath.Join("..", "..", "docs", name+".md"))
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, block := range shellBlock.FindAllStringSubmatch(string(page), -1) {
			text += block[1]
		}
		if strings.HasPrefix(text, shellPrompt) {
			printed["page-"+name] = transcript(text)
		} else {
			printed["page-"+name] = typed(text)
		}
	}
	dir, commands := t.TempDir(), 0
	for name, script := range printed {
		n := len(regexp.MustCompile(`(?m)^ *latchkey `).FindAllString(script, -1))
		if n == 0 {
			t.Errorf("%s prints no command", name)
		}
		commands += n
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if commands < 18 {
		t.Errorf("only %d commands are printed", commands)
	}
	testscript.Run(t, testscript.Params{Dir: dir})
}

// shellPrompt is what stands before the commands of a page that shows answers too.
const shellPrompt = "$ "

// typed is a script that gives commands to a shell.
func typed(text string) string {
	return "exec sh -eu printed.sh\n-- printed.sh --\n" + strings.TrimSuffix(text, "\n") + "\n"
}

// transcript is a script that gives each command behind a prompt to a shell, and looks for the lines under it in the answer. A line
// with … stands for any.
func transcript(text string) string {
	var script, files strings.Builder
	commands := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch command, ok := strings.CutPrefix(line, shellPrompt); {
		case ok:
			commands++
			fmt.Fprintf(&script, "exec sh -eu printed-%d.sh\n", commands)
			fmt.Fprintf(&files, "-- printed-%d.sh --\n%s\n", commands, command)
		case line != "" && line != "…":
			fmt.Fprintf(&script, "stdout '^%s$'\n", strings.ReplaceAll(regexp.QuoteMeta(line), "'", "''"))
		}
	}
	return script.String() + files.String()
}
