package laws

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// mostDUKPT is how much larger dukpt, keys and pin may make a terminal's program than the ciphers of the standard library
// alone. The goal is 64 KiB; docs/testing.md says what stands in the way.
const mostDUKPT = 384 << 10

// TestSizeOnARM builds two programs as a terminal would run them, with and without DUKPT, and a third that is too large.
func TestSizeOnARM(t *testing.T) {
	t.Parallel()
	bareFile, bareBytes := sizeOnARM(t, "bare")
	dukptFile, dukptBytes := sizeOnARM(t, "dukpt")
	heavyFile, _ := sizeOnARM(t, "heavy")
	t.Logf("ARMv7, stripped: %d bytes bare, %d with DUKPT: %d KiB more; what is loaded, unrounded: %d more",
		bareFile, dukptFile, (dukptFile-bareFile)>>10, dukptBytes-bareBytes)
	if dukptFile-bareFile > mostDUKPT {
		t.Errorf("DUKPT makes the program %d KiB larger, %d at most", (dukptFile-bareFile)>>10, mostDUKPT>>10)
	}
	if heavyFile-bareFile <= mostDUKPT {
		t.Errorf("a program with crypto/tls in it is %d bytes and would pass", heavyFile)
	}
}

// sizeOnARM returns the length of a program's file, whose parts the linker rounds up to 64 KiB, and of what it has in them.
func sizeOnARM(t *testing.T, name string) (file, loaded int64) {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./internal/laws/testdata/size/"+name)
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm", "GOARM=7", "GOFLAGS=-buildvcs=false")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Type != elf.SHT_NOBITS {
			loaded += int64(s.Size)
		}
	}
	return info.Size(), loaded
}
