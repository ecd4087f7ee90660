package decrypt_test

import (
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// declared returns every constant of type Code in this package, by its name.
func declared(t *testing.T) map[string]decrypt.Code {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]decrypt.Code)
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || fmt.Sprint(spec.Type) != "Code" {
				return true
			}
			for i, v := range spec.Values {
				text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				out[spec.Names[i].Name] = decrypt.Code(text)
			}
			return true
		})
	}
	return out
}

// TestCodesAreComplete compares the constants with the table that gives them a meaning.
func TestCodesAreComplete(t *testing.T) {
	t.Parallel()
	constants := declared(t)
	if len(constants) < 40 {
		t.Fatalf("only %d constants found: %v", len(constants), constants)
	}
	seen := make(map[decrypt.Code]bool)
	for _, row := range decrypt.Codes() {
		if seen[row.Code] {
			t.Errorf("%s stands twice in the table", row.Code)
		}
		seen[row.Code] = true
		if !slices.Contains(slices.Collect(maps.Values(constants)), row.Code) {
			t.Errorf("%s stands in the table and is no constant", row.Code)
		}
		if row.Meaning == "" || row.Hint == "" || http.StatusText(row.HTTPStatus) == "" || !regexp.MustCompile(`^[A-Z][a-z]+([A-Z][a-z]+)*$`).MatchString(string(row.Code)) {
			t.Errorf("%+v is not filled in", row)
		}
		if info, ok := row.Code.Info(); !ok || info != row {
			t.Errorf("%s: Info gives %+v %v", row.Code, info, ok)
		}
	}
	for _, c := range constants {
		if !seen[c] {
			t.Errorf("%s does not stand in the table", c)
		}
	}
	if !slices.IsSortedFunc(decrypt.Codes(), func(a, b decrypt.CodeInfo) int { return cmp.Compare(a.Code, b.Code) }) {
		t.Error("Codes is not sorted")
	}
}

// TestErrorsPage compares the table with docs/errors.md, in both directions.
func TestErrorsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.FromSlash("../docs/errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for line := range strings.Lines(string(page)) {
		if m := regexp.MustCompile("^\\| `([^`]+)` \\|").FindStringSubmatch(line); m != nil {
			if documented[m[1]] != "" {
				t.Errorf("%s stands twice on the page", m[1])
			}
			documented[m[1]] = strings.TrimSpace(line)
		}
	}
	for _, c := range decrypt.Codes() {
		want := fmt.Sprintf("| `%s` | %d | %s | %s |", c.Code, c.HTTPStatus, c.Meaning, c.Hint)
		if got := documented[string(c.Code)]; got != want {
			t.Errorf("docs/errors.md has\n%q, want\n%q", got, want)
		}
		delete(documented, string(c.Code))
	}
	for code := range documented {
		t.Errorf("docs/errors.md lists %s, which does not exist", code)
	}
}

// TestCodesAreUsed looks through the host side: no code is spelled by hand that does not exist, and none exists that nothing
// answers with.
func TestCodesAreUsed(t *testing.T) {
	t.Parallel()
	spelled := regexp.MustCompile(`(?:Code:|decrypt\.Code\(|Code ==) *"([A-Z][A-Za-z]+)"`)
	sources := hostSources(t)
	for name, b := range sources {
		for _, m := range spelled.FindAllStringSubmatch(b, -1) {
			if _, ok := decrypt.Code(m[1]).Info(); !ok {
				t.Errorf("%s spells the code %s, which does not exist", name, m[1])
			}
		}
	}
	delete(sources, "refusal.go")
	for name, code := range declared(t) {
		used := regexp.MustCompile(`\b` + name + `\b|"` + string(code) + `"`)
		if !slices.ContainsFunc(slices.Collect(maps.Values(sources)), used.MatchString) {
			t.Errorf("nothing answers with %s", name)
		}
	}
}

// hostSources reads the files that answer calls.
func hostSources(t *testing.T) map[string]string {
	t.Helper()
	sources := make(map[string]string)
	for _, root := range []string{".", "../internal/node", "../internal/serve", "../internal/store"} {
		err := filepath.WalkDir(filepath.FromSlash(root), func(name string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
				return err
			}
			b, err := os.ReadFile(name)
			sources[name] = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(sources) < 30 {
		t.Fatalf("only %d files", len(sources))
	}
	return sources
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r           decrypt.Refusal
		text        string
		unavailable bool
	}{
		{decrypt.Refusal{Code: decrypt.CodeKSNReplayed}, "decrypt: KsnReplayed: the KSN was used before, for other content", false},
		{decrypt.Refusal{Code: decrypt.CodeTerminalUnknown, Detail: "terminal T-1"}, "decrypt: TerminalUnknown: the terminal is not registered: terminal T-1", false},
		{decrypt.Refusal{Code: decrypt.CodeStoreFull}, "decrypt: StoreFull: there is no room to store claims, so nothing is released", true},
		{decrypt.Refusal{Code: "Unheard"}, "decrypt: Unheard", true},
	} {
		err := fmt.Errorf("outside: %w", &c.r)
		r, ok := errors.AsType[*decrypt.Refusal](err)
		if !ok || r.Error() != c.text || r.Unavailable() != c.unavailable {
			t.Errorf("%q %v, want %q %v", r.Error(), r.Unavailable(), c.text, c.unavailable)
		}
	}
}
