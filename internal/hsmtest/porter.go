package hsmtest

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed testdata/porter.c
var porter []byte

// Porter returns the next token behind a module that carries blocks from key to key by ECB, as wrapped keys, with the clear
// block inside. SoftHSM 2.6.1 has only the derivation, the software token of opencryptoki only this: it takes a token with
// both to have a PIN in no host memory. What is in front of SoftHSM is made of testdata/porter.c by the C compiler that the
// bridge needs as well. Its SoftHSM is a copy, which the other tests of the process do not share. As long as there is a file hang,
// beside the module, its derivations do not return.
func Porter(tb testing.TB) (t Token, hang string) {
	tb.Helper()
	t, dir := inFront(tb, New(tb), porter)
	return t, filepath.Join(dir, "hang")
}

// inFront returns a token behind a module that is made of a source, and the folder that the module is in. The source knows them
// as REAL and DIR.
func inFront(tb testing.TB, t Token, source []byte) (_ Token, dir string) {
	tb.Helper()
	dir = tb.TempDir()
	behind, err := os.ReadFile(t.Module)
	if err != nil {
		tb.Fatal(err)
	}
	copied := filepath.Join(dir, "softhsm.so")
	if err := os.WriteFile(copied, behind, 0o700); err != nil {
		tb.Fatal(err)
	}
	t.Module = compile(tb, dir, source, `-DREAL="`+copied+`"`, `-DDIR="`+dir+`"`)
	return t, dir
}

// Module compiles a source in C to a module, and returns its path.
func Module(tb testing.TB, source string) string {
	tb.Helper()
	return compile(tb, tb.TempDir(), []byte(source))
}

func compile(tb testing.TB, dir string, text []byte, flags ...string) string {
	tb.Helper()
	source, module := filepath.Join(dir, "module.c"), filepath.Join(dir, "module.so")
	if err := os.WriteFile(source, text, 0o600); err != nil {
		tb.Fatal(err)
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	args := append([]string{"-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", module, source}, flags...)
	cmd := exec.CommandContext(tb.Context(), compiler, append(args, "-ldl", "-lpthread")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return module
}
