package laws

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("the laws run inside the module: %v", err)
	}
	return root
}

func TestLaws(t *testing.T) {
	t.Parallel()
	tree, err := Load(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, law := range All() {
		for _, breach := range law.Check(tree) {
			t.Errorf("law %q (%s): %s", law.Name, law.Text, breach)
		}
	}
}

// TestEveryPackageChecked holds the number of packages that the laws read against what the go command lists.
func TestEveryPackageChecked(t *testing.T) {
	t.Parallel()
	root := moduleRoot(t)
	tree, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, tags := range []string{"", "planted"} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", tags, "-f", "{{if or .GoFiles .CgoFiles}}{{.ImportPath}}{{end}}", "./...")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=1") // listing takes no compiler
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for _, name := range strings.Fields(string(out)) {
			listed = append(listed, strings.TrimPrefix(strings.TrimPrefix(name, Module), "/"))
		}
	}
	slices.Sort(listed)
	listed = slices.Compact(listed)
	checked := slices.Sorted(maps.Keys(tree.Packages))
	t.Logf("packages checked: %d, packages listed: %d", len(checked), len(listed))
	if !slices.Equal(checked, listed) {
		t.Errorf("checked %v\nlisted  %v", checked, listed)
	}
}

// TestBreaches plants one breach of each law in a small tree and demands that exactly that law names it.
func TestBreaches(t *testing.T) {
	t.Parallel()
	const doc = "// Package x is planted.\n"
	breaches := map[string]struct {
		files map[string]string
		want  string
	}{
		"table":         {map[string]string{"keys/k.go": doc + "package keys\nimport _ \"" + Module + "/decrypt\"\n"}, "keys imports decrypt"},
		"listed":        {map[string]string{"attic/a.go": doc + "package attic\n"}, "attic has no row"},
		"confined":      {map[string]string{"decrypt/d.go": doc + "package decrypt\nimport \"C\"\n"}, "decrypt imports C"},
		"assembly":      {map[string]string{"keys/k.go": doc + "package keys\n", "keys/k_amd64.s": "\n"}, "keys/k_amd64.s is assembly"},
		"pure":          {map[string]string{"pin/p.go": doc + "package pin\nimport _ \"example.org/x\"\n"}, "pin imports example.org/x"},
		"process":       {map[string]string{"keys/k.go": doc + "package keys\nimport \"os\"\nfunc f() { os.Exit(1) }\n"}, "os.Exit outside"},
		"documented":    {map[string]string{"keys/k.go": doc + "package keys\nfunc Naked() {}\n"}, "Naked has no comment"},
		"tls":           {map[string]string{"terminal/t.go": doc + "package terminal\nimport \"crypto/tls\"\nvar c = &tls.Config{}\n"}, "tls.Config built outside"},
		"plain-secrets": {map[string]string{"keys/k.go": doc + "package keys\ntype k struct{ material [16]byte }\n"}, "field material"},
		"names":         {map[string]string{"keys/k.go": doc + "package util\n"}, "called util"},
		"dependencies":  {map[string]string{"keys/k.go": doc + "package keys\n", "go.mod": "module x\nrequire example.org/heavy v1.0.0\n"}, "example.org/heavy is required"},
	}
	more := map[string]map[string]string{
		"confined": {
			"vault":    "import _ \"github.com/hashicorp/vault/api\"",
			"smallcas": "import _ \"github.com/smallstep/certificates/cas/softcas\"",
			"sql":      "import _ \"database/sql\"",
			"unsafe":   "import _ \"unsafe\"",
			"ctgrind":  "import _ \"" + Module + "/internal/ctgrind\"",
			"planted":  "import _ \"" + Module + "/internal/planted\"",
		},
		"process": {
			"getenv":        "import \"os\"\nvar e = os.Getenv(\"X\")",
			"fatal":         "import \"log\"\nfunc f() { log.Fatal(1) }",
			"aliasedexit":   "import system \"os\"\nfunc f() { system.Exit(1) }",
			"aliasedgetenv": "import system \"os\"\nvar e = system.Getenv(\"X\")",
			"aliasedfatal":  "import l \"log\"\nvar die = l.Fatalf",
			"exitbyvalue":   "import \"os\"\nvar end = os.Exit",
			"dot":           "import . \"os\"\nfunc f() { Exit(1) }",
			"syscall":       "import \"syscall\"\nfunc f() { syscall.Exit(1) }",
		},
		"tls": {
			"skip":      "import \"crypto/tls\"\nfunc f(c *tls.Config) { c.InsecureSkipVerify = true }",
			"peer":      "import \"crypto/tls\"\nfunc f(c *tls.Config) { c.VerifyPeerCertificate = nil }",
			"new":       "import \"crypto/tls\"\nvar c = new(tls.Config)",
			"var":       "import \"crypto/tls\"\nvar c tls.Config",
			"local":     "import \"crypto/tls\"\nfunc f() *tls.Config { var c tls.Config; return &c }",
			"alias":     "import stdtls \"crypto/tls\"\nvar c = stdtls.Config{}",
			"aliasptr":  "import stdtls \"crypto/tls\"\nfunc f() *stdtls.Config { return &stdtls.Config{} }",
			"aliasnew":  "import stdtls \"crypto/tls\"\nvar c = new(stdtls.Config)",
			"dot":       "import . \"crypto/tls\"\nvar c = &Config{}",
			"renamed":   "import \"crypto/tls\"\ntype config = tls.Config",
			"embedded":  "import \"crypto/tls\"\ntype config struct{ tls.Config }",
			"inlist":    "import \"crypto/tls\"\nvar c = []*tls.Config{{}}",
			"inmap":     "import \"crypto/tls\"\nvar c = map[string]*tls.Config{\"a\": {}}",
			"byvalue":   "import \"crypto/tls\"\nfunc f(c tls.Config) {}",
			"parameter": "import \"crypto/tls\"\nfunc g[T any]() *T { return new(T) }\nvar c = g[tls.Config]()",
		},
	}
	wholes := map[string]map[string]map[string]string{ // law -> what it says -> files
		"documented": {"keys has no package comment": {"keys/k.go": "package keys\n", "keys/l.go": "package keys\n"}},
		"listed":     {"dukpt is listed and does not exist": {"keys/k.go": doc + "package keys\n"}},
	}
	for _, law := range All() {
		t.Run(law.Name, func(t *testing.T) {
			t.Parallel()
			for want, files := range wholes[law.Name] {
				demand(t, law, files, want)
			}
			b, ok := breaches[law.Name]
			if !ok {
				t.Fatal("no planted breach for this law")
			}
			demand(t, law, b.files, b.want)
			for name, body := range more[law.Name] {
				demand(t, law, map[string]string{"examples/acquirer/" + name + ".go": doc + "package acquirer\n" + body + "\n"}, "examples/acquirer")
			}
		})
	}
}

// TestNoBreach shows what looks like a breach of a law and is none.
func TestNoBreach(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	const doc = "// Package x is planted.\n"
	for name, body := range map[string]string{
		"terminal/pointers.go":  "package terminal\nimport \"crypto/tls\"\ntype s struct{ c *tls.Config; all []*tls.Config }\nfunc f(c *tls.Config) (*tls.Config, error) { s := []*tls.Config{c}; return s[0], nil }",
		"terminal/certs.go":     "package terminal\nimport \"crypto/tls\"\nvar c tls.Certificate",
		"terminal/other.go":     "package terminal\nimport (\n\t\"example.org/tls\"\n\t\"example.org/os\"\n)\nvar c tls.Config\nfunc g() { os.Exit(1) }",
		"tls/tlsconf/build.go":  "package tlsconf\nimport stdtls \"crypto/tls\"\nvar c = &stdtls.Config{}",
		"cmd/program/main.go":   "package main\nimport system \"os\"\nfunc main() { system.Exit(1) }",
		"internal/testvec/v.go": "package testvec\nimport system \"os\"\nvar e = system.Getenv(\"X\")",
	} {
		plant(t, root, name, doc+body+"\n")
	}
	tree, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, law := range All() {
		if law.Name != "process" && law.Name != "tls" {
			continue
		}
		for _, breach := range law.Check(tree) {
			t.Errorf("law %q: %s", law.Name, breach)
		}
	}
}

func demand(t *testing.T, law Law, files map[string]string, want string) {
	t.Helper()
	root := t.TempDir()
	if files["go.mod"] == "" {
		plant(t, root, "go.mod", "module x\n")
	}
	for name, body := range files {
		plant(t, root, name, body)
	}
	tree, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	got := law.Check(tree)
	if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
		t.Errorf("law %q missed the planted breach %q: %q", law.Name, want, got)
	}
}

func plant(t *testing.T, root, name, body string) {
	t.Helper()
	full := filepath.Join(root, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSmallBuild builds what firmware links for a 32-bit ARM terminal without cgo, and shows that a package which
// counts on 64 bits or on cgo would fail the same build.
func TestSmallBuild(t *testing.T) {
	t.Parallel()
	build := func(dir string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"build"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm", "GOARM=7", "GOFLAGS=-buildvcs=false")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	}
	var args []string
	for _, p := range Small {
		args = append(args, "./"+p)
	}
	if err := build(moduleRoot(t), args...); err != nil {
		t.Errorf("CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=7: %v", err)
	}
	for name, body := range map[string]string{
		"wide": "package p\n\nconst big = 1 << 40\n\nvar n int = big\n",
		"cgo":  "package p\n\nimport \"C\"\n",
	} {
		dir := t.TempDir()
		plant(t, dir, "go.mod", "module p\n\ngo 1.26\n")
		plant(t, dir, "p.go", body)
		if err := build(dir, "."); err == nil {
			t.Errorf("planted package %q builds for the small target", name)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	tree, err := Load(moduleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, s := range Sizes(tree) {
		t.Logf("%-28s files %2d  lines %5d  exported %3d  functions over 60 lines %d", s.Package, s.Files, s.Lines, s.Exported, s.LongFunc)
		total += s.Lines
	}
	if total == 0 {
		t.Error("nothing measured")
	}
}
