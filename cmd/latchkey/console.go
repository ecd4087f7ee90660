package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/prompt"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// console is where a command reads and writes: data on stdout, messages on stderr, secrets from files or prompts.
type console struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	format         string // "table" or "json"
}

func (c *console) secret(path, flag, what string) (secret.Bytes, error) {
	return prompt.Input{Stdin: c.stdin, Stderr: c.stderr}.Read(path, flag, what)
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

func checkFormat(format string) error {
	if format != "table" && format != "json" {
		return exit.Errorf(exit.Usage, "output format %q is neither table nor json", format)
	}
	return nil
}
