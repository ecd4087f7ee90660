package testvec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWycheproof(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "aes_test.json")
	for _, c := range []struct{ name, body, err string }{
		{"two groups", `{"numberOfTests":2,"testGroups":[{"type":"MacTest","tagSize":8,"tests":[{"tcId":1,"result":"valid"}]},` +
			`{"type":"MacTest","tests":[{"tcId":2,"result":"invalid","tagSize":9}]}]}`, ""},
		{"too few", `{"numberOfTests":3,"testGroups":[{"type":"T","tests":[{"tcId":1,"result":"valid"}]}]}`, "1 tests, and the file says 3"},
		{"no tests", `{"numberOfTests":0,"testGroups":[{"type":"T"}]}`, "has no tests"},
		{"test of text", `{"numberOfTests":1,"testGroups":[{"type":"T","tests":["x"]}]}`, "no object"},
		{"vectors too", `{"vectors":[],"testGroups":[]}`, "both"},
		{"topic too", `{"topic":"mac","testGroups":[]}`, "both"},
		{"id twice", `{"numberOfTests":2,"testGroups":[{"type":"T","tests":[{"tcId":1},{"tcId":1}]}]}`, "two vectors"},
	} {
		if err := os.WriteFile(name, []byte(c.body), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := read(name)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		if c.err != "" {
			continue
		}
		v, err := newVector(f.Vectors[1])
		if err != nil {
			t.Fatal(err)
		}
		if f.Topic != "wycheproof-aes" || v.ID != "tcId 2" || v.Feature != "MacTest invalid" || v.Int("tagSize") != 9 || v.Has("tests") {
			t.Errorf("read as %q: %+v", f.Topic, v)
		}
	}
}
