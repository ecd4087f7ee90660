package residue_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// build is a way to compile the process that is scanned.
type build struct {
	name       string
	experiment string
	tags       string
	fault      planted.Name
	most       int // traces that may be left
	least      int // traces that must be
}

var builds = []build{
	{name: "plain", most: plainMost},
	{name: "plain, wipes skipped", tags: "planted", fault: planted.SkipWipe, least: 100, most: math.MaxInt},
	{name: "runtimesecret", experiment: "runtimesecret", most: 0},
	{name: "runtimesecret, wipes skipped", experiment: "runtimesecret", tags: "planted", fault: planted.SkipWipe, least: 20, most: math.MaxInt},
}

// plainMost bounds what may be left without runtime/secret: copies on stacks and in spilled registers, which no program can
// wipe. It is some tens by chance; one kind of cipher that nobody wipes makes it some thousands.
const plainMost = 30

// TestResidue starts a process that derives, uses and wipes 20,000 keys, takes keys in and gives them out as a host does, and
// looks through all memory it can write to for what it should have forgotten: any half of any key, in any order of its bytes,
// at any address. The control key, which the process keeps, must be found each time.
func TestResidue(t *testing.T) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("reads /proc/PID/mem; runtime/secret and the forms looked for are those of linux/amd64")
	}
	if testing.Short() {
		t.Skip("builds the standard library with another experiment")
	}
	input, set := prepare()
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			found, size := scanChild(t, b.compile(t), b.fault, input, set)
			total := 0
			var text strings.Builder
			for k := initialKey; k < kinds; k++ {
				total += found[k]
				fmt.Fprintf(&text, ", %s %d", kindNames[k], found[k])
			}
			t.Logf("%-30s %4d MiB scanned, control %d%s", b.name, size>>20, found[controlKey], text.String())
			if found[controlKey] == 0 {
				t.Error("the control key was not found: the scan sees nothing")
			}
			if total < b.least || total > b.most {
				t.Errorf("%d traces of keys: want %d to %d", total, b.least, b.most)
			}
		})
	}
}

// prepare draws base keys and computes what to look for.
func prepare() (input []byte, set *needles) {
	set = newNeedles()
	draw := func() []byte {
		key := make([]byte, 16)
		_, _ = rand.Read(key) // cannot fail
		input = append(input, hex.EncodeToString(key)...)
		return key
	}
	see := func(k kind, key []byte) { set.addKey(k, key) }
	seeTDES := func(k kind, key []byte) {
		set.addKey(k, key)
		set.addDES(key)
		set.addPlanes(key)
		set.addPairs(key)
	}
	for _, r := range roles {
		id := must(hex.DecodeString(r.id))
		if r.a.IsTDES() {
			tdesKeys(draw(), [10]byte(id), keysPerRole, seeTDES)
		} else {
			aesKeys(draw(), [8]byte(id), keysPerRole, see)
		}
	}
	heldKeys(draw, set)
	set.addKey(controlKey, draw())
	return input, set
}

// compile builds the test of this package again, in its way.
func (b build) compile(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "child")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", b.tags, "-o", out, ".")
	cmd.Env = append(os.Environ(), "GOEXPERIMENT="+b.experiment)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// scanChild runs the process to where it waits and counts what is in its memory.
func scanChild(t *testing.T, program string, fault planted.Name, input []byte, set *needles) (found [kinds]int, size int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), isChild+"=1", "LATCHKEY_PLANTED="+string(fault))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the process that was scanned: %v", err)
		}
	}()
	if _, err := stdin.Write(input); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	if want := fmt.Sprintf("ready %d\n", len(roles)*keysPerRole+len(holdings)*heldRounds); line != want {
		rest, _ := lines.ReadString(0)
		t.Fatalf("got %q, want %q: %v\n%s", line, want, err, rest)
	}
	return scanProcess(t, cmd.Process.Pid, set)
}

// scanProcess reads every mapping that a process can write to.
func scanProcess(t *testing.T, pid int, set *needles) (found [kinds]int, size int) {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(filepath.Join(dir, "mem"))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for line := range bytes.Lines(maps) {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(string(line), "%x-%x %s", &from, &to, &rights); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !strings.HasPrefix(rights, "rw") {
			continue
		}
		b := make([]byte, to-from)
		if _, err := mem.ReadAt(b, int64(from)); err != nil {
			t.Fatalf("%s: %v", bytes.TrimSpace(line), err)
		}
		set.scan(b, &found)
		set.scanPlanes(b, &found)
		size += len(b)
	}
	return found, size
}
