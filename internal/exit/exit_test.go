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
