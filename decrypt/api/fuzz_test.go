package api

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

// FuzzParseAnswerRequest holds the parser to the same as FuzzParseTransactionRequest.
func FuzzParseAnswerRequest(f *testing.F) {
	f.Add([]byte(`{"RequestDigest":"` + digest + `","Result":"APPROVED"}`))
	f.Add([]byte(`{"RequestDigest":"` + digest + `","Result":"DECLINED","Body":"AQID"}`))
	f.Add([]byte(`{"RequestDigest":"` + digest + `","Result":"DECLINED","Body":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseAnswerRequest(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		again, err := Format(r)
		if err != nil {
			t.Fatalf("accepted and not writable: %v", err)
		}
		r2, err := ParseAnswerRequest(again)
		if err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%s gives %+v, written and read again %+v, %v", body, r, r2, err)
		}
		open := bytes.TrimSpace(body)
		open = open[:len(open)-1]
		for _, more := range []string{`,"Extra":"x"}`, `,"Result":"APPROVED"}`, `,"result":"APPROVED"}`, `,"More":null}`, `}x`} {
			worse := append(bytes.Clone(open), more...)
			if len(worse) > MaxBody {
				continue
			}
			if _, err := ParseAnswerRequest(worse); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q gives %v, want %v", worse, err, ErrMalformed)
			}
		}
	})
}

// FuzzResponse holds the reader of answers to stability: what the client accepts is written and read again alike.
func FuzzResponse(f *testing.F) {
	f.Add([]byte(`{"RequestDigest":"` + digest + `","Type":"sale","Tenant":"ACME","Terminal":"T-1","BootCounter":1,"Sequence":18446744073709551615,` +
		`"Amount":{"Minor":-5,"Currency":"EUR","Exponent":2},"CounterStatus":"FRESH","CounterAuthenticated":true,"Fields":[{"Slot":1,"KSN":"FF",` +
		`"Usage":"data","KeySet":"K","KCV":"00","ClearData":"AQID","Labels":{"KeyMode":"software","PINExposure":"none","Environment":"test"}}]}`))
	f.Add([]byte(`{"RequestDigest":"` + digest + `","CounterStatus":"NONE","Code":"Held","Held":true,"Ack":"AQID"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var r TransactionResponse
		if parseResponse(body, &r) != nil || r.validate() != nil {
			return
		}
		again, err := Format(r)
		if errors.Is(err, ErrTooLarge) {
			return // escapes may make a text longer
		}
		if err != nil {
			t.Fatalf("accepted and not writable: %v", err)
		}
		var r2 TransactionResponse
		if err := parseResponse(again, &r2); err != nil {
			t.Fatalf("%s is written as %s, which is refused: %v", body, again, err)
		}
		third, err := Format(r2)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s is written as %s, then as %s, %v", body, again, third, err)
		}
	})
}

// FuzzParseBatchRequest holds the parser to the same as FuzzParseTransactionRequest.
func FuzzParseBatchRequest(f *testing.F) {
	f.Add([]byte(`{"Transactions":[{"Message":"AQID"},{"Message":"AQID","OutgoingPINKey":"alias/zone-1","OutgoingPINFormat":"ISO_FORMAT_4"}]}`))
	f.Add([]byte(`{"Transactions":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseBatchRequest(body)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		again, err := Format(r)
		if err != nil {
			t.Fatalf("accepted and not writable: %v", err)
		}
		r2, err := ParseBatchRequest(again)
		if err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%s gives %+v, written and read again %+v, %v", body, r, r2, err)
		}
		if worse := bytes.Replace(again, []byte(`{"Message"`), []byte(`{"Extra":"x","Message"`), 1); len(worse) <= MaxBatchBody {
			if _, err := ParseBatchRequest(worse); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q gives %v, want %v", worse, err, ErrMalformed)
			}
		}
	})
}
