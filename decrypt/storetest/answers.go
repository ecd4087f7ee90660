package storetest

import (
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/message"
)

func testAnswers(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	first, second := sale("s1", 1), sale("s2", 2)
	claimed(t, s, first, decrypt.Fresh)
	claimed(t, s, second, decrypt.Fresh)
	want := answer(first, message.Approved)
	got, err := s.RecordAnswer(t.Context(), want)
	want.Audit = got.Audit
	if d := compare(want, got); err != nil || d != "" {
		t.Fatalf("first answer: %v (-want +got):\n%s", err, d)
	}
	want.Again = true
	same := answer(first, message.Approved)
	same.Ack = []byte("an ack made later, with another time")
	if got, err = s.RecordAnswer(t.Context(), same); err != nil || compare(want, got) != "" {
		t.Errorf("same answer again: %v\n%s", err, compare(want, got))
	}
	want.Again = false
	if got, ok, err := s.LookupAnswer(t.Context(), first.Digest); err != nil || !ok || compare(want, got) != "" {
		t.Errorf("look-up: %v %v\n%s", ok, err, compare(want, got))
	}

	before := h.Dump(t, s)
	otherBody, stranger, mixed := answer(first, message.Approved), answer(second, message.Approved), answer(second, message.Approved)
	otherBody.Body = []byte("auth 999999")
	stranger.Tenant = "ELSEWHERE"
	mixed.Original = first.Digest
	for name, c := range map[string]struct {
		a    decrypt.Answer
		code decrypt.Code
	}{
		"another result": {answer(first, message.Declined), decrypt.CodeAnswerConflict},
		"another body":   {otherBody, decrypt.CodeAnswerConflict},
		"no request":     {answer(sale("s3", 3), message.Approved), decrypt.CodeRequestUnknown},
		"another tenant": {stranger, decrypt.CodeRequestUnknown},
		"mixed digests":  {mixed, decrypt.CodeRequestUnknown},
	} {
		if _, err := s.RecordAnswer(t.Context(), c.a); codeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	unchanged(t, before, h.Dump(t, s))
	if _, ok, err := s.LookupAnswer(t.Context(), second.Digest); ok || err != nil {
		t.Errorf("a message without answer has one: %v %v", ok, err)
	}
	if _, ok, err := s.LookupRequest(t.Context(), digest("s3")); ok || err != nil {
		t.Errorf("a message that never came is known: %v %v", ok, err)
	}
}

func testAnswersRace(t *testing.T, h Harness) {
	const racers = 8
	s := h.open(t, t.TempDir())
	one := sale("s1", 1)
	claimed(t, s, one, decrypt.Fresh)
	var mu sync.Mutex
	results := make(map[message.Result]int)
	together(racers, func(i int) {
		result := message.Approved
		if i%2 == 1 {
			result = message.Declined
		}
		a, err := s.RecordAnswer(t.Context(), answer(one, result))
		if err != nil && codeOf(err) != decrypt.CodeAnswerConflict {
			t.Errorf("answer: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		results[a.Result]++
	})
	if results[0] != racers/2 || len(results) != 2 {
		t.Errorf("%v, want one decision and %d conflicts", results, racers/2)
	}
}
