package des

import (
	"crypto/fips140"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestAvailable holds Available to what New does, here and in a process with Go's FIPS mode enforced.
func TestAvailable(t *testing.T) {
	t.Parallel()
	want := !fips140.Enforced()
	for _, size := range []int{8, 16, 24} {
		_, err := New([]byte("0123456789abcdefghijklmn")[:size])
		if (err == nil) != want || errors.Is(err, ErrForbidden) == want {
			t.Errorf("New with a key of %d bytes: %v, want success %t", size, err, want)
		}
	}
	if err := Available(); (err == nil) != want || errors.Is(err, ErrForbidden) == want {
		t.Errorf("Available: %v, want success %t", err, want)
	}
	if !want {
		t.Log("seen under enforcement")
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAvailable$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "seen under enforcement") {
		t.Errorf("%v\n%s", err, out)
	}
}
