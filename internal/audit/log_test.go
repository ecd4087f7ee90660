package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// memory is a log in memory.
type memory struct {
	tree        Tree
	leaves      []Leaf
	checkpoints [][]byte
}

func (m *memory) Leaves(_ context.Context, yield func(Leaf) error) error {
	for _, l := range m.leaves {
		if err := yield(l); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Checkpoints(context.Context) ([][]byte, error) { return m.checkpoints, nil }

func (m *memory) append(r Record) {
	r.Sequence = m.tree.Size() + 1
	b := must(r.Encode())
	index := m.tree.Size()
	var hashes []Hash
	m.tree, hashes = m.tree.Append(b)
	m.leaves = append(m.leaves, Leaf{Index: index, Record: b, Hashes: hashes})
}

// clone copies a log so that its bytes can be changed.
func (m *memory) clone() *memory {
	out := &memory{tree: m.tree}
	for _, l := range m.leaves {
		out.leaves = append(out.leaves, Leaf{l.Index, bytes.Clone(l.Record), slices.Clone(l.Hashes)})
	}
	for _, c := range m.checkpoints {
		out.checkpoints = append(out.checkpoints, bytes.Clone(c))
	}
	return out
}

func newKey(t testing.TB, name string) (*Signer, *Verifier) {
	t.Helper()
	s, v, err := GenerateKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return must(NewSigner(s)), must(NewVerifier(v))
}

// newLog makes a log of n leaves with a checkpoint after every third and at the end.
func newLog(t testing.TB, n int) (*memory, *Signer, *Verifier) {
	t.Helper()
	s, v := newKey(t, "latchkey/SHOP/decryptd")
	m := &memory{}
	for i := range n {
		m.append(Record{Time: full().Time, Instance: "decrypt-1", Action: "transaction/sale", Object: fmt.Sprint("sale ", i), Result: "FRESH"})
		if i%3 == 2 || i == n-1 {
			m.checkpoints = append(m.checkpoints, must(s.Sign(m.tree)))
		}
	}
	return m, s, v
}

// TestTreeIsTlog compares the tree with the package whose hashes it promises, and opens it at every size.
func TestTreeIsTlog(t *testing.T) {
	t.Parallel()
	const leaves = 70
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	var tree Tree
	var log [][]Hash
	for n := range int64(leaves) {
		if want := must(tlog.TreeHash(n, reader)); tree.Root() != Hash(want) {
			t.Fatalf("root of %d leaves: %v, want %v", n, tree.Root(), want)
		}
		opened, err := OpenTree(uint64(n), func(i uint64) ([]Hash, error) { return log[i], nil })
		if err != nil || opened.Root() != tree.Root() || opened.Size() != uint64(n) {
			t.Fatalf("opened at %d: %v %v", n, opened.Root(), err)
		}
		data := fmt.Appendf(nil, "leaf %d", n)
		want := must(tlog.StoredHashes(n, data, reader))
		before := tree.Root()
		next, got := tree.Append(data)
		if len(got) != len(want) {
			t.Fatalf("leaf %d completes %d nodes, want %d", n, len(got), len(want))
		}
		for i := range want {
			if got[i] != Hash(want[i]) {
				t.Fatalf("leaf %d, hash %d: %v, want %v", n, i, got[i], want[i])
			}
		}
		if tree.Root() != before || tree.Size() != uint64(n) {
			t.Fatal("appending changed the tree it was appended to")
		}
		stored, log, tree = append(stored, want...), append(log, got), next
	}
	fault := errors.New("disk")
	if _, err := OpenTree(5, func(uint64) ([]Hash, error) { return nil, fault }); !errors.Is(err, fault) {
		t.Errorf("opening over a fault: %v", err)
	}
	if _, err := OpenTree(4, func(uint64) ([]Hash, error) { return make([]Hash, 2), nil }); err == nil {
		t.Error("a tree opens with hashes missing")
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	m, s, v := newLog(t, 11)
	r, err := Verify(t.Context(), m, v)
	if want := (Report{Size: 11, Root: m.tree.Root(), Checkpoints: 4, Signed: 11}); err != nil || r != want {
		t.Errorf("got %+v %v, want %+v", r, err, want)
	}
	m.append(full())
	if r, err = Verify(t.Context(), m, v); err != nil || r.Size != 12 || r.Signed != 11 {
		t.Errorf("with an unsigned leaf: %+v %v", r, err)
	}
	empty := &memory{checkpoints: [][]byte{must(s.Sign(Tree{}))}}
	if r, err = Verify(t.Context(), empty, v); err != nil || r.Size != 0 || r.Checkpoints != 1 {
		t.Errorf("an empty log: %+v %v", r, err)
	}
}

// TestVerifyFlippedBytes flips every byte of a log, one at a time: a record, a hash, a checkpoint. Each is found, and for a
// record or a hash its leaf is named.
func TestVerifyFlippedBytes(t *testing.T) {
	t.Parallel()
	m, _, v := newLog(t, 9)
	flips := 0
	try := func(what string, index int, flip func(m *memory) *byte) {
		t.Helper()
		spoiled := m.clone()
		*flip(spoiled) ^= 1 << (flips % 8)
		flips++
		_, err := Verify(t.Context(), spoiled, v)
		leaf, ok := errors.AsType[*LeafError](err)
		if !Broken(err) || index >= 0 && (!ok || leaf.Index != uint64(index)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i, l := range m.leaves {
		for j := range l.Record {
			try(fmt.Sprint("record ", i, " byte ", j), i, func(m *memory) *byte { return &m.leaves[i].Record[j] })
		}
		for j := range l.Hashes {
			for k := range l.Hashes[j] {
				try(fmt.Sprint("leaf ", i, " hash ", j, " byte ", k), i, func(m *memory) *byte { return &m.leaves[i].Hashes[j][k] })
			}
		}
	}
	for i, c := range m.checkpoints {
		for j := range c {
			try(fmt.Sprint("checkpoint ", i, " byte ", j), -1, func(m *memory) *byte { return &m.checkpoints[i][j] })
		}
	}
	if flips < 1500 {
		t.Errorf("only %d flips", flips)
	}
	t.Logf("%d flips", flips)
}

// rebuilt is a log that someone rewrote with care: records changed, and every hash computed anew.
func rebuilt(m *memory, change func(records []Record) []Record) *memory {
	var records []Record
	for _, l := range m.leaves {
		records = append(records, must(ParseRecord(l.Record)))
	}
	out := &memory{checkpoints: m.checkpoints}
	for _, r := range change(records) {
		out.append(r)
	}
	return out
}

func TestVerifyRewritten(t *testing.T) {
	t.Parallel()
	m, s, v := newLog(t, 10)
	other, otherVerifier := newKey(t, "latchkey/SHOP/decryptd")
	foreign, _ := newKey(t, "latchkey/ELSEWHERE/decryptd")
	last := m.checkpoints[len(m.checkpoints)-1]
	text := must(note.Open(last, v.verifiers)).Text
	sign := func(text string, signers ...note.Signer) []byte {
		return must(note.Sign(&note.Note{Text: text}, signers...))
	}
	for name, c := range map[string]struct {
		log  *memory
		v    *Verifier
		kept [][]byte
		want string
	}{
		"a record changed":                    {rebuilt(m, func(r []Record) []Record { r[4].Object = "sale 44"; return r }), v, nil, "checkpoint of size 6"},
		"a record dropped":                    {rebuilt(m, func(r []Record) []Record { return slices.Delete(r, 1, 2) }), v, nil, "checkpoint of size 3"},
		"a record put in":                     {rebuilt(m, func(r []Record) []Record { return slices.Insert(r, 9, full()) }), v, nil, "checkpoint of size 10"},
		"two records swapped":                 {rebuilt(m, func(r []Record) []Record { r[6], r[7] = r[7], r[6]; return r }), v, nil, "checkpoint of size 9"},
		"the end cut off":                     {&memory{leaves: m.leaves[:9], checkpoints: m.checkpoints}, v, nil, "checkpoint of size 10"},
		"the end cut off with its checkpoint": {&memory{leaves: m.leaves[:9], checkpoints: m.checkpoints[:3]}, v, [][]byte{last}, "checkpoint of size 10"},
		"all gone":                            {&memory{}, v, [][]byte{last}, "only 0 leaves"},
		"a gap":                               {&memory{leaves: slices.Delete(slices.Clone(m.leaves), 3, 4)}, v, nil, "leaf 3: missing"},
		"a leaf twice":                        {&memory{leaves: slices.Insert(slices.Clone(m.leaves), 3, m.leaves[2])}, v, nil, "leaf 3: missing"},
		"another key":                         {m, otherVerifier, nil, "does not verify"},
		"a checkpoint by another key":         {m, v, [][]byte{must(other.Sign(m.tree))}, "does not verify"},
		"a checkpoint of another log":         {m, v, [][]byte{must(foreign.Sign(m.tree))}, "does not verify"},
		"another origin":                      {m, v, [][]byte{sign("latchkey/X\n"+strings.SplitN(text, "\n", 2)[1], s.signer)}, "does not verify"},
		"a line more":                         {m, v, [][]byte{sign(text+"more\n", s.signer)}, "three lines"},
		"a size with a zero before it":        {m, v, [][]byte{sign(strings.Replace(text, "\n10\n", "\n010\n", 1), s.signer)}, "one spelling"},
		"a size that is none":                 {m, v, [][]byte{sign(strings.Replace(text, "\n10\n", "\n-1\n", 1), s.signer)}, "no number"},
		"a root that is none":                 {m, v, [][]byte{sign("latchkey/SHOP/decryptd\n10\nroot\n", s.signer)}, "no hash"},
		"two signatures":                      {m, v, [][]byte{sign(text, s.signer, foreign.signer)}, "exactly one"},
		"a checkpoint too long":               {m, v, [][]byte{make([]byte, maxCheckpoint+1)}, "does not verify"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := Verify(t.Context(), c.log, c.v, c.kept...)
			if !Broken(err) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("%+v %v, want %q", r, err, c.want)
			}
		})
	}
	misnumbered := m.clone()
	misnumbered.leaves, misnumbered.tree, misnumbered.checkpoints = nil, Tree{}, nil
	r := must(ParseRecord(m.leaves[0].Record))
	r.Sequence = 2
	b := must(r.Encode())
	_, hashes := Tree{}.Append(b)
	misnumbered.leaves = []Leaf{{0, b, hashes}}
	if _, err := Verify(t.Context(), misnumbered, v); !Broken(err) || !strings.Contains(fmt.Sprint(err), "sequence 2") {
		t.Errorf("a record with another number: %v", err)
	}
}

// faulty is a source that cannot be read.
type faulty struct{ leaves, checkpoints error }

func (f *faulty) Leaves(context.Context, func(Leaf) error) error { return f.leaves }

func (f *faulty) Checkpoints(context.Context) ([][]byte, error) { return nil, f.checkpoints }

func TestVerifyUnreadable(t *testing.T) {
	t.Parallel()
	_, v := newKey(t, "latchkey/SHOP/decryptd")
	fault := errors.New("disk")
	for _, src := range []*faulty{{leaves: fault}, {checkpoints: fault}} {
		if _, err := Verify(t.Context(), src, v); !errors.Is(err, fault) || Broken(err) {
			t.Errorf("verify: %v", err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	signer, verifier, err := GenerateKey("latchkey/SHOP/decryptd")
	if err != nil {
		t.Fatal(err)
	}
	s := must(NewSigner(signer))
	if v := must(NewVerifier(verifier + "\n")); v.Name() != s.Name() || s.Name() != "latchkey/SHOP/decryptd" {
		t.Errorf("names %q and %q", s.Name(), v.Name())
	}
	for _, name := range []string{"", "two words", "a+b", "a\nb"} {
		if _, _, err := GenerateKey(name); err == nil {
			t.Errorf("a key has the name %q", name)
		}
	}
	for _, text := range []string{"", "PRIVATE+KEY+x", verifier, signer[:len(signer)-4]} {
		_, err := NewSigner(text)
		if err == nil || len(text) > 20 && strings.Contains(err.Error(), text[len(text)-20:]) {
			t.Errorf("signer from %q: %v", text, err)
		}
	}
	for _, text := range []string{"", "x", signer} {
		if _, err := NewVerifier(text); err == nil {
			t.Errorf("verifier from %q", text)
		}
	}
}

// TestCheckpointSpelling writes the last character of a signature in the three other ways that decode to the same bytes.
func TestCheckpointSpelling(t *testing.T) {
	t.Parallel()
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	s, v := newKey(t, "latchkey/SHOP/decryptd")
	signed := must(s.Sign(Tree{}))
	last := bytes.LastIndexByte(signed, '=') - 1
	was := strings.IndexByte(alphabet, signed[last])
	for other := range 4 {
		signed[last] = alphabet[was&^3|other]
		_, verified := v.Open(signed)
		_, read := ReadUnverified(signed)
		if same := other == was&3; (verified == nil) != same || (read == nil) != same {
			t.Errorf("ending in bits %02b: %v, %v", other, verified, read)
		}
	}
}

// TestSignerIsSilent prints a signer in every way: its key does not come out.
func TestSignerIsSilent(t *testing.T) {
	t.Parallel()
	text, _, err := GenerateKey("latchkey/SHOP/decryptd")
	if err != nil {
		t.Fatal(err)
	}
	s := must(NewSigner(text))
	secret := strings.SplitN(text, "+", 5)[4] // PRIVATE+KEY+name+hash+base64
	raw := must(base64.StdEncoding.DecodeString(secret))
	outside := struct{ S *Signer }{s}
	hidden := struct{ s *Signer }{s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{s, *s, outside, hidden, []*Signer{s}} {
			out := fmt.Sprintf(verb, value)
			if strings.Contains(out, secret[:12]) || strings.Contains(strings.ToLower(out), hex.EncodeToString(raw[1:7])) {
				t.Errorf("%s of %T prints the key: %s", verb, value, out)
			}
		}
	}
	if b, err := s.MarshalText(); err != nil || string(b) != s.Name() {
		t.Errorf("as text: %s %v", b, err)
	}
}
