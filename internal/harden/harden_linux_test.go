package harden

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestProcess hardens a process of its own, since there is no way back, and has it look at itself.
func TestProcess(t *testing.T) {
	t.Parallel()
	if os.Getenv("LATCHKEY_TEST_HARDEN") != "" {
		inside(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "LATCHKEY_TEST_HARDEN=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "hardened: dumpable 1, then 0") {
		t.Errorf("%v\n%s", err, out)
	}
}

func inside(t *testing.T) {
	before := dumpable(t)
	if err := Process(); err != nil {
		t.Fatal(err)
	}
	if err := Process(); err != nil {
		t.Errorf("again: %v", err)
	}
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &l); err != nil || l != (syscall.Rlimit{}) {
		t.Errorf("core limit %+v, %v", l, err)
	}
	t.Logf("hardened: dumpable %d, then %d", before, dumpable(t))
}

func dumpable(t *testing.T) int {
	t.Helper()
	v, _, errno := syscall.Syscall(syscall.SYS_PRCTL, getDumpable, 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(v)
}
