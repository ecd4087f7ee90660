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

// TestPrintedCommands runs what help and documents print, as somebody does who pastes it into an empty folder: every command
// succeeds, and shows the lines that are printed under it.
func TestPrintedCommands(t *testing.T) {
	t.Parallel()
	texts := map[string]string{"profiles": shellBlocks(t, "../../docs/profiles.md")}
	for _, path := range [][]string{{"pin", "encode"}, {"pin", "translate"}} {
		cmd, _, err := newRoot(&console{}).Find(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.Join(path, "-")] = cmd.Example
	}
	dir := t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name+".txtar"), printedScript(t, name, text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{Dir: dir})
}

// shellBlocks returns the blocks of a document that are for a shell.
func shellBlocks(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var blocks strings.Builder
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks.WriteString(m[1])
	}
	return blocks.String()
}

// printedScript makes a script of printed lines: files that printf writes, commands of this program, and what they show. A line
// with … stands for any.
func printedScript(t *testing.T, name, text string) []byte {
	t.Helper()
	var script strings.Builder
	files, commands := map[string]string{}, 0
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "$ ")
		switch {
		case line == "" || line == "…" || strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "printf "):
			for part := range strings.SplitSeq(line, "; ") {
				words := strings.Fields(part)
				if len(words) != 3 || words[0] != "printf" || words[2][0] != '>' {
					t.Fatalf("%s: %q is no printf into a file", name, part)
				}
				file, more := strings.CutPrefix(words[2], ">>")
				if !more {
					file = words[2][1:]
					files[file] = ""
				}
				files[file] += words[1]
			}
		case strings.HasPrefix(line, "latchkey "):
			commands++
			fmt.Fprintln(&script, line)
		default:
			fmt.Fprintf(&script, "stdout '^%s$'\n", strings.ReplaceAll(regexp.QuoteMeta(line), "'", "''"))
		}
	}
	if commands == 0 {
		t.Fatalf("%s prints no command", name)
	}
	for file, content := range files {
		fmt.Fprintf(&script, "-- %s --\n%s\n", file, content)
	}
	return []byte(script.String())
}
