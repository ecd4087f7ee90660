// Package testvec runs published test vectors: JSON files below testdata, and below the folders named in
// LATCHKEY_EXTRA_VECTORS (separated by colons).
//
// A file has a "topic" and "vectors"; each vector has an "id" and a "feature". Files of Project Wycheproof are read as they are
// published: aes_cmac_test.json has the topic wycheproof-aes_cmac, its cases a feature like "MacTest
// valid", of type and result. A test names the topic it covers and gives a
// [Handler] for each feature, which makes comparisons and counts them. A feature that is neither handled nor named as
// deferred fails the test, and so does a file in which nothing was compared, or one whose topic no test covers. One line for
// each file says how many comparisons were made.
package testvec

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Vector is one test case. Accessors of members that are missing or of another kind panic; Run and Flip turn that into an
// error that names the vector.
type Vector struct {
	ID      string
	Feature string
	members map[string]any
}

// Handler compares what the code gives with what the vector expects, and returns how many comparisons it made.
type Handler func(v Vector) (comparisons int, err error)

// Has reports whether the member is there and not null.
func (v Vector) Has(name string) bool { return v.members[name] != nil }

// String returns a member that is text.
func (v Vector) String(name string) string { return member[string](v, name) }

// Bool returns a member that is true or false.
func (v Vector) Bool(name string) bool { return member[bool](v, name) }

// Int returns a member that is a whole number.
func (v Vector) Int(name string) int {
	n := member[float64](v, name)
	if n != float64(int(n)) {
		panic(fmt.Sprintf("member %q is not a whole number", name))
	}
	return int(n)
}

// Hex returns the bytes of a member that is text of hexadecimal digits.
func (v Vector) Hex(name string) []byte {
	b, err := hex.DecodeString(v.String(name))
	if err != nil {
		panic(fmt.Sprintf("member %q: %v", name, err))
	}
	return b
}

// Strings returns a member that is a list of text.
func (v Vector) Strings(name string) []string {
	var out []string
	for _, e := range member[[]any](v, name) {
		s, ok := e.(string)
		if !ok {
			panic(fmt.Sprintf("member %q holds something that is not text", name))
		}
		out = append(out, s)
	}
	return out
}

// Map returns a member that is an object of text members.
func (v Vector) Map(name string) map[string]string {
	out := make(map[string]string)
	for k, e := range member[map[string]any](v, name) {
		s, ok := e.(string)
		if !ok {
			panic(fmt.Sprintf("member %q holds something that is not text", name))
		}
		out[k] = s
	}
	return out
}

// Objects returns a member that is a list of objects of text members.
func (v Vector) Objects(name string) []map[string]string {
	var out []map[string]string
	for i := range member[[]any](v, name) {
		inner := Vector{members: map[string]any{name: member[[]any](v, name)[i]}}
		out = append(out, inner.Map(name))
	}
	return out
}

func member[T any](v Vector, name string) T {
	m, ok := v.members[name].(T)
	if !ok {
		panic(fmt.Sprintf("member %q is %T", name, v.members[name]))
	}
	return m
}

// file is one vector file.
type file struct {
	name    string           // as shown
	Topic   string           `json:"topic"`
	Vectors []map[string]any `json:"vectors"`
	wycheproof
}

// Run runs every vector of every file of the topic. Features named in deferred are counted and not run.
func Run(t *testing.T, topic string, handlers map[string]Handler, deferred ...string) {
	t.Helper()
	files := load(t, topic)
	for _, f := range files {
		made, left, errs := f.run(handlers, deferred)
		for _, err := range errs {
			t.Errorf("%s: %v", f.name, err)
		}
		if made == 0 && len(left) == 0 {
			t.Errorf("%s: nothing was compared", f.name)
		}
		t.Logf("vectors: %d from %s%s", made, f.name, describe(left))
	}
}

func describe(left map[string]int) string {
	if len(left) == 0 {
		return ""
	}
	total := 0
	for _, n := range left {
		total += n
	}
	return fmt.Sprintf("; deferred: %d (%s)", total, strings.Join(slices.Sorted(maps.Keys(left)), ", "))
}

func (f file) run(handlers map[string]Handler, deferred []string) (made int, left map[string]int, errs []error) {
	left = make(map[string]int)
	for _, m := range f.Vectors {
		v, err := newVector(m)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		h, ok := handlers[v.Feature]
		switch {
		case ok:
			n, err := call(h, v)
			made += n
			if err == nil && n == 0 {
				err = fmt.Errorf("nothing was compared")
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("vector %s (%s): %w", v.ID, v.Feature, err))
			}
		case slices.Contains(deferred, v.Feature):
			left[v.Feature]++
		default:
			errs = append(errs, fmt.Errorf("vector %s: unknown feature %q", v.ID, v.Feature))
		}
	}
	return made, left, errs
}

func newVector(m map[string]any) (Vector, error) {
	id, ok := m["id"].(string)
	if !ok || id == "" {
		return Vector{}, fmt.Errorf("a vector has no id")
	}
	feature, ok := m["feature"].(string)
	if !ok || feature == "" {
		return Vector{}, fmt.Errorf("vector %s has no feature", id)
	}
	return Vector{ID: id, Feature: feature, members: m}, nil
}

func call(h Handler, v Vector) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, fmt.Errorf("%v", r)
		}
	}()
	return h(v)
}

// Flip proves that the vectors can fail. For each handled feature, and for each of its members named in expected, it runs a
// copy of every vector with one hexadecimal digit of that member flipped, and demands an error that names the vector's id.
func Flip(t *testing.T, topic string, handlers map[string]Handler, expected map[string][]string) {
	t.Helper()
	flipped := make(map[string]int)
	for _, f := range load(t, topic) {
		for _, m := range f.Vectors {
			feature, _ := m["feature"].(string)
			if handlers[feature] == nil {
				continue
			}
			for _, name := range expected[feature] {
				copied, ok := flip(m, name)
				if !ok {
					continue
				}
				one := file{name: f.name, Vectors: []map[string]any{copied}}
				_, _, errs := one.run(handlers, nil)
				if len(errs) == 0 || !strings.Contains(errs[0].Error(), fmt.Sprint(m["id"])) {
					t.Errorf("%s: vector %v with a flipped digit in %q passes: %v", f.name, m["id"], name, errs)
				}
				flipped[feature]++
			}
		}
	}
	for feature := range handlers {
		if len(expected[feature]) > 0 && flipped[feature] == 0 {
			t.Errorf("feature %q: no digit was flipped", feature)
		}
	}
	t.Logf("flipped: %d expected values, each named by its id", sum(flipped))
}

func sum(m map[string]int) (total int) {
	for _, n := range m {
		total += n
	}
	return total
}

// flip copies m with the last hexadecimal digit of the named member changed.
func flip(m map[string]any, name string) (map[string]any, bool) {
	s, ok := m[name].(string)
	if !ok || s == "" {
		return nil, false
	}
	last := s[len(s)-1]
	digit := byte('0')
	if last == '0' {
		digit = '1'
	}
	copied := maps.Clone(m)
	copied[name] = s[:len(s)-1] + string(digit)
	return copied, true
}

// load returns the files of the topic, those of this module first.
func load(t *testing.T, topic string) []file {
	t.Helper()
	root := moduleRoot(t)
	files, err := find(root, append([]string{filepath.Join(root, "testdata")}, extra(root)...), topic)
	if err != nil {
		t.Fatalf("vectors: %v", err)
	}
	if len(files) == 0 {
		t.Fatalf("no vector file has the topic %q", topic)
	}
	return files
}

// find reads every JSON file below dirs and returns those of the topic. A file of a topic that no test covers is an error: it
// would be passed over in silence.
func find(root string, dirs []string, topic string) (files []file, err error) {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(name) != ".json" {
				return err
			}
			f, err := read(name)
			if err != nil {
				return err
			}
			if f.Topic != topic && !slices.Contains(topics, f.Topic) {
				return fmt.Errorf("%s: unknown topic %q", name, f.Topic)
			}
			if f.Topic != topic {
				return nil
			}
			f.name = name
			if rel, err := filepath.Rel(root, name); err == nil && !strings.HasPrefix(rel, "..") {
				f.name = filepath.ToSlash(rel)
			}
			files = append(files, f)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// topics are those that some test of this module covers. A new one is added here together with the test that reads it.
var topics = []string{
	"devices", "dukpt-aes", "dukpt-tdes", "mac", "pinblock", "tr31",
	"refusals-keyblock", "refusals-ksn", "refusals-pin",
	"protocol-acks", "protocol-audit", "protocol-claims", "protocol-delivery", "protocol-feed", "protocol-keysets", "protocol-makers", "protocol-messages",
	"protocol-trust-list",
	"wycheproof-aes_cbc_pkcs5", "wycheproof-aes_cmac", "wycheproof-hmac_sha256", "wycheproof-hmac_sha384", "wycheproof-hmac_sha512",
}

// extra returns the folders of LATCHKEY_EXTRA_VECTORS; relative ones are below the root of the module.
func extra(root string) []string {
	var dirs []string
	for dir := range strings.SplitSeq(os.Getenv("LATCHKEY_EXTRA_VECTORS"), ":") {
		if dir == "" {
			continue
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(root, dir)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// read reads one file and refuses what is not one of vectors, and ids that name two of them.
func read(name string) (file, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return file{}, err
	}
	var f file
	err = json.Unmarshal(b, &f)
	if err != nil {
		return file{}, fmt.Errorf("%s: %w", name, err)
	}
	if f.Groups != nil {
		err = f.flatten(name)
	}
	if err != nil {
		return file{}, fmt.Errorf("%s: %w", name, err)
	}
	if f.Topic == "" || f.Vectors == nil {
		return file{}, fmt.Errorf("%s: a vector file has a topic and vectors", name)
	}
	seen := make(map[any]bool)
	for _, m := range f.Vectors {
		if id, ok := m["id"].(string); ok && seen[id] {
			return file{}, fmt.Errorf("%s: two vectors have the id %s", name, id)
		}
		seen[m["id"]] = true
	}
	return f, nil
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("vectors: no go.mod above the test")
		}
		dir = parent
	}
}
