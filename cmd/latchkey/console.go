package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"text/tabwriter"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/prompt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// console is where a command reads and writes: data on stdout, messages on stderr, secrets from files or prompts.
type console struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	server         string // where the registration authority is, if the environment says it
	format         string // "table" or "json"; "qr" for tickets
}

func (c *console) input() prompt.Input { return prompt.Input{Stdin: c.stdin, Stderr: c.stderr} }

func (c *console) secret(path, flag, what string) (secret.Bytes, error) {
	return c.input().Read(path, flag, what)
}

// passphrase reads one from a file that its owner alone can read, from standard input, or asks for it.
func (c *console) passphrase(path, flag, what string) (secret.Bytes, error) {
	if path == "" || path == "-" {
		return c.secret(path, flag, what)
	}
	return passphraseIn(path)
}

// newPassphrase is passphrase for one that is chosen now: who types it types it twice, and it is held to its length.
func (c *console) newPassphrase(path, flag, what string) (secret.Bytes, error) {
	if path != "" && path != "-" {
		return passphraseIn(path)
	}
	p, err := c.input().ReadNew(path, flag, what)
	if err != nil {
		return secret.Bytes{}, err
	}
	if n := p.Len(); n < seal.MinPassphrase || n > seal.MaxPassphrase {
		p.Wipe()
		return secret.Bytes{}, exit.With(exit.Usage, fmt.Errorf("%s has %d bytes", what, n),
			fmt.Sprintf("choose one of %d bytes or more", seal.MinPassphrase))
	}
	return p, nil
}

func passphraseIn(path string) (secret.Bytes, error) {
	p, err := seal.ReadPassphrase(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, exit.With(exit.NotFound, err, "write the passphrase to it: one line, mode 0600")
	}
	return p, exit.With(exit.Usage, err, "the passphrase stands in a file of mode 0600: one line of 12 bytes or more")
}

// note tells a person something that is not data.
func (c *console) note(format string, args ...any) {
	fmt.Fprintf(c.stderr, format+"\n", args...)
}

// field is one row of a two-column answer.
type field struct {
	name  string
	value any
}

// show writes one thing: a two-column table for people, value as JSON for programs.
func (c *console) show(value any, fields ...field) error {
	if c.format == "json" {
		return c.json(value)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	for _, f := range fields {
		fmt.Fprintf(w, "%s\t%v\n", f.name, f.value)
	}
	return w.Flush()
}

// list writes many things: a table with a header for people, value as JSON for programs.
func (c *console) list(value any, header []string, rows [][]string) error {
	if c.format == "json" {
		return c.json(value)
	}
	w := tabwriter.NewWriter(c.stdout, 0, 4, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func (c *console) json(value any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	_, err := b.WriteTo(c.stdout)
	return err
}

// members is a value of the registration authority's interface, whose members are spelled as those of all else that this
// program writes: with a small letter in front.
type members struct{ value any }

// memberName finds the name of a member in JSON that has no white space: nothing else stands before a colon.
var memberName = regexp.MustCompile(`"[A-Z][A-Za-z0-9]*":`)

// MarshalJSON writes the value.
func (m members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m.value); err != nil {
		return nil, err
	}
	return memberName.ReplaceAllFunc(b.Bytes(), func(name []byte) []byte {
		name = bytes.Clone(name)
		name[1] += 'a' - 'A'
		return name
	}), nil
}

func checkFormat(format string, qr bool) error {
	if format == "qr" && !qr {
		return exit.With(exit.Usage, errors.New("output format qr is for one-time codes"), "as in: latchkey terminal code T-0001 -o qr")
	}
	if format != "table" && format != "json" && format != "qr" {
		return exit.With(exit.Usage, fmt.Errorf("output format %q is neither table nor json", format), "as in: -o json")
	}
	return nil
}

// readHex reads a secret that is written in hexadecimal digits.
func readHex(c *console, file, flag, what string) (secret.Bytes, error) {
	text, err := c.secret(file, flag, what)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer text.Wipe()
	raw := secret.New(hex.DecodedLen(text.Len()))
	if n, err := hex.Decode(raw.Expose(), text.Expose()); err != nil || n == 0 {
		raw.Wipe()
		return secret.Bytes{}, exit.Errorf(exit.Usage, "the %s is not an even number of hexadecimal digits", what)
	}
	return raw, nil
}
