package ctgrind_test

import (
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What a run does, so that none passes by doing less: no case and no mark goes unnoticed. Change them with the cases.
const (
	wantCases   = 38
	wantPlanted = 2
	wantBytes   = 11957
)

// own is how the frames of this module begin, and how those of the marks do.
const (
	own  = "github.com/latchkey-pos/latchkey/"
	mark = own + "internal/ctgrind.request"
)

// report is what Valgrind's XML says of one error.
type report struct {
	Kind   string  `xml:"kind"`
	Stacks []stack `xml:"stack"` // where it happened; with --track-origins, where the value came from
}

type stack struct {
	Frames []frame `xml:"frame"`
}

type frame struct {
	Function string `xml:"fn"`
	File     string `xml:"file"`
	Line     int    `xml:"line"`
}

// secret reports whether the error is of a value that was marked. All others are of the Go runtime, whose stacks and heap
// Valgrind knows in part only: addresses it takes for invalid, and values it takes for undefined on a stack just made.
func (r report) secret() bool {
	return (r.Kind == "UninitCondition" || r.Kind == "UninitValue" || r.Kind == "SyscallParam") && len(r.Stacks) == 2 &&
		len(r.Stacks[1].Frames) > 0 && strings.HasPrefix(r.Stacks[1].Frames[0].Function, mark)
}

// place names the kind, the function at fault and, where that is not of this module, who called it from here.
func (r report) place() string {
	what := "a jump"
	if r.Kind == "UninitValue" {
		what = "an address"
	}
	at := r.Stacks[0].Frames
	text := fmt.Sprintf("%s in %s, %s:%d", what, strings.TrimPrefix(at[0].Function, own), at[0].File, at[0].Line)
	for _, f := range at {
		if strings.HasPrefix(f.Function, own) || strings.HasPrefix(f.Function, "main.") {
			if f != at[0] {
				text += fmt.Sprintf(", under %s, %s:%d", strings.TrimPrefix(f.Function, own), f.File, f.Line)
			}
			break
		}
	}
	return text
}

// watch runs cases in one process under Valgrind. It returns how many bytes each marked and where they were caught.
func watch(t *testing.T, program string, names ...string) (marked map[string]int, places []string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "valgrind.xml")
	cmd := exec.CommandContext(t.Context(), "valgrind", append([]string{
		"--track-origins=yes", "--leak-check=no", "--num-callers=40", "--error-limit=no", "--xml=yes", "--xml-file=" + out, program,
	}, names...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off") // a collector would add noise and time
	var complaints strings.Builder
	cmd.Stderr = &complaints // of debugging information that it does not know, and of a case
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s", names, err, complaints.String())
	}
	marked = make(map[string]int)
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 3 || fields[2] != "true" {
			t.Fatalf("ran as %q", line)
		}
		if marked[fields[0]], err = strconv.Atoi(fields[1]); err != nil {
			t.Fatal(err)
		}
	}
	return marked, read(t, out)
}

// read returns the places that Valgrind reports secrets at.
func read(t *testing.T, file string) (places []string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Errors []report `xml:"error"`
		Status []struct {
			State string `xml:"state"`
		} `xml:"status"`
	}
	if err := xml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Status) != 2 || doc.Status[1].State != "FINISHED" {
		t.Fatal("Valgrind did not finish")
	}
	for _, r := range doc.Errors {
		if r.secret() {
			places = append(places, r.place())
		}
	}
	slices.Sort(places)
	return slices.Compact(places)
}

// TestConstantTime runs the cases under Valgrind. No jump and no address may depend on a secret, but in the planted cases,
// where one must. One process for all tells whether any does; only if so each case runs again alone, to tell which.
func TestConstantTime(t *testing.T) {
	if _, err := exec.LookPath("valgrind"); err != nil {
		t.Fatal("valgrind is missing: .ci/env installs it")
	}
	program := filepath.Join(t.TempDir(), "cases")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "valgrind", "-o", program, "./cases").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	strict, planted := list(t, program)
	marked, places := watch(t, program, strict...)
	caught := make(map[string][]string)
	alone := planted
	if len(places) > 0 {
		alone = slices.Concat(strict, planted)
	}
	for _, name := range alone {
		one, places := watch(t, program, name)
		marked[name], caught[name] = one[name], places
	}
	total := 0
	t.Logf("%-36s %12s %8s", "case", "secret bytes", "reports")
	for _, name := range slices.Concat(strict, planted) {
		total += marked[name]
		places := caught[name]
		t.Logf("%-36s %12d %8d", name, marked[name], len(places))
		if slices.Contains(planted, name) != (len(places) > 0) {
			t.Errorf("%s: %d reports:\n  %s", name, len(places), strings.Join(places[:min(len(places), 12)], "\n  "))
		}
		if marked[name] == 0 {
			t.Errorf("%s: nothing is secret", name)
		}
	}
	t.Logf("%-36s %12d %8d", fmt.Sprintf("all %d, but the planted", len(strict)), total, len(places))
	if len(strict) != wantCases || len(planted) != wantPlanted || total != wantBytes {
		t.Errorf("%d and %d cases, %d secret bytes: want %d, %d and %d", len(strict), len(planted), total, wantCases, wantPlanted, wantBytes)
	}
}

// list runs the cases without Valgrind, where each checks its answer, and tells the planted ones from the others.
func list(t *testing.T, program string) (strict, planted []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(line, "\t")
		if strings.HasPrefix(name, "planted") {
			planted = append(planted, name)
		} else {
			strict = append(strict, name)
		}
	}
	return strict, planted
}
