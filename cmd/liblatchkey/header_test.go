//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// enumerator is a name in an enumeration of the header with its number.
type enumerator struct{ name, number string }

// enumeration reads one of the header.
func enumeration(t *testing.T, name string) (out []enumerator) {
	t.Helper()
	_, rest, found := strings.Cut(read(t, "latchkey.h"), "enum "+name+" {")
	body, _, ended := strings.Cut(rest, "};")
	if !found || !ended {
		t.Fatalf("no enum %s", name)
	}
	for _, m := range regexp.MustCompile(`(LK_[A-Z0-9_]+) = ([0-9]+)`).FindAllStringSubmatch(body, -1) {
		out = append(out, enumerator{m[1], m[2]})
	}
	return out
}

// declarations are the places where C gives a thing a name.
var declarations = regexp.MustCompile(`(?m)^(?:int|uint32_t|const char \*|typedef uint64_t) ?(lk_\w+)[(;]|^typedef struct (lk_\w+) \{|^\} (lk_\w+);|` +
	`\benum (lk_\w+) \{|^typedef \w+ \(\*(lk_\w+)\)\(|^#define (LK_\w+) |\b(LK_[A-Z0-9_]+) = [0-9]+`)

var comments = regexp.MustCompile(`(?s)/\*.*?\*/`)

// TestNamesExist holds every name that header, texts and page speak of to one that the header declares.
func TestNamesExist(t *testing.T) {
	declared := make(map[string]bool)
	for _, m := range declarations.FindAllStringSubmatch(comments.ReplaceAllString(read(t, "latchkey.h"), ""), -1) {
		declared[strings.Join(m[1:], "")] = true
	}
	if !declared["lk_terminal_drain"] || !declared["lk_error_text"] || !declared["lk_handle"] || !declared["lk_settled"] || !declared["LK_STAGED"] {
		t.Fatalf("the declarations are not understood: %v", declared)
	}
	for _, file := range []string{"latchkey.h", "text.c", "../../docs/c.md", "../../examples/c-terminal/main.c"} {
		names := regexp.MustCompile(`\b(lk_|LK_)\w+`).FindAllString(read(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s names nothing", file)
		}
		for _, name := range names {
			if !declared[name] {
				t.Errorf("%s speaks of %s, which is nowhere", file, name)
			}
		}
	}
}

// TestOutcomesPrinted has the program that firmware begins with tell all outcomes apart.
func TestOutcomesPrinted(t *testing.T) {
	program := read(t, "../../examples/c-terminal/main.c")
	for _, o := range enumeration(t, "lk_outcome") {
		if strings.Count(program, "case "+o.name+":") != 1 {
			t.Errorf("examples/c-terminal does not print %s", o.name)
		}
	}
}

// TestNumbersAreNoPointers keeps what need not be an address out of the hands of Go: contexts are numbers, and memory with a length beside
// it comes through entry.c, where the address of nothing ends.
func TestNumbersAreNoPointers(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	exported, through := 0, 0
	for _, file := range files {
		if m := regexp.MustCompile(`\binput\(\w+\.\w+`).FindString(read(t, file)); m != "" {
			t.Errorf("%s: %s) reads a pointer of a structure; field does not, when there is nothing", file, m)
		}
		for _, m := range regexp.MustCompile(`(?m)^//export (\w+)\nfunc (\w+)\((.*)\) `).FindAllStringSubmatch(read(t, file), -1) {
			exported++
			if m[1] != m[2] {
				t.Errorf("%s: %s is exported as %s", file, m[2], m[1])
			}
			if strings.Contains(m[3], "unsafe.Pointer") {
				t.Errorf("%s: %s takes a context as a pointer", file, m[1])
			}
			if strings.HasPrefix(m[1], "lk_go_") {
				through++
			} else if strings.Contains(m[3], "C.size_t") || strings.Contains(m[3], "context") {
				t.Errorf("%s: %s does not come through entry.c", file, m[1])
			}
		}
	}
	if exported < 30 || through < 12 {
		t.Errorf("%d exported functions, %d of them through entry.c: they are not understood", exported, through)
	}
}
