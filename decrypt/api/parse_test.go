package api

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParseTransactionRequest(t *testing.T) {
	t.Parallel()
	got, err := ParseTransactionRequest([]byte(` {"Message":"AQID","OutgoingPINKey":"alias/zone-1","OutgoingPINFormat":"ISO_FORMAT_4"} ` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := TransactionRequest{Message: []byte{1, 2, 3}, OutgoingPINKey: "alias/zone-1", OutgoingPINFormat: "ISO_FORMAT_4"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseTransactionRequestRefuses(t *testing.T) {
	t.Parallel()
	large := `{"Message":"` + strings.Repeat("AAAA", MaxMessage/3+1) + `"}`
	tests := []struct {
		name, body string
		want       error
	}{
		{"empty", "", ErrMalformed},
		{"null", "null", ErrMalformed},
		{"array", "[]", ErrMalformed},
		{"array of the object", `[{"Message":"AQID"}]`, ErrMalformed},
		{"text", `"Message"`, ErrMalformed},
		{"no members", `{}`, ErrMalformed},
		{"null message", `{"Message":null}`, ErrMalformed},
		{"empty message", `{"Message":""}`, ErrMalformed},
		{"null optional member", `{"Message":"AQID","OutgoingPINKey":null}`, ErrMalformed},
		{"empty optional member", `{"Message":"AQID","OutgoingPINKey":""}`, ErrMalformed},
		{"unknown member", `{"Message":"AQID","Extra":1}`, ErrMalformed},
		{"wrong-case member", `{"message":"AQID"}`, ErrMalformed},
		{"wrong case beside the right one", `{"Message":"AQID","message":"AQID"}`, ErrMalformed},
		{"repeated member", `{"Message":"AQID","Message":"AQID"}`, ErrMalformed},
		{"repeated member, escaped", `{"Message":"AQID","\u004dessage":"AQID"}`, ErrMalformed},
		{"trailing object", `{"Message":"AQID"}{}`, ErrMalformed},
		{"trailing letter", `{"Message":"AQID"}x`, ErrMalformed},
		{"trailing comma", `{"Message":"AQID",}`, ErrMalformed},
		{"truncated", `{"Message":"AQID"`, ErrMalformed},
		{"number for text", `{"Message":3}`, ErrMalformed},
		{"array of bytes", `{"Message":[1,2,3]}`, ErrMalformed},
		{"base64 without padding", `{"Message":"AQI"}`, ErrMalformed},
		{"base64 of the URL kind", `{"Message":"_-__"}`, ErrMalformed},
		{"base64 with a line feed", `{"Message":"AQ\nID"}`, ErrMalformed},
		{"bytes that are not UTF-8", "{\"Message\":\"AQID\",\"OutgoingPINKey\":\"\xff\"}", ErrMalformed},
		{"byte order mark", "\xef\xbb\xbf" + `{"Message":"AQID"}`, ErrMalformed},
		{"unknown format", `{"Message":"AQID","OutgoingPINFormat":"ISO_FORMAT_1"}`, ErrMalformed},
		{"long key name", `{"Message":"AQID","OutgoingPINKey":"` + strings.Repeat("a", maxName+1) + `"}`, ErrMalformed},
		{"deep", strings.Repeat(`{"Message":`, 2000) + `1` + strings.Repeat(`}`, 2000), ErrMalformed},
		{"message too large", large, ErrTooLarge},
		{"body too large", `{"Message":"AQID"}` + strings.Repeat(" ", MaxBody), ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseTransactionRequest([]byte(tt.body))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %+v, %v; want %v", got, err, tt.want)
			}
			if !reflect.DeepEqual(got, TransactionRequest{}) {
				t.Errorf("a refused body left %+v behind", got)
			}
		})
	}
}

// Errors go to logs, and a body may hold what must not.
func TestErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"Message":"4111111111111111"}`, `{"Message":4111111111111111}`, `{"4111111111111111":1}`,
		`{"Message":"AQID","OutgoingPINFormat":"4111111111111111"}`, `{"Message":"AQID"}4111111111111111`,
		`{"Message":"AQID","4111111111111111":1,"4111111111111111":2}`,
	} {
		_, err := ParseTransactionRequest([]byte(body))
		if err != nil && strings.Contains(err.Error(), "4111111111111111") {
			t.Errorf("error quotes the body: %v", err)
		}
	}
}

func TestParseAnswerRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, body string
		want       error
	}{
		{"approved", `{"RequestDigest":"` + digest + `","Result":"APPROVED"}`, nil},
		{"declined with a body", `{"RequestDigest":"` + digest + `","Result":"DECLINED","Body":"AQID"}`, nil},
		{"no result", `{"RequestDigest":"` + digest + `"}`, ErrMalformed},
		{"other result", `{"RequestDigest":"` + digest + `","Result":"Approved"}`, ErrMalformed},
		{"no digest", `{"Result":"APPROVED"}`, ErrMalformed},
		{"upper-case digest", `{"RequestDigest":"` + strings.ToUpper(digest) + `","Result":"APPROVED"}`, ErrMalformed},
		{"short digest", `{"RequestDigest":"` + digest[1:] + `","Result":"APPROVED"}`, ErrMalformed},
		{"null body", `{"RequestDigest":"` + digest + `","Result":"APPROVED","Body":null}`, ErrMalformed},
		{"unknown member", `{"RequestDigest":"` + digest + `","Result":"APPROVED","Ack":"AQID"}`, ErrMalformed},
		{"repeated member", `{"RequestDigest":"` + digest + `","Result":"APPROVED","Result":"DECLINED"}`, ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseAnswerRequest([]byte(tt.body))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %+v, %v; want %v", got, err, tt.want)
			}
			if tt.want == nil && (got.RequestDigest != digest || got.Result == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// FuzzParseTransactionRequest holds the parser to three things: what it accepts is stable under writing and reading
// again; it names only our members, as an independent reader sees them; and each body it accepts is refused once anything
// is added to it.
func FuzzParseTransactionRequest(f *testing.F) {
	f.Add([]byte(`{"Message":"AQID"}`))
	f.Add([]byte(`{"Message":"AQID","OutgoingPINKey":"alias/zone-1","OutgoingPINFormat":"ISO_FORMAT_4"}`))
	f.Add([]byte("{\"OutgoingPINFormat\":\"ISO_FORMAT_0\",\n\t\"Message\" : \"\\u0041QID\"}"))
	f.Add([]byte(`{"message":"AQID"}`))
	f.Add([]byte(`{"Message":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseTransactionRequest(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("unnamed error %v", err)
			}
			if !reflect.DeepEqual(r, TransactionRequest{}) {
				t.Fatalf("a refused body left %+v behind", r)
			}
			return
		}
		again, err := Format(r)
		if err != nil {
			t.Fatalf("accepted and not writable: %v", err)
		}
		r2, err := ParseTransactionRequest(again)
		if err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%s gives %+v, written and read again %+v, %v", body, r, r2, err)
		}
		onlyOurMembers(t, body)
		stricterThanItsBody(t, bytes.TrimSpace(body))
	})
}

func onlyOurMembers(t *testing.T, body []byte) {
	t.Helper()
	var members map[string]stdjson.RawMessage
	if err := stdjson.Unmarshal(body, &members); err != nil {
		t.Fatalf("accepted %q, encoding/json says %v", body, err)
	}
	for name, value := range members {
		if !slices.Contains([]string{"Message", "OutgoingPINKey", "OutgoingPINFormat"}, name) {
			t.Fatalf("accepted the member %q", name)
		}
		if string(value) == "null" {
			t.Fatalf("accepted null for %q", name)
		}
	}
}

// stricterThanItsBody adds to a body that was accepted; each addition must be refused.
func stricterThanItsBody(t *testing.T, body []byte) {
	t.Helper()
	open := body[:len(body)-1] // without the closing brace
	for name, worse := range map[string]string{
		"unknown member":    string(open) + `,"Extra":"x"}`,
		"wrong-case member": string(open) + `,"mEssage":"AQID"}`,
		"repeated member":   string(open) + `,"Message":"AQID"}`,
		"null member":       string(open) + `,"Other":null}`,
		"trailing byte":     string(body) + "x",
		"second object":     string(body) + string(body),
	} {
		if len(worse) > MaxBody {
			continue
		}
		if _, err := ParseTransactionRequest([]byte(worse)); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%s: %q gives %v, want %v", name, worse, err, ErrMalformed)
		}
	}
}
