package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

func TestBytes(t *testing.T) {
	t.Parallel()
	raw := []byte{1, 2, 3}
	s := secret.From(raw)
	raw[0] = 9
	if !bytes.Equal(s.Expose(), []byte{1, 2, 3}) {
		t.Errorf("From keeps its argument: %v", s.Expose())
	}
	shared, own := s, s.Clone()
	if !s.Equal(own) || s.Equal(secret.From([]byte{1, 2})) || s.Equal(secret.Bytes{}) {
		t.Error("Equal is wrong")
	}
	if cap(s.Expose()) != 3 {
		t.Error("there is room to append behind a secret")
	}
	live := s.Expose()
	s.Wipe()
	s.Wipe()
	if !bytes.Equal(live, []byte{0, 0, 0}) {
		t.Errorf("wiped bytes are %v", live)
	}
	if shared.Len() != 0 || !shared.IsZero() || own.Len() != 3 {
		t.Error("Wipe reaches copies, not clones")
	}
	var zero secret.Bytes
	zero.Wipe()
	if zero.Len() != 0 || zero.Expose() != nil || !zero.IsZero() {
		t.Error("the zero value is not empty")
	}
	if secret.New(4).Len() != 4 {
		t.Error("New")
	}
	ran := false
	secret.Do(func() { ran = true })
	if !ran {
		t.Error("Do did not")
	}
}

type holder struct {
	hidden secret.Bytes
	Open   secret.Bytes
}

// TestPrint searches everything that printing can give for the bytes in the forms they could take.
func TestPrint(t *testing.T) {
	t.Parallel()
	raw := []byte("Abra-kadabra-16!")
	s := secret.From(raw)
	values := []any{
		s, &s, holder{s, s}, &holder{s, s}, []secret.Bytes{s}, map[string]secret.Bytes{"k": s}, [1]holder{{s, s}},
		struct{ any }{s}, struct{ *holder }{&holder{s, s}},
	}
	var out strings.Builder
	text := slog.New(slog.NewTextHandler(&out, nil))
	js := slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%q", "%d", "%o", "%b", "%c", "%U", "%p", "%t", "%e"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		text.Info("v", "v", v)
		js.Info("v", "v", v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	leaks := []string{
		string(raw), string(raw[:8]), string(raw[8:]), hex.EncodeToString(raw[:8]), strings.ToUpper(hex.EncodeToString(raw[8:])),
		base64.StdEncoding.EncodeToString(raw)[:16], strings.Trim(fmt.Sprint(raw[:4]), "[]"), "0x41, 0x62", "% 41 62"[2:],
	}
	for _, leak := range leaks {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed %q", leak)
		}
	}
	if out.Len() < 1000 {
		t.Error("nothing was printed")
	}
	// The same search finds bytes that are not a secret.
	if naked := fmt.Sprintf("%v %x", holderOfBytes{raw}, raw); !strings.Contains(naked, leaks[6]) || !strings.Contains(naked, leaks[3]) {
		t.Error("the search would miss a leak")
	}
	if _, err := s.MarshalBinary(); err == nil {
		t.Error("a secret marshals to bytes")
	}
}

type holderOfBytes struct{ b []byte }
