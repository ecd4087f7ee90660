// Package prompt reads secrets from where they may come: a file, standard input, or a person typing without echo.
package prompt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// maxSecret bounds what is read: no key, PIN or passphrase comes near it.
const maxSecret = 64 << 10

// Input is where secrets come from.
type Input struct {
	Stdin  io.Reader // "-" reads one line of it; a person types on it when it is a terminal
	Stderr io.Writer // the question goes here, so that standard output stays clean
}

// Read returns the secret called what: the content of the file at path, one line of standard input when path is "-", or
// what a person types when path is empty. One line end at the end of a file or line is cut. The flag is named in errors.
func (in Input) Read(path, flag, what string) (secret.Bytes, error) {
	switch path {
	case "":
		return in.ask(flag, what)
	case "-":
		return in.line(what)
	}
	f, err := os.Open(path)
	if err != nil {
		return secret.Bytes{}, exit.With(exit.NotFound, fmt.Errorf("%s: %w", what, err), "name a readable file with "+flag)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%s: %w", what, err)
	}
	defer secret.Wipe(b)
	return keep(b, what)
}

// ReadNew is Read for a secret that is chosen now: a person types it twice.
func (in Input) ReadNew(path, flag, what string) (secret.Bytes, error) {
	first, err := in.Read(path, flag, what)
	if err != nil || path != "" {
		return first, err
	}
	second, err := in.ask(flag, what+", again")
	defer second.Wipe()
	if err == nil && !first.Equal(second) {
		err = exit.With(exit.Usage, fmt.Errorf("%s: the second is not the same as the first", what), "run the command again")
	}
	if err != nil {
		first.Wipe()
		return secret.Bytes{}, err
	}
	return first, nil
}

// Person reports whether there is somebody to ask: standard input is a terminal.
func (in Input) Person() bool {
	_, ok := in.keyboard()
	return ok
}

func (in Input) keyboard() (*os.File, bool) {
	f, ok := in.Stdin.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

func (in Input) line(what string) (secret.Bytes, error) {
	r := bufio.NewReaderSize(io.LimitReader(in.Stdin, maxSecret+1), 4096)
	b, err := r.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.Bytes{}, fmt.Errorf("%s: %w", what, err)
	}
	defer secret.Wipe(b)
	return keep(b, what)
}

func (in Input) ask(flag, what string) (secret.Bytes, error) {
	f, ok := in.keyboard()
	if !ok {
		return secret.Bytes{}, exit.With(exit.Usage, fmt.Errorf("%s is missing, and there is no terminal to ask on", what),
			"give it with "+flag+" FILE, or "+flag+" - for standard input")
	}
	fmt.Fprintf(in.Stderr, "%s: ", what)
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(in.Stderr)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%s: %w", what, err)
	}
	defer secret.Wipe(b)
	return keep(b, what)
}

func keep(b []byte, what string) (secret.Bytes, error) {
	if len(b) > maxSecret {
		return secret.Bytes{}, exit.Errorf(exit.Usage, "%s is over %d bytes", what, maxSecret)
	}
	n := len(b)
	if n > 0 && b[n-1] == '\n' {
		n--
		if n > 0 && b[n-1] == '\r' {
			n--
		}
	}
	if n == 0 {
		return secret.Bytes{}, exit.Errorf(exit.Usage, "%s is empty", what)
	}
	return secret.From(b[:n]), nil
}
