package aws

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/serve"
)

// TestErrorsPage compares ExceptionOf with the second table of docs/errors.md, in both directions.
func TestErrorsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.FromSlash("../../docs/errors.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]string)
	for line := range strings.Lines(string(page)) {
		m := regexp.MustCompile(`^\| ([A-Za-z]+Exception) \| ([0-9]+) \| (.*) \|$`).FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		for _, code := range strings.Split(m[3], ", ") {
			documented[strings.Trim(code, "`")] = m[1] + " " + m[2]
		}
	}
	for _, c := range decrypt.Codes() {
		e := ExceptionOf(c.Code)
		if want := fmt.Sprintf("%s %d", e.Name, e.Status); documented[string(c.Code)] != want {
			t.Errorf("docs/errors.md has %q for %s, want %q", documented[string(c.Code)], c.Code, want)
		}
		delete(documented, string(c.Code))
	}
	for code := range documented {
		t.Errorf("docs/errors.md lists %s, which does not exist", code)
	}
}

// TestExceptions: what the service could not do is tried again, nothing else is, and clients find the name of the exception.
func TestExceptions(t *testing.T) {
	t.Parallel()
	for _, c := range decrypt.Codes() {
		w := httptest.NewRecorder()
		if got := throw(w, &decrypt.Refusal{Code: c.Code, Detail: "KSN 1"}); got != c.Code {
			t.Errorf("%s is thrown as %s", c.Code, got)
		}
		var body exceptionBody
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		e := ExceptionOf(c.Code)
		if w.Code != e.Status || body.Type != e.Name || w.Header().Get(typeHeader) != e.Name || body.Code != string(c.Code) || body.Hint != c.Hint ||
			body.Message != string(c.Code)+": "+c.Meaning+": KSN 1" || body.Reason != e.Reason {
			t.Errorf("%s: %d %+v", c.Code, w.Code, body)
		}
		if again := w.Code >= 500; again != (c.HTTPStatus >= 500) {
			t.Errorf("%s is tried again: %v", c.Code, again)
		}
	}
	w := httptest.NewRecorder()
	throw(w, fmt.Errorf("what only the log may say"))
	if w.Code != 500 || strings.Contains(w.Body.String(), "log may") {
		t.Errorf("a fault of our own: %d %s", w.Code, w.Body)
	}
	for _, p := range serve.Problems() {
		if code := throw(httptest.NewRecorder(), &p); string(code) != p.Code {
			t.Errorf("%s is thrown as %s", p.Code, code)
		}
	}
	w = httptest.NewRecorder()
	throw(w, invalid("Mac", "is missing"))
	if !strings.Contains(w.Body.String(), `"fieldList":[{"path":"Mac","message":"is missing"}]`) {
		t.Errorf("a member: %s", w.Body)
	}
}

// TestNoSecretIsPrinted prints requests and answers under every verb.
func TestNoSecretIsPrinted(t *testing.T) {
	t.Parallel()
	var in translatePinDataInput
	if err := read([]byte(goodTranslation), &in); err != nil {
		t.Fatal(err)
	}
	out := output{PlainText: hexBytes("4761739001010119"), Mac: hexBytes("4761739001010119")}
	var text strings.Builder
	for _, v := range []any{in, &in, *in.IncomingTranslationAttributes.IsoFormat0, out, &out, out.PlainText} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
	}
	for _, secret := range []string{"4761739001010119", "34373631", "A1B2C3D4", "a1b2c3d4"} {
		if slices.Contains(strings.FieldsFunc(text.String(), func(r rune) bool { return strings.ContainsRune(" {}\"\n", r) }), secret) || strings.Contains(text.String(), secret) {
			t.Errorf("%s is printed", secret)
		}
	}
}
