package canon_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/canon"
)

var (
	errForm = errors.New("room: malformed")
	form    = canon.NewForm(errForm, 32, 16, 4)
)

// shelf is a value of a form; its version and its name are checked.
type shelf struct{ Name string }

func (s shelf) Marshal() ([]byte, error) {
	if s.Name == "" {
		return nil, form.Errorf("no name")
	}
	return form.Marshal(value{Version: 1, Name: s.Name})
}

// word is a text of lower-case letters; as bytes it is the same.
type word string

func (w *word) UnmarshalText(b []byte) error {
	if *w = word(b); string(b) != strings.ToLower(string(b)) {
		return errors.New("not in lower case")
	}
	return nil
}

func (w *word) UnmarshalBinary(b []byte) error { return w.UnmarshalText(b) }

func TestForm(t *testing.T) {
	t.Parallel()
	b, err := shelf{"books"}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := canon.Spelled(form, shelf{"books"}, b); err != nil || got.Name != "books" {
		t.Errorf("as it is written: %v, %v", got, err)
	}
	long := value{Name: strings.Repeat("x", 32)}
	_, tooLong := form.Marshal(long)
	_, otherwise := canon.Spelled(form, shelf{"bricks"}, b)
	_, checked := canon.Spelled(form, shelf{}, b)
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"written too long": {tooLong, "want at most 32"},
		"read too long":    {form.Unmarshal(make([]byte, 33), new(value)), "33 bytes, want at most 32"},
		"no CBOR":          {form.Unmarshal([]byte{0xff}, new(value)), "cbor"},
		"another type":     {form.Unmarshal(b, new([]int)), "cbor"},
		"no value":         {marshalled(func() {}), "cbor"},
		"another value":    {otherwise, "not the deterministic encoding"},
		"no such value":    {checked, "no name"},
	} {
		if !errors.Is(c.err, errForm) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, c.err, c.says)
		}
	}
}

func marshalled(v any) error {
	_, err := form.Marshal(v)
	return err
}

func TestReader(t *testing.T) {
	t.Parallel()
	r := form.Reader()
	var a, b, none word
	r.Version(1, 1)
	r.Text(&a, "one")
	r.Binary(&b, []byte("two"))
	r.Binary(&none, nil)
	if r.Err != nil || a != "one" || b != "two" || none != "" {
		t.Errorf("read %q, %q, %q, %v", a, b, none, r.Err)
	}
	for name, fail := range map[string]func(*canon.Reader){
		"version": func(r *canon.Reader) { r.Version(2, 1) },
		"text":    func(r *canon.Reader) { r.Text(new(word), "ONE") },
		"bytes":   func(r *canon.Reader) { r.Binary(new(word), []byte("TWO")) },
	} {
		r := form.Reader()
		fail(&r)
		first := r.Err
		if !errors.Is(first, errForm) {
			t.Errorf("%s: %v", name, first)
		}
		var after word
		r.Text(&after, "late")
		r.Binary(&after, []byte("late"))
		r.Version(3, 1)
		if r.Err.Error() != first.Error() || after != "" {
			t.Errorf("%s: after the first error it reads %q and says %v", name, after, r.Err)
		}
	}
}

func ExampleForm() {
	form := canon.NewForm(errors.New("shop: malformed order"), 64, 16, 4)
	b, err := form.Marshal(map[string]int{"v": 1})
	fmt.Printf("%x %v\n", b, err)
	var v map[string]int
	fmt.Println(form.Unmarshal(append(b, 0), &v))
	// Output:
	// a1617601 <nil>
	// shop: malformed order: cbor: 1 bytes of extraneous data starting at index 4
}
