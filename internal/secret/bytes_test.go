package secret_test

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// raw is long and odd enough that no other output contains it by chance.
var raw = []byte("\x9d\xe1sEcReT-kEy\x01\x02\xfe\xff")

// spellings are the ways in which raw could show up in text.
func spellings() []string {
	decimal := strings.Trim(fmt.Sprint(raw), "[]")
	return []string{
		string(raw), "sEcReT", hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		hex.EncodeToString([]byte("sEcReT")), strings.ToUpper(hex.EncodeToString([]byte("sEcReT"))),
		decimal, "115 69 99", "115,69,99", "0x73, 0x45, 0x63", "115, 69, 99", "neFzRWNSZVQta0V5AQL+/w", // base64
	}
}

// verbs are all of fmt, with the flags that change what is printed.
func verbs() (all []string) {
	for _, flags := range []string{"", "+", "#", "-30", "030", "# ", " ", "+#"} {
		for _, verb := range "vsxXqdpTtbcoOUeEfFgGw" {
			all = append(all, "%"+flags+string(verb))
		}
	}
	return all
}

type hidden struct {
	name string
	key  secret.Bytes
}

type deep struct {
	inner *hidden
	list  []hidden
	byKey map[string]hidden
	Open  secret.Bytes
	any   any
}

func holders(s secret.Bytes) map[string]any {
	h := hidden{"n", s}
	d := deep{&h, []hidden{h}, map[string]hidden{"k": h}, s, s}
	return map[string]any{
		"value": s, "pointer": &s, "slice": []secret.Bytes{s}, "array": [2]secret.Bytes{s, s}, "map": map[string]secret.Bytes{"k": s},
		"unexported field": h, "pointer to unexported field": &h, "deep": d, "pointer to deep": &d, "any": []any{s, &s, h, &d},
		"slice of pointers": []*hidden{&h}, "anonymous": struct{ s secret.Bytes }{s}, "embedded": struct{ secret.Bytes }{s},
	}
}

func TestPrintsNothing(t *testing.T) {
	t.Parallel()
	s := secret.From(raw)
	check := func(how, out string) {
		t.Helper()
		for _, leak := range spellings() {
			if strings.Contains(out, leak) {
				t.Errorf("%s prints %q: %q", how, leak, out)
			}
		}
	}
	for name, v := range holders(s) {
		for _, verb := range verbs() {
			check(name+" under "+verb, fmt.Sprintf(verb, v))
		}
		check(name+" by Sprint", fmt.Sprint(v)+fmt.Sprintln(v))
		check(name+" in an error", fmt.Errorf("with %v and %s", v, v).Error())
		var text, logged strings.Builder
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		check(name+" by slog text", text.String())
		check(name+" by slog JSON", logged.String())
		encoded, _ := json.Marshal(v) // an error is as good as silence
		check(name+" by JSON", string(encoded))
		var g bytes.Buffer
		_ = gob.NewEncoder(&g).Encode(v)
		check(name+" by gob", g.String())
	}
}

// TestSpellings makes sure that the test above can fail: plain bytes in the same places are found out.
func TestSpellings(t *testing.T) {
	t.Parallel()
	plain := struct{ key []byte }{raw}
	encoded, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	outputs := map[string]string{
		"%v": fmt.Sprintf("%v", plain), "%s": fmt.Sprintf("%s", plain), "%x": fmt.Sprintf("%x", plain),
		"%X": fmt.Sprintf("%X", plain), "%#v": fmt.Sprintf("%#v", raw), "JSON": string(encoded),
		"one pointer under %s": fmt.Sprintf("%s", &plain),
	}
	for how, out := range outputs {
		found := false
		for _, leak := range spellings() {
			found = found || strings.Contains(out, leak)
		}
		if !found {
			t.Errorf("plain bytes printed by %s are not noticed: %q", how, out)
		}
	}
}

func TestPlaceholder(t *testing.T) {
	t.Parallel()
	s := secret.From(raw)
	const want = "[secret]"
	text, err := s.MarshalText()
	if err != nil || string(text) != want {
		t.Fatalf("as text: %q, %v", text, err)
	}
	encoded, err := json.Marshal(map[string]any{"k": s})
	if err != nil {
		t.Fatal(err)
	}
	for how, got := range map[string]string{
		"%v": fmt.Sprintf("%v", s), "%#v": fmt.Sprintf("%#v", s), "%x": fmt.Sprintf("%x", &s), "%d": fmt.Sprintf("%d", s),
		"zero value": fmt.Sprint(secret.Bytes{}),
		"String":     s.String(), "GoString": s.GoString(),
	} {
		if got != want {
			t.Errorf("%s: got %q, want %q", how, got, want)
		}
	}
	if got := string(encoded); got != `{"k":"[secret]"}` {
		t.Errorf("JSON: got %s", got)
	}
	var b encoding.BinaryMarshaler = s
	if out, err := b.MarshalBinary(); err == nil {
		t.Errorf("MarshalBinary gave %x and no error", out)
	}
}

func TestFromCopies(t *testing.T) {
	t.Parallel()
	mine := bytes.Clone(raw)
	s := secret.From(mine)
	clear(mine)
	if !bytes.Equal(s.Expose(), raw) {
		t.Errorf("got %x, want %x: From kept the caller's slice", s.Expose(), raw)
	}
	if s.Len() != len(raw) || cap(s.Expose()) != len(raw) {
		t.Errorf("length %d and capacity %d, want %d: append could overwrite a neighbour", s.Len(), cap(s.Expose()), len(raw))
	}
}

func TestExposeIsLive(t *testing.T) {
	t.Parallel()
	s := secret.New(4)
	if !bytes.Equal(s.Expose(), make([]byte, 4)) {
		t.Errorf("New gave %x", s.Expose())
	}
	copied := s
	s.Expose()[2] = 7
	if copied.Expose()[2] != 7 {
		t.Error("a copy does not share the bytes")
	}
	cloned := s.Clone()
	s.Expose()[2] = 8
	if cloned.Expose()[2] != 7 {
		t.Error("a clone shares the bytes")
	}
}

func TestWipe(t *testing.T) {
	t.Parallel()
	s := secret.From(raw)
	copied, cloned, exposed := s, s.Clone(), s.Expose()
	s.Wipe()
	if !bytes.Equal(exposed, make([]byte, len(raw))) {
		t.Errorf("the bytes are %x after Wipe", exposed)
	}
	for name, v := range map[string]secret.Bytes{"wiped": s, "copy of the wiped": copied} {
		if v.Len() != 0 || !v.IsZero() || v.Expose() != nil {
			t.Errorf("%s has %d bytes", name, v.Len())
		}
	}
	if !bytes.Equal(cloned.Expose(), raw) {
		t.Errorf("the clone became %x", cloned.Expose())
	}
	s.Wipe()
	copied.Wipe()
	secret.Bytes{}.Wipe()
}

func TestZeroValue(t *testing.T) {
	t.Parallel()
	var s secret.Bytes
	if s.Len() != 0 || !s.IsZero() || s.Expose() != nil || !s.Clone().IsZero() {
		t.Errorf("the zero value has %d bytes", s.Len())
	}
	if !s.Equal(secret.New(0)) || s.Equal(secret.New(1)) {
		t.Error("the zero value is not the empty secret")
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	a := secret.From(raw)
	for i := range raw {
		b := a.Clone()
		if !a.Equal(b) {
			t.Fatal("a clone is not equal")
		}
		b.Expose()[i] ^= 0x80
		if a.Equal(b) {
			t.Errorf("byte %d does not count", i)
		}
	}
	if a.Equal(secret.From(raw[:len(raw)-1])) {
		t.Error("a prefix is equal")
	}
}

func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	s := secret.From(raw)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if c := s.Clone(); !c.Equal(s) || fmt.Sprint(s) != "[secret]" {
				t.Error("readers disturb each other")
			}
		})
	}
	wg.Wait()
}

func TestWipeSlice(t *testing.T) {
	t.Parallel()
	b := bytes.Clone(raw)
	secret.Wipe(b)
	if !bytes.Equal(b, make([]byte, len(raw))) {
		t.Errorf("left %x", b)
	}
	secret.Wipe(nil)
}

func TestDo(t *testing.T) {
	t.Parallel()
	out := make([]byte, 1)
	secret.Do(func() { out[0] = 42 })
	if out[0] != 42 {
		t.Error("Do did not call its function")
	}
	runtime.KeepAlive(out)
}

// TestLend shows memory for a while: whoever kept the secret has nothing afterwards, and nothing of the next time either.
func TestLend(t *testing.T) {
	t.Parallel()
	room, s := []byte("room"), secret.New(0)
	kept := s
	s.Lend(room)
	if string(kept.Expose()) != "room" {
		t.Fatalf("lent: %q", kept.Expose())
	}
	s.Wipe()
	if !kept.IsZero() || !bytes.Equal(room, make([]byte, 4)) {
		t.Errorf("after Wipe %d bytes are left of the secret, and the room is %q", kept.Len(), room)
	}
}
