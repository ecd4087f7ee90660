package testvec

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
)

// wycheproof is what a file of Project Wycheproof has in the place of topic and vectors: groups of cases that share some members.
type wycheproof struct {
	Cases  int              `json:"numberOfTests"`
	Groups []map[string]any `json:"testGroups"`
}

// flatten makes vectors of the groups: each has the members of its group and its own.
func (f *file) flatten(name string) error {
	if f.Topic != "" || f.Vectors != nil {
		return fmt.Errorf("both vectors and test groups")
	}
	f.Topic = "wycheproof-" + strings.TrimSuffix(filepath.Base(name), "_test.json")
	for _, g := range f.Groups {
		cases, ok := g["tests"].([]any)
		if !ok {
			return fmt.Errorf("a test group has no tests")
		}
		for _, c := range cases {
			own, ok := c.(map[string]any)
			if !ok {
				return fmt.Errorf("a test is no object")
			}
			v := maps.Clone(g)
			delete(v, "tests")
			maps.Copy(v, own)
			v["id"], v["feature"] = fmt.Sprint("tcId ", own["tcId"]), fmt.Sprint(g["type"], " ", own["result"])
			f.Vectors = append(f.Vectors, v)
		}
	}
	if len(f.Vectors) != f.Cases {
		return fmt.Errorf("%d tests, and the file says %d", len(f.Vectors), f.Cases)
	}
	f.Groups = nil
	return nil
}
