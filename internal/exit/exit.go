// Package exit says how the programs of this repository end: one set of exit codes, and errors that tell the next step.
package exit

import (
	"errors"
	"fmt"
	"io"
)

// Code is the exit status of a program.
type Code int

// The exit codes, the same for every program; scripts may rely on them.
const (
	OK           Code = 0 // done
	Failure      Code = 1 // anything not named below
	Usage        Code = 2 // the command line is wrong
	NotFound     Code = 3 // what was named does not exist
	Refused      Code = 4 // a rule forbids it
	Unreachable  Code = 5 // the other side did not answer
	Verification Code = 6 // a signature, MAC or check value is wrong
)

// Error is an error with the exit code that it deserves and, where there is one, the next step for the user.
type Error struct {
	Code Code
	Hint string
	Err  error
}

// Error returns the text of the error without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error underneath.
func (e *Error) Unwrap() error { return e.Err }

// With gives err a code and a hint. A nil err stays nil.
func With(code Code, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Hint: hint, Err: err}
}

// Errorf makes an error with a code and without a hint.
func Errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// Case is an error that a program knows, with the code that it deserves and the next step for the user.
type Case struct {
	err  error
	code Code
	hint string
}

// When makes a case.
func When(err error, code Code, hint string) Case { return Case{err, code, hint} }

// Explain gives err the code and the hint of the first case that it is or wraps, and reports whether there is one: err is
// returned as it is otherwise.
func Explain(err error, cases ...Case) (explained error, known bool) {
	for _, c := range cases {
		if errors.Is(err, c.err) {
			return With(c.code, err, c.hint), true
		}
	}
	return err, false
}

// CodeOf returns the exit code of err: 0 for nil, 1 for an error that has none of its own.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Failure
}

// Report writes err for a person: what went wrong, then what to do next.
func Report(w io.Writer, program string, err error) {
	if err == nil {
		return
	}
	fmt.Fprintf(w, "%s: %v\n", program, err)
	if e, ok := errors.AsType[*Error](err); ok && e.Hint != "" {
		fmt.Fprintf(w, "  next: %s\n", e.Hint)
	}
}
