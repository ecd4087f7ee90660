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
	files := load(t, "extra")
	if len(files) != 1 || len(files[0].Vectors) != 2 {
		t.Errorf("loaded %v", files)
	}
}
