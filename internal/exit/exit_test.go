package exit_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/exit"
)

func TestCodeOf(t *testing.T) {
	t.Parallel()
	inner := errors.New("inner")
	for _, c := range []struct {
		name string
		err  error
		want exit.Code
	}{
		{"nil", nil, exit.OK},
		{"plain", inner, exit.Failure},
		{"wrapped", fmt.Errorf("outer: %w", exit.With(exit.Refused, inner, "")), exit.Refused},
		{"nil stays nil", exit.With(exit.Usage, nil, "x"), exit.OK},
	} {
		if got := exit.CodeOf(c.err); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	if !errors.Is(exit.With(exit.Usage, inner, ""), inner) {
		t.Error("the error underneath is lost")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	cases := []exit.Case{exit.When(first, exit.NotFound, "look"), exit.When(second, exit.Refused, "ask"), exit.When(first, exit.Usage, "never")}
	for _, c := range []struct {
		name  string
		err   error
		code  exit.Code
		hint  string
		known bool
	}{
		{"the first case", first, exit.NotFound, "look", true},
		{"wrapped", fmt.Errorf("outer: %w", second), exit.Refused, "ask", true},
		{"both", errors.Join(second, first), exit.NotFound, "look", true},
		{"none", errors.New("third"), exit.Failure, "", false},
		{"one with a code of its own", exit.With(exit.Verification, errors.New("third"), "see"), exit.Verification, "see", false},
		{"no error", nil, exit.OK, "", false},
	} {
		got, known := exit.Explain(c.err, cases...)
		hint := ""
		if e, ok := errors.AsType[*exit.Error](got); ok {
			hint = e.Hint
		}
		if known != c.known || exit.CodeOf(got) != c.code || hint != c.hint || !errors.Is(got, c.err) {
			t.Errorf("%s: %v, code %d, hint %q, %v", c.name, got, exit.CodeOf(got), hint, known)
		}
	}
}

func ExampleExplain() {
	missing := errors.New("no such folder")
	err, known := exit.Explain(fmt.Errorf("pos: %w", missing), exit.When(missing, exit.NotFound, "make one with: latchkey init"))
	fmt.Println(known, exit.CodeOf(err))
	// Output: true 3
}

func ExampleReport() {
	err := exit.With(exit.NotFound, errors.New("no folder at ./pos"), "make one with: latchkey init ./pos")
	exit.Report(os.Stdout, "latchkey", err)
	// Output:
	// latchkey: no folder at ./pos
	//   next: make one with: latchkey init ./pos
}

// TestVersion wants a version whatever was recorded, on one line.
func TestVersion(t *testing.T) {
	t.Parallel()
	if v := exit.Version(); v == "" || strings.ContainsAny(v, " \n") {
		t.Errorf("version %q", v)
	}
}
