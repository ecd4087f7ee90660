package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// exported is a log of n records with a checkpoint after each third and after the last, and the key of those.
func exported(t testing.TB, n int) (string, *Verifier, *memory) {
	t.Helper()
	signer, verifier := newKey(t, "latchkey/SHOP/test")
	m := &memory{}
	for i := range n {
		r := full()
		r.Time, r.Object = time.UnixMilli(int64(i)*1000).UTC(), fmt.Sprintf("<KSN %d>", i)
		m.append(r)
		if i%3 == 2 || i == n-1 {
			m.checkpoints = append(m.checkpoints, must(signer.Sign(m.tree)))
		}
	}
	var out bytes.Buffer
	last := uint64(0)
	records, err := Export(t.Context(), m, &out, func(n uint64) { last = n })
	if err != nil || records != uint64(n) || last != records {
		t.Fatalf("export: %d records, %d told, %v, want %d", records, last, err, n)
	}
	return out.String(), verifier, m
}

func verifyExport(ctx context.Context, text string, v *Verifier, kept ...[]byte) (Report, error) {
	e, err := ReadExport(strings.NewReader(text))
	if err != nil {
		return Report{}, err
	}
	return Verify(ctx, e, v, kept...)
}

// TestExport has a file verified as the log is that it was made of.
func TestExport(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 7} {
		text, v, m := exported(t, n)
		want := must(Verify(t.Context(), m, v))
		got, err := verifyExport(t.Context(), text, v)
		if err != nil || got != want {
			t.Errorf("%d records: %+v, %v, want %+v", n, got, err, want)
		}
		if lines := strings.Count(text, "\n"); lines != 2+n+(n+2)/3 {
			t.Errorf("%d records make %d lines", n, lines)
		}
	}
}

// TestExportChanged changes, drops, repeats and swaps each line and each byte: Verify says no. A log that was cut short with its checkpoints
// is found by one that was kept.
func TestExportChanged(t *testing.T) {
	t.Parallel()
	text, v, m := exported(t, 7)
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	refused := func(what, text string, kept ...[]byte) {
		t.Helper()
		if _, err := verifyExport(t.Context(), text, v, kept...); !Broken(err) {
			t.Errorf("%s: %v, want a broken log", what, err)
		}
	}
	join := func(lines ...[]string) (out string) {
		for _, l := range lines {
			out += strings.Join(l, "")
		}
		return out
	}
	kept := m.checkpoints[len(m.checkpoints)-1]
	for i := range lines {
		if strings.HasPrefix(lines[i], `{"checkpoint"`) {
			continue // one more or less proves no less of the others
		}
		refused(fmt.Sprint("without line ", i), join(lines[:i], lines[i+1:]), kept)
		refused(fmt.Sprint("with line twice ", i), join(lines[:i+1], lines[i:]), kept)
		if i > 0 {
			refused(fmt.Sprint("swapped before ", i), join(lines[:i-1], lines[i:i+1], lines[i-1:i], lines[i+1:]), kept)
		}
	}
	for i := 0; i < len(text); i++ {
		b := []byte(text)
		b[i] ^= 1
		refused(fmt.Sprint("byte ", i), string(b), kept)
		if i%16 == 0 {
			refused(fmt.Sprint("cut at ", i), text[:i], kept)
		}
	}
	for what, more := range map[string]string{"more after the end": "\n", "another export": text} {
		refused(what, text+more)
	}
	both := strings.Replace(lines[1], "}\n", `,"end":0}`+"\n", 1)
	refused("a line of two kinds", join(lines[:1], []string{both}, lines[2:]))
	if _, err := ReadExport(iotest.ErrReader(errors.New("no disk"))); err == nil || Broken(err) {
		t.Errorf("a reader that fails: %v, want its error", err)
	}
}

// TestExportSigned exports what is under a checkpoint and no more, and nothing where there is none.
func TestExportSigned(t *testing.T) {
	t.Parallel()
	_, v, m := exported(t, 4)
	m.append(full())
	var out bytes.Buffer
	if n, err := Export(t.Context(), m, &out, nil); err != nil || n != 4 {
		t.Errorf("%d records, %v, want the 4 that are signed", n, err)
	}
	if r, err := verifyExport(t.Context(), out.String(), v); err != nil || r.Size != 4 || r.Signed != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	m.checkpoints = nil
	if _, err := Export(t.Context(), m, &out, nil); !errors.Is(err, ErrUnsigned) {
		t.Errorf("without a checkpoint: %v, want %v", err, ErrUnsigned)
	}
}

// TestExportBroken exports no log that is not whole.
func TestExportBroken(t *testing.T) {
	t.Parallel()
	_, _, m := exported(t, 3)
	for name, spoil := range map[string]func(*memory){
		"a record that is none": func(m *memory) { m.leaves[1].Record = []byte("x") },
		"a record missing":      func(m *memory) { m.leaves = append(m.leaves[:1], m.leaves[2:]...) },
	} {
		c := m.clone()
		spoil(c)
		var out bytes.Buffer
		if _, err := Export(t.Context(), c, &out, nil); !Broken(err) {
			t.Errorf("%s: %v, want a broken log", name, err)
		}
		if _, err := ReadExport(&out); err == nil {
			if _, err := verifyExport(t.Context(), out.String(), nil); err == nil {
				t.Errorf("%s: what was written so far passes", name)
			}
		}
	}
}

// TestLine shows text of callers so that it moves no cursor.
func TestLine(t *testing.T) {
	t.Parallel()
	r := Record{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Instance: "host-1", Sequence: 7, Result: "REFUSED", Reason: "KsnReplayed",
		Action: "transaction/sale", Object: "KSN\x1b[2J", Actor: "ACQ-1", Source: "10.0.0.1",
	}
	want := `2026-01-02T03:04:05Z host-1 #7 REFUSED KsnReplayed transaction/sale "KSN\x1b[2J" by ACQ-1 from 10.0.0.1`
	if got := r.Line(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// FuzzReadExport reads files as verify does: what reads to its end is what Export writes of it.
func FuzzReadExport(f *testing.F) {
	text, v, _ := exported(f, 4)
	f.Add([]byte(text))
	f.Add([]byte(`{"format":"latchkey-audit","version":1}` + "\n" + `{"end":0}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ReadExport(bytes.NewReader(b))
		m := &memory{}
		if err == nil {
			m.checkpoints = e.checkpoints
			err = e.Leaves(t.Context(), func(l Leaf) error {
				m.leaves = append(m.leaves, l)
				return nil
			})
		}
		if err != nil {
			if !errors.Is(err, ErrExport) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		report, err := verifyExport(t.Context(), string(b), v)
		if err != nil || report.Signed < report.Size || report.Size == 0 { // others may write such files, Export does not
			return
		}
		var again bytes.Buffer
		if _, err := Export(t.Context(), m, &again, nil); err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("%q is written as %q (%v)", b, again.Bytes(), err)
		}
	})
}
