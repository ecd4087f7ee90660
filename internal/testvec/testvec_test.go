package testvec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func vectors(maps ...map[string]any) file { return file{name: "f", Vectors: maps} }

func TestRunCountsAndRefuses(t *testing.T) {
	t.Parallel()
	handlers := map[string]Handler{
		"good":  func(v Vector) (int, error) { return len(v.Hex("x")), nil },
		"bad":   func(Vector) (int, error) { return 1, errors.New("differs") },
		"empty": func(Vector) (int, error) { return 0, nil },
	}
	for _, c := range []struct {
		name     string
		vector   map[string]any
		made     int
		deferred int
		err      string
	}{
		{"counted", map[string]any{"id": "a", "feature": "good", "x": "0102"}, 2, 0, ""},
		{"fails", map[string]any{"id": "b", "feature": "bad"}, 1, 0, "vector b (bad): differs"},
		{"compares nothing", map[string]any{"id": "c", "feature": "empty"}, 0, 0, "nothing was compared"},
		{"unknown feature", map[string]any{"id": "d", "feature": "new"}, 0, 0, "unknown feature"},
		{"deferred", map[string]any{"id": "e", "feature": "later"}, 0, 1, ""},
		{"no id", map[string]any{"feature": "good", "x": "00"}, 0, 0, "no id"},
		{"no feature", map[string]any{"id": "g"}, 0, 0, "no feature"},
		{"member missing", map[string]any{"id": "h", "feature": "good"}, 0, 0, "vector h (good): member \"x\""},
		{"member not hex", map[string]any{"id": "i", "feature": "good", "x": "0g"}, 0, 0, "vector i"},
	} {
		made, left, errs := vectors(c.vector).run(handlers, []string{"later"})
		if made != c.made || left["later"] != c.deferred {
			t.Errorf("%s: made %d, deferred %d", c.name, made, left["later"])
		}
		if got := errors.Join(errs...); (got == nil) != (c.err == "") || got != nil && !strings.Contains(got.Error(), c.err) {
			t.Errorf("%s: got error %v, want %q", c.name, got, c.err)
		}
	}
}

func TestExtraFolder(t *testing.T) {
	dir := t.TempDir()
	body := `{"topic":"extra","vectors":[{"id":"x1","feature":"one","want":"AB"},{"id":"x2","feature":"two"}]}`
	if err := os.WriteFile(filepath.Join(dir, "more.json"), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LATCHKEY_EXTRA_VECTORS", dir+":")
	handlers := map[string]Handler{"one": func(v Vector) (int, error) {
		if v.String("want") != "AB" {
			return 1, errors.New("differs")
		}
		return 1, nil
	}}
	Run(t, "extra", handlers, "two")
	Flip(t, "extra", handlers, map[string][]string{"one": {"want"}})
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("not JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := load(t, "extra")
	if len(files) != 1 || len(files[0].Vectors) != 2 {
		t.Errorf("loaded %v", files)
	}
}

// TestFilesAreRefused: a file that cannot be understood must not be passed over.
func TestFilesAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, body, err string }{
		{"another topic that tests cover", `{"topic":"mac","vectors":[{"id":"a","feature":"b"}]}`, ""},
		{"our own formats", `{"topic":"protocol-acks","vectors":[]}`, ""},
		{"one of our own that no test reads", `{"topic":"protocol-new","vectors":[]}`, `unknown topic "protocol-new"`},
		{"unknown topic", `{"topic":"macs","vectors":[{"id":"a","feature":"b"}]}`, `unknown topic "macs"`},
		{"no topic", `{"vectors":[{"id":"a","feature":"b"}]}`, "has a topic and vectors"},
		{"no vectors", `{"topic":"extra"}`, "has a topic and vectors"},
		{"two of one id", `{"topic":"extra","vectors":[{"id":"a","feature":"b"},{"id":"a","feature":"b"}]}`, "two vectors have the id a"},
		{"text behind", `{"topic":"extra","vectors":[{"id":"a","feature":"b"}]} {}`, "after top-level value"},
		{"cut off", `{"topic":"extra","vectors":[{"id":"a"`, "unexpected end"},
		{"not JSON", `vectors`, "invalid character"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f.json"), []byte(c.body), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := find(dir, []string{dir}, "extra")
		if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "f.json")) {
			t.Errorf("%s: got %v, want %q and the name of the file", c.name, err, c.err)
		}
	}
	if _, err := find(t.TempDir(), []string{filepath.Join(t.TempDir(), "missing")}, "extra"); err == nil {
		t.Error("a folder that is not there was passed over")
	}
}

// TestNamesOfFiles: files of the module go by their path in it, others by their own.
func TestNamesOfFiles(t *testing.T) {
	t.Parallel()
	root, other := t.TempDir(), t.TempDir()
	for _, name := range []string{filepath.Join(root, "testdata", "a", "f.json"), filepath.Join(other, "g.json")} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(`{"topic":"extra","vectors":[]}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := find(root, []string{filepath.Join(root, "testdata"), other}, "extra")
	if err != nil || len(files) != 2 || files[0].name != "testdata/a/f.json" || files[1].name != filepath.Join(other, "g.json") {
		t.Errorf("got %v, %v", files, err)
	}
}

func TestRelativeExtraFolder(t *testing.T) {
	t.Setenv("LATCHKEY_EXTRA_VECTORS", "more::/abs")
	if got := extra("/root"); len(got) != 2 || got[0] != "/root/more" || got[1] != "/abs" {
		t.Errorf("got %v", got)
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	if got := describe(map[string]int{"b": 2, "a": 1}); got != "; deferred: 3 (a, b)" {
		t.Errorf("got %q", got)
	}
	if got := describe(nil); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestAccessors(t *testing.T) {
	t.Parallel()
	v, err := newVector(map[string]any{
		"id": "a", "feature": "b", "text": "x", "hex": "0aFF", "int": 7.0, "half": 7.5, "bool": true, "null": nil,
		"list": []any{"p", "q"}, "mixed": []any{"p", 1.0}, "map": map[string]any{"k": "v"}, "bad map": map[string]any{"k": 1.0},
		"objects": []any{map[string]any{"k": "v"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if v.String("text") != "x" || string(v.Hex("hex")) != "\x0a\xff" || v.Int("int") != 7 || !v.Bool("bool") || v.Has("null") || v.Has("none") || !v.Has("text") {
		t.Error("a member reads wrong")
	}
	if l := v.Strings("list"); len(l) != 2 || l[1] != "q" {
		t.Errorf("list %v", l)
	}
	if m := v.Map("map"); len(m) != 1 || m["k"] != "v" {
		t.Errorf("map %v", m)
	}
	if o := v.Objects("objects"); len(o) != 1 || o[0]["k"] != "v" {
		t.Errorf("objects %v", o)
	}
	for name, read := range map[string]func(){
		"missing": func() { _ = v.String("none") }, "text as number": func() { v.Int("text") }, "half": func() { v.Int("half") },
		"text as hex": func() { v.Hex("text") }, "text as bool": func() { v.Bool("text") }, "mixed": func() { v.Strings("mixed") },
		"bad map": func() { v.Map("bad map") }, "null": func() { _ = v.String("null") },
	} {
		_, err := call(func(Vector) (int, error) { read(); return 1, nil }, v)
		if err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

// TestFlip: a flipped digit is another text of the same length.
func TestFlip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, want any }{{"00", "01"}, {"FF", "F0"}, {"A1", "A0"}, {"", nil}, {1.0, nil}, {nil, nil}} {
		original := map[string]any{"id": "a", "want": c.value}
		got, ok := flip(original, "want")
		if ok != (c.want != nil) || ok && got["want"] != c.want || original["want"] != c.value {
			t.Errorf("%v becomes %v, %v; the original is %v", c.value, got["want"], ok, original["want"])
		}
	}
}
