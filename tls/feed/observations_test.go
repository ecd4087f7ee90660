package feed

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func observed() *Observations {
	at := time.Unix(1767225600, 0).UTC()
	return &Observations{
		Confirmed:   []Confirmation{{Terminal: "T-1", Slot: 1, KeySet: "A", KeyID: keyID("1234567890123456")}},
		FirstSeen:   []Sighting{{Terminal: "T-1", KeySet: "A", KeyID: keyID("FFFF9876543210E00000"), Time: at}},
		High:        []HighMark{{Terminal: "T-1", KeySet: "A", KeyID: keyID("1234567890123456"), Ordinal: 2448023842}},
		Quarantined: []Quarantine{{Terminal: "T-1", KeySet: "A", KeyID: keyID("1234567890123456"), Reason: "KsnReplayed", Time: at}},
	}
}

func TestObservationsComeBack(t *testing.T) {
	t.Parallel()
	b, err := observed().Marshal()
	check(t, err)
	const want = `{"Confirmed":[{"Terminal":"T-1","Slot":1,"KeySet":"A","KeyID":"1234567890123456"}],` +
		`"FirstSeen":[{"Terminal":"T-1","KeySet":"A","KeyID":"FFFF9876543210E00000","Time":"2026-01-01T00:00:00Z"}],` +
		`"High":[{"Terminal":"T-1","KeySet":"A","KeyID":"1234567890123456","Ordinal":2448023842}],` +
		`"Quarantined":[{"Terminal":"T-1","KeySet":"A","KeyID":"1234567890123456","Reason":"KsnReplayed","Time":"2026-01-01T00:00:00Z"}]}`
	if string(b) != want {
		t.Errorf("got %s\nwant %s", b, want)
	}
	got, err := ParseObservations(b)
	if err != nil || !reflect.DeepEqual(got, observed()) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestObservationsRefused(t *testing.T) {
	t.Parallel()
	const one = `{"Confirmed":[{"Terminal":"T-1","Slot":1,"KeySet":"A","KeyID":"1234567890123456"}]`
	for name, body := range map[string]string{
		"nothing": "", "empty": "{}", "a list": "[]", "null": `{"High":null}`, "no entries": `{"High":[]}`,
		"unknown member": one + `,"More":1}`, "wrong case": strings.Replace(one, "Slot", "slot", 1) + "}",
		"trailing": one + "}x", "repeated": one + `,"Confirmed":[]}`, "slot 17": strings.Replace(one, `:1,`, `:17,`, 1) + "}",
		"slot as text": strings.Replace(one, `:1,`, `:"1",`, 1) + "}", "no terminal": strings.Replace(one, `"T-1"`, `""`, 1) + "}",
		"terminal in lower case": strings.Replace(one, `T-1`, `t-1`, 1) + "}", "no key id": strings.Replace(one, `,"KeyID":"1234567890123456"`, "", 1) + "}",
		"key id with a counter": strings.Replace(one, `1234567890123456`, `FFFF9876543210E00001`, 1) + "}",
		"local time":            `{"FirstSeen":[{"Terminal":"T","KeySet":"A","KeyID":"1234567890123456","Time":"2026-01-01T00:00:00+01:00"}]}`,
		"parts of a second":     `{"FirstSeen":[{"Terminal":"T","KeySet":"A","KeyID":"1234567890123456","Time":"2026-01-01T00:00:00.5Z"}]}`,
		"no time":               `{"FirstSeen":[{"Terminal":"T","KeySet":"A","KeyID":"1234567890123456"}]}`,
		"ordinal 0":             `{"High":[{"Terminal":"T","KeySet":"A","KeyID":"1234567890123456","Ordinal":0}]}`,
		"ordinal of no counter": `{"High":[{"Terminal":"T","KeySet":"A","KeyID":"FFFF9876543210E00000","Ordinal":1048576}]}`,
		"no reason":             `{"Quarantined":[{"Terminal":"T","KeySet":"A","KeyID":"1234567890123456","Time":"2026-01-01T00:00:00Z"}]}`,
		"a sentence":            `{"Quarantined":[{"Terminal":"T","KeySet":"A","KeyID":"1234567890123456","Reason":"a b","Time":"2026-01-01T00:00:00Z"}]}`,
		"too many":              `{"Confirmed":[` + strings.Repeat(`{"Terminal":"T","Slot":1,"KeySet":"A","KeyID":"1234567890123456"},`, 256) + `{"Terminal":"T","Slot":1,"KeySet":"A","KeyID":"1234567890123456"}]}`,
		"too large":             one + "}" + strings.Repeat(" ", maxObservationsBytes),
	} {
		if o, err := ParseObservations([]byte(body)); !errors.Is(err, ErrFormat) || o != nil {
			t.Errorf("%s: %+v, %v, want ErrFormat", name, o, err)
		}
	}
	if _, err := new(Observations).Marshal(); !errors.Is(err, ErrFormat) {
		t.Errorf("no observations: %v", err)
	}
	if _, err := (ObservationsAnswer{}).Marshal(); !errors.Is(err, ErrFormat) {
		t.Errorf("no answer: %v", err)
	}
	long := strings.Repeat("A", 32) // the largest that there can be
	var full Observations
	for range MaxObservations {
		full.Quarantined = append(full.Quarantined, Quarantine{
			Terminal: keyset.TerminalID(long), KeySet: keyset.ID(long), KeyID: keyID("FFFF9876543210E00000"), Reason: strings.Repeat("r", maxReason), Time: time.Unix(1, 0).UTC(),
		})
	}
	if b, err := full.Marshal(); err != nil {
		t.Errorf("the largest observations: %d bytes, %v", len(b), err)
	}
}

func TestObserve(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.put(t, "T-1", nil)
	c := Client{URLs: []string{"https://127.0.0.1:1", r.listen(t)}, HTTP: r.client(t)} // the first does not answer
	epoch, sequence, err := c.Observe(t.Context(), *observed())
	if err != nil || epoch != 1 || sequence != 1 {
		t.Fatalf("%d, %d, %v", epoch, sequence, err)
	}
	if len(r.posted) != 1 || !reflect.DeepEqual(r.posted[0], observed()) {
		t.Errorf("posted %+v", r.posted)
	}
	r.posted = nil
	var many Observations
	for i := range 600 {
		many.Confirmed = append(many.Confirmed, Confirmation{Terminal: terminalID(i), Slot: 1, KeySet: "A", KeyID: keyID(fmt.Sprintf("%016X", i+1))})
	}
	many.High = observed().High
	_, _, err = c.Observe(t.Context(), many)
	check(t, err)
	var got Observations
	for _, o := range r.posted {
		got.Confirmed, got.High = append(got.Confirmed, o.Confirmed...), append(got.High, o.High...)
	}
	if len(r.posted) != 3 || !reflect.DeepEqual(got, many) {
		t.Errorf("%d parts with %d and %d entries", len(r.posted), len(got.Confirmed), len(got.High))
	}
	if _, _, err := c.Observe(t.Context(), Observations{}); !errors.Is(err, ErrFormat) {
		t.Errorf("nothing observed: %v", err)
	}
	r.set(func() { r.down = true })
	_, _, err = c.Observe(t.Context(), *observed())
	if refused, ok := errors.AsType[*Refusal](err); !ok || refused.Status != http.StatusServiceUnavailable || refused.Code != "Unavailable" {
		t.Errorf("%v, want a Refusal", err)
	} else if refused.Error() != "feed: the authority answered 503 Unavailable" {
		t.Errorf("it says %q", refused)
	}
	for _, body := range []string{"", "{}", `{"Epoch":0,"Sequence":1}`, `{"Epoch":1,"Sequence":1,"More":1}`} {
		if a, err := parseAnswer([]byte(body)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s is an answer: %+v, %v", body, a, err)
		}
	}
	if _, _, err := (Client{URLs: c.URLs}).Observe(t.Context(), *observed()); err == nil {
		t.Error("no HTTP client")
	}
	if _, _, err := (Client{URLs: []string{"http://a"}, HTTP: c.HTTP}).Observe(t.Context(), *observed()); err == nil {
		t.Error("plain HTTP")
	}
}
