package prompt_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/prompt"
)

const limit = 64 << 10 // bytes that a secret may have

// TestRead reads each content as a file and as standard input.
func TestRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", limit)
	for _, tc := range []struct {
		name, content, want string // want is "" for a refusal
		line                string // what standard input gives, if that differs
	}{
		{name: "plain", content: "secret", want: "secret"},
		{name: "line end", content: "secret\n", want: "secret"},
		{name: "CRLF", content: "secret\r\n", want: "secret"},
		{name: "one line end is cut", content: "secret\n\n", want: "secret\n", line: "secret"},
		{name: "one CRLF is cut", content: "secret\r\n\r\n", want: "secret\r\n", line: "secret"},
		{name: "CR alone stays", content: "secret\r", want: "secret\r"},
		{name: "spaces stay", content: " a b \n", want: " a b "},
		{name: "lines", content: "one\ntwo\n", want: "one\ntwo", line: "one"},
		{name: "empty", content: ""},
		{name: "line end only", content: "\n"},
		{name: "CRLF only", content: "\r\n"},
		{name: "longest", content: long, want: long},
		{name: "too long", content: long + "x"},
		{name: "much too long", content: long + long},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			line := tc.line
			if line == "" {
				line = tc.want
			}
			read(t, prompt.Input{Stdin: strings.NewReader("not this"), Stderr: io.Discard}, path, tc.want)
			read(t, prompt.Input{Stdin: strings.NewReader(tc.content), Stderr: io.Discard}, "-", line)
			read(t, prompt.Input{Stdin: iotest.OneByteReader(strings.NewReader(tc.content)), Stderr: io.Discard}, "-", line)
		})
	}
}

func read(t *testing.T, in prompt.Input, path, want string) {
	t.Helper()
	got, err := in.Read(path, "--pin-file", "the PIN")
	defer got.Wipe()
	if want == "" {
		if exit.CodeOf(err) != exit.Usage || !strings.Contains(err.Error(), "the PIN") {
			t.Errorf("%s: got %d bytes and %v, want a refusal that names the PIN", path, got.Len(), err)
		}
		return
	}
	if err != nil || string(got.Expose()) != want {
		t.Errorf("%s: got %q and %v, want %q", path, got.Expose(), err, want)
	}
}

func TestReadFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	file, err := os.Open(os.DevNull) // a file and no terminal
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, tc := range []struct {
		name, path string
		stdin      io.Reader
		code       exit.Code
		hint       string // is part of it
		is         error
	}{
		{"no such file", filepath.Join(t.TempDir(), "missing"), strings.NewReader("x"), exit.NotFound, "--pin-file", os.ErrNotExist},
		{"a folder", t.TempDir(), strings.NewReader("x"), exit.Failure, "", nil},
		{"standard input breaks", "-", iotest.ErrReader(broken), exit.Failure, "", broken},
		{"standard input breaks in the line", "-", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), exit.Failure, "", broken},
		{"nobody to ask", "", strings.NewReader("x\n"), exit.Usage, "--pin-file -", nil},
		{"a file that is no terminal", "", file, exit.Usage, "--pin-file -", nil},
		{"nothing at all", "", nil, exit.Usage, "--pin-file -", nil},
	} {
		var stderr strings.Builder
		got, err := prompt.Input{Stdin: tc.stdin, Stderr: &stderr}.Read(tc.path, "--pin-file", "the PIN")
		if err == nil || exit.CodeOf(err) != tc.code || got.Len() != 0 {
			t.Errorf("%s: got %d bytes and %v with code %d, want code %d", tc.name, got.Len(), err, exit.CodeOf(err), tc.code)
			continue
		}
		if !strings.Contains(err.Error(), "the PIN") || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: got %q, want the PIN named and %v", tc.name, err, tc.is)
		}
		var e *exit.Error
		if tc.hint != "" && (!errors.As(err, &e) || !strings.Contains(e.Hint, tc.hint)) {
			t.Errorf("%s: %v does not say to use %q", tc.name, err, tc.hint)
		}
		if stderr.Len() != 0 {
			t.Errorf("%s: asked %q", tc.name, stderr.String())
		}
	}
}

// TestReadNew reads what nobody types once. That a person types it twice is tested where one does: in the scripts of
// cmd/latchkey, on a pseudo-terminal.
func TestReadNew(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := prompt.Input{Stdin: strings.NewReader("secret\nanother\n"), Stderr: io.Discard}
	for _, from := range []string{path, "-"} {
		got, err := in.ReadNew(from, "--pin-file", "the PIN")
		if err != nil || string(got.Expose()) != "secret" {
			t.Errorf("%s: got %q, %v", from, got.Expose(), err)
		}
	}
	if in.Person() {
		t.Error("a reader is a person")
	}
	got, err := in.ReadNew("", "--pin-file", "the PIN")
	if exit.CodeOf(err) != exit.Usage || got.Len() != 0 {
		t.Errorf("nobody to ask: got %d bytes and %v", got.Len(), err)
	}
}
