// Package laws holds the house to its plan: which room may import which, what only one room may do, and what none may.
//
// The laws read the source of the whole module, every build tag included, and know nothing of its behaviour. Each law
// is a function over a [Tree]; the tests run all of them over this module, and each of them over a small planted tree
// that breaks it.
package laws

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the module path that package paths are relative to.
const Module = "github.com/latchkey-pos/latchkey"

// Package is the source of one package, without its tests.
type Package struct {
	Path    string // relative to the module, with slashes: "keys/keyblock"
	Name    string
	Files   []File
	Imports map[string][]string // import path -> files that import it
}

// IsMain reports whether the package is a program.
func (p *Package) IsMain() bool { return p.Name == "main" }

// File is one parsed source file.
type File struct {
	Name   string // relative to the module
	Syntax *ast.File
}

// Tree is the source of a module.
type Tree struct {
	Root     string
	Fset     *token.FileSet
	Packages map[string]*Package
}

// Load parses every non-test Go file below root, nested modules and testdata left out.
func Load(root string) (*Tree, error) {
	t := &Tree{Root: root, Fset: token.NewFileSet(), Packages: make(map[string]*Package)}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return t.enter(root, name, d.Name())
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		return t.add(name, filepath.ToSlash(rel))
	})
	if err != nil {
		return nil, err
	}
	if len(t.Packages) == 0 {
		return nil, fmt.Errorf("laws: no Go source below %s", root)
	}
	return t, nil
}

func (t *Tree) enter(root, dir, base string) error {
	if dir == root {
		return nil
	}
	if base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return filepath.SkipDir
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
		return filepath.SkipDir
	}
	return nil
}

func (t *Tree) add(name, rel string) error {
	f, err := parser.ParseFile(t.Fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(rel)
	p := t.Packages[dir]
	if p == nil {
		p = &Package{Path: dir, Name: f.Name.Name, Imports: make(map[string][]string)}
		t.Packages[dir] = p
	}
	p.Files = append(p.Files, File{Name: rel, Syntax: f})
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.Imports[imp] = append(p.Imports[imp], rel)
	}
	return nil
}

// Sorted returns the packages in the order of their paths.
func (t *Tree) Sorted() []*Package {
	var out []*Package
	for _, name := range slices.Sorted(maps.Keys(t.Packages)) {
		out = append(out, t.Packages[name])
	}
	return out
}

func (t *Tree) position(n ast.Node) string {
	pos := t.Fset.Position(n.Pos())
	rel, err := filepath.Rel(t.Root, pos.Filename)
	if err != nil {
		rel = pos.Filename
	}
	return fmt.Sprintf("%s:%d", filepath.ToSlash(rel), pos.Line)
}
