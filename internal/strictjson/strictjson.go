// Package strictjson reads one JSON object with nothing left to interpretation: unknown, repeated and wrong-case members,
// null, depth and trailing bytes are refused.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// ErrTooLarge says that a body is longer than the limit.
var ErrTooLarge = errors.New("too large")

// Error says what makes a body another thing than the one JSON object that was expected. Its text quotes nothing of the
// body, and is public.
type Error struct{ Reason string }

// Error returns the reason.
func (e *Error) Error() string { return e.Reason }

func malformed(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// maxDepth is more than any of our types nests.
const maxDepth = 8

// Read reads one JSON object of at most limit bytes into v. Empty strings are refused unless empty is set: in a request
// they are members that the caller meant to fill in. Errors wrap ErrTooLarge or are an *Error; values are never part of
// them, for they may be card data. What an absent member means is for the caller to check.
func Read(body []byte, limit int, empty bool, v any) error {
	if len(body) > limit {
		return fmt.Errorf("%w: body of %d bytes, want at most %d", ErrTooLarge, len(body), limit)
	}
	if err := scan(body, empty); err != nil {
		return err
	}
	strict := json.RejectUnknownMembers(!planted.On(planted.ParseJSON))
	if err := json.Unmarshal(body, v, strict); err != nil {
		return malformed("%s", where(err))
	}
	return nil
}

// scan refuses what the decoder would take in silence: null anywhere, empty strings unless they are allowed, and depth
// beyond ours. The body is an object and nothing follows it.
func scan(body []byte, empty bool) error {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if d.PeekKind() != '{' {
		return malformed("not a JSON object")
	}
	for {
		tok, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return malformed("%s", where(err))
		}
		switch {
		case tok.Kind() == 'n':
			return malformed("null after byte %d", d.InputOffset())
		case !empty && tok.Kind() == '"' && len(tok.String()) == 0:
			return malformed("empty string after byte %d", d.InputOffset())
		case d.StackDepth() > maxDepth:
			return malformed("nested deeper than %d", maxDepth)
		}
	}
}

// where says where reading failed and not on what: the texts of the JSON package may quote the input.
func where(err error) string {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fmt.Sprintf("repeated member near byte %d", e.ByteOffset)
		}
		return fmt.Sprintf("not JSON near byte %d", e.ByteOffset)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if errors.Is(err, json.ErrUnknownName) {
			return fmt.Sprintf("unknown member near byte %d", e.ByteOffset)
		}
		return fmt.Sprintf("wrong type or value near byte %d", e.ByteOffset)
	}
	return "not readable"
}
