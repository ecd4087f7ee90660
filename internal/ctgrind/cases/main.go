// Command cases runs what computes with secrets, once each, for Valgrind to watch. The test of package ctgrind builds it,
// runs it and reads what Valgrind says. Without Valgrind it still checks that each case gives the right answer.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/ctgrind"
)

// oneCase is one use of secrets.
type oneCase struct {
	name string
	run  func(*marks) error
}

var errWrong = errors.New("wrong answer")

// marks counts the bytes that a case has marked as secret.
type marks struct{ bytes int }

// secret returns a marked copy of b.
func (m *marks) secret(b []byte) []byte {
	c := bytes.Clone(b)
	ctgrind.Secret(c)
	m.bytes += len(c)
	return c
}

// public takes the mark from what a case gives out, and returns it.
func public(b []byte) []byte {
	ctgrind.Public(b)
	return b
}

// want compares what was given out.
func want(got, expected []byte) error {
	if !bytes.Equal(public(got), expected) {
		return fmt.Errorf("%w: %x, not %x", errWrong, got, expected)
	}
	return nil
}

// main runs the cases named, or all.
func main() {
	for _, c := range slices.Concat(cipherCases, macCases, keyCases, blockCases, pinCases, dukptCases, treeCases, workingCases, plantedCases) {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], c.name) {
			continue
		}
		m := new(marks)
		if err := c.run(m); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", c.name, err)
			os.Exit(1)
		}
		fmt.Printf("%s\t%d\t%t\n", c.name, m.bytes, ctgrind.Running())
	}
}
