package laws

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Law is one rule of the house. Check returns one line for each breach.
type Law struct {
	Name  string
	Text  string
	Check func(*Tree) []string
}

// All returns every law that source alone can decide.
func All() []Law {
	return []Law{
		{"table", "a package imports only what its row of the table allows", table},
		{"listed", "every package has a row and every row a package", listed},
		{"confined", "cgo, drivers and heavy libraries stay in their one room", confined},
		{"assembly", "assembly is written in internal/ctgrind only, which no program imports", assembly},
		{"pure", "the core rooms import no third-party module", pure},
		{"process", "os.Exit, log.Fatal and the environment belong to programs", process},
		{"documented", "every package and every exported name has a comment", documented},
		{"tls", "only tls/tlsconf builds a tls.Config, and nothing skips verification", tlsConfig},
		{"plain-secrets", "no struct field holds a key, a PIN or a PAN in plain bytes", plainSecrets},
		{"names", "no package is called util, common, helpers, misc, base, types or models", names},
		{"dependencies", "every direct dependency has its line in docs/decisions", dependencies},
	}
}

func exempt(p *Package) bool { return slices.Contains(TestSupport, p.Path) }

func internalImports(p *Package) []string {
	var out []string
	for imp := range p.Imports {
		if rel, ok := strings.CutPrefix(imp, Module+"/"); ok {
			out = append(out, rel)
		}
	}
	slices.Sort(out)
	return out
}

func table(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		if exempt(p) {
			continue
		}
		for _, imp := range internalImports(p) {
			if !slices.Contains(Imports[p.Path], imp) {
				breaches = append(breaches, fmt.Sprintf("%s imports %s", p.Path, imp))
			}
		}
	}
	return breaches
}

func listed(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		_, row := Imports[p.Path]
		if !row && !exempt(p) {
			breaches = append(breaches, fmt.Sprintf("%s has no row in the table", p.Path))
		}
	}
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(Imports)), TestSupport, Pure, Small) {
		if t.Packages[name] == nil && !onlyTests(t.Root, name) {
			breaches = append(breaches, fmt.Sprintf("%s is listed and does not exist", name))
		}
	}
	return breaches
}

// onlyTests reports whether a folder has Go files that are all tests.
func onlyTests(root, name string) bool {
	files, err := filepath.Glob(filepath.Join(root, name, "*_test.go"))
	return err == nil && len(files) > 0
}

func confined(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		for _, imp := range slices.Sorted(maps.Keys(p.Imports)) {
			for _, prefix := range slices.Sorted(maps.Keys(Confined)) {
				if imp != prefix && !strings.HasPrefix(imp, prefix+"/") {
					continue
				}
				inside := slices.ContainsFunc(Confined[prefix], func(room string) bool {
					return p.Path == room || strings.HasPrefix(p.Path, room+"/")
				})
				if !inside {
					breaches = append(breaches, fmt.Sprintf("%s imports %s, which stays in %v", p.Path, imp, Confined[prefix]))
				}
			}
		}
	}
	return breaches
}

// assembly looks at files, not packages: Load reads Go alone.
func assembly(t *Tree) (breaches []string) {
	err := filepath.WalkDir(t.Root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return t.enter(t.Root, name, d.Name())
		}
		rel, err := filepath.Rel(t.Root, name)
		if err != nil {
			return err
		}
		if strings.EqualFold(filepath.Ext(name), ".s") && path.Dir(filepath.ToSlash(rel)) != "internal/ctgrind" {
			breaches = append(breaches, fmt.Sprintf("%s is assembly", filepath.ToSlash(rel)))
		}
		return nil
	})
	if err != nil {
		return []string{err.Error()}
	}
	return breaches
}

func pure(t *Tree) (breaches []string) {
	for _, name := range Pure {
		p := t.Packages[name]
		if p == nil {
			continue
		}
		for _, imp := range slices.Sorted(maps.Keys(p.Imports)) {
			first, _, _ := strings.Cut(imp, "/")
			if strings.Contains(first, ".") && !strings.HasPrefix(imp, Module+"/") {
				breaches = append(breaches, fmt.Sprintf("%s imports %s", name, imp))
			}
		}
	}
	return breaches
}

var processCalls = map[string]bool{
	"os.Exit": true, "log.Fatal": true, "log.Fatalf": true, "log.Fatalln": true,
	"os.Getenv": true, "os.LookupEnv": true, "os.Environ": true, "os.ExpandEnv": true,
	"syscall.Exit": true, "syscall.Getenv": true, "syscall.Environ": true,
}

func process(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		if p.IsMain() {
			continue
		}
		breaches = append(breaches, unnamed(t, p, "log", "os", "syscall")...)
		eachSelector(p, func(name string, n ast.Node) {
			reads := strings.HasPrefix(name, "os.") && name != "os.Exit" && slices.Contains(ReadsEnvironment, p.Path)
			if processCalls[name] && !reads {
				breaches = append(breaches, fmt.Sprintf("%s: %s outside a program", t.position(n), name))
			}
		})
	}
	return breaches
}

// eachSelector visits what a package selects from its imports, by import path and name, whatever a file calls the import.
func eachSelector(p *Package, visit func(name string, n ast.Node)) {
	for _, f := range p.Files {
		imports := importNames(f.Syntax)
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			if name := selected(n, imports); name != "" {
				visit(name, n)
			}
			return true
		})
	}
}

// importNames returns the path of each import of a file by the name that it has there. Without a name it is taken for the
// last element of the path, which is right for the standard library.
func importNames(f *ast.File) map[string]string {
	out := make(map[string]string)
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // Load has read it
		}
		name := path.Base(imp)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		out[name] = imp
	}
	return out
}

// selected returns what a node selects from an import, such as "crypto/tls.Config", or "".
func selected(n ast.Node, imports map[string]string) string {
	sel, ok := n.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	if x, ok := sel.X.(*ast.Ident); ok && imports[x.Name] != "" {
		return imports[x.Name] + "." + sel.Sel.Name
	}
	return ""
}

// unnamed reports imports into the scope of a file: what comes from them cannot be seen there.
func unnamed(t *Tree, p *Package, paths ...string) (breaches []string) {
	for _, f := range p.Files {
		for _, spec := range f.Syntax.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err == nil && spec.Name != nil && spec.Name.Name == "." && slices.Contains(paths, imp) {
				breaches = append(breaches, fmt.Sprintf("%s: %s imported without a name", t.position(spec), imp))
			}
		}
	}
	return breaches
}

func documented(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		docs := 0
		for _, f := range p.Files {
			if f.Syntax.Doc != nil {
				docs++
			}
			if p.IsMain() {
				continue
			}
			for _, d := range f.Syntax.Decls {
				breaches = append(breaches, undocumented(t, d)...)
			}
		}
		if docs == 0 {
			breaches = append(breaches, fmt.Sprintf("%s has no package comment", p.Path))
		}
	}
	return breaches
}

func undocumented(t *Tree, d ast.Decl) (breaches []string) {
	report := func(n ast.Node, name string) {
		breaches = append(breaches, fmt.Sprintf("%s: %s has no comment", t.position(n), name))
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			report(d, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
					report(s, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						report(s, name.Name)
					}
				}
			}
		}
	}
	return breaches
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

func tlsConfig(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		if p.Path != "tls/tlsconf" {
			breaches = append(breaches, unnamed(t, p, "crypto/tls")...)
		}
		for _, f := range p.Files {
			if p.Path != "tls/tlsconf" {
				for _, n := range builtConfigs(f.Syntax) {
					breaches = append(breaches, fmt.Sprintf("%s: tls.Config built outside tls/tlsconf", t.position(n)))
				}
			}
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && (id.Name == "InsecureSkipVerify" || id.Name == "VerifyPeerCertificate") {
					breaches = append(breaches, fmt.Sprintf("%s: %s", t.position(n), id.Name))
				}
				return true
			})
		}
	}
	return breaches
}

// builtConfigs finds every mention of the type tls.Config but the one behind a star: what has the type itself has a value
// of it. A list of pointers may have its values written without the type.
func builtConfigs(f *ast.File) (found []ast.Node) {
	imports := importNames(f)
	isConfig := func(n ast.Node) bool { return selected(n, imports) == "crypto/tls.Config" }
	isPointer := func(n ast.Node) bool {
		star, ok := n.(*ast.StarExpr)
		return ok && isConfig(star.X)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.CompositeLit); ok && isPointer(elementOf(lit.Type)) && slices.ContainsFunc(lit.Elts, untyped) {
			found = append(found, n)
		}
		if isConfig(n) {
			found = append(found, n)
		}
		return !isPointer(n)
	})
	return found
}

// elementOf returns the type of the elements of an array, slice or map type, else nil.
func elementOf(e ast.Expr) ast.Expr {
	switch e := e.(type) {
	case *ast.ArrayType:
		return e.Elt
	case *ast.MapType:
		return e.Value
	}
	return nil
}

// untyped reports whether an element of a composite literal is one itself and leaves its type out.
func untyped(e ast.Expr) bool {
	if kv, ok := e.(*ast.KeyValueExpr); ok {
		e = kv.Value
	}
	lit, ok := e.(*ast.CompositeLit)
	return ok && lit.Type == nil
}

var secretField = regexp.MustCompile(`(?i)^(key|keybytes|material|secret|pin|pan|digits|track|track1|track2|passphrase|kbpk|lmk|bdk|ik|ipek|initialkey|basekey|registers?|clearpin|privatekey)$`)

// wireTypes lists where released card data is the answer itself, on its way out.
var wireTypes = []string{"decrypt/api"}

func plainSecrets(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		if slices.Contains(wireTypes, p.Path) || exempt(p) {
			continue
		}
		for _, f := range p.Files {
			ast.Inspect(f.Syntax, func(n ast.Node) bool {
				st, ok := n.(*ast.StructType)
				if !ok {
					return true
				}
				for _, field := range st.Fields.List {
					for _, name := range field.Names {
						if secretField.MatchString(name.Name) && plainBytes(field.Type) {
							breaches = append(breaches, fmt.Sprintf("%s: field %s is plain bytes, not secret.Bytes", t.position(field), name.Name))
						}
					}
				}
				return true
			})
		}
	}
	return breaches
}

func plainBytes(e ast.Expr) bool {
	arr, ok := e.(*ast.ArrayType)
	if !ok {
		return false
	}
	if inner, ok := arr.Elt.(*ast.ArrayType); ok {
		return plainBytes(inner)
	}
	id, ok := arr.Elt.(*ast.Ident)
	return ok && (id.Name == "byte" || id.Name == "uint8" || id.Name == "uint64" || id.Name == "uint32")
}

var emptyNames = []string{"util", "utils", "common", "helpers", "helper", "misc", "base", "types", "models", "shared", "lib"}

func names(t *Tree) (breaches []string) {
	for _, p := range t.Sorted() {
		if slices.Contains(emptyNames, p.Name) {
			breaches = append(breaches, fmt.Sprintf("%s is a package called %s", p.Path, p.Name))
		}
	}
	return breaches
}

func dependencies(t *Tree) (breaches []string) {
	mods, err := directModules(filepath.Join(t.Root, "go.mod"))
	if err != nil {
		return []string{err.Error()}
	}
	var text strings.Builder
	files, err := filepath.Glob(filepath.Join(t.Root, "docs", "decisions", "*.md"))
	if err != nil {
		return []string{err.Error()}
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return []string{err.Error()}
		}
		text.Write(b)
	}
	for _, m := range mods {
		if !strings.Contains(text.String(), "`"+m+"`") {
			breaches = append(breaches, fmt.Sprintf("%s is required and docs/decisions does not say why", m))
		}
	}
	return breaches
}

func directModules(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var mods []string
	block := false
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		switch {
		case len(fields) == 2 && fields[0] == "require" && fields[1] == "(":
			block = true
		case len(fields) == 1 && fields[0] == ")":
			block = false
		case strings.Contains(s.Text(), "// indirect"):
		case block && len(fields) >= 2:
			mods = append(mods, fields[0])
		case len(fields) >= 3 && fields[0] == "require":
			mods = append(mods, fields[1])
		}
	}
	return mods, nil
}

// Size is what a package weighs; reported, never enforced.
type Size struct {
	Package                          string
	Files, Lines, Exported, LongFunc int
}

// Sizes counts files, lines, exported names and functions over 60 lines of each package.
func Sizes(t *Tree) (out []Size) {
	for _, p := range t.Sorted() {
		s := Size{Package: p.Path, Files: len(p.Files)}
		for _, f := range p.Files {
			s.Lines += t.Fset.File(f.Syntax.Pos()).LineCount()
			for _, d := range f.Syntax.Decls {
				s.Exported += exportedNames(d)
				if fn, ok := d.(*ast.FuncDecl); ok && lines(t.Fset, fn) > 60 {
					s.LongFunc++
				}
			}
		}
		out = append(out, s)
	}
	return out
}

func exportedNames(d ast.Decl) (n int) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.IsExported() {
			n++
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() {
				n++
			}
		}
	}
	return n
}

func lines(fset *token.FileSet, n ast.Node) int {
	return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line
}
