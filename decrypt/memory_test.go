package decrypt_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

func newStore(testing.TB) decrypt.Store {
	return &memory{
		states: map[decrypt.CounterKey]decrypt.KeyIDState{}, rows: map[decrypt.RowKey][]decrypt.Entry{},
		requests: map[message.Digest]decrypt.Request{}, answers: map[message.Digest]decrypt.Answer{}, acks: map[message.Digest][]byte{},
	}
}

type memory struct {
	mu       sync.Mutex
	states   map[decrypt.CounterKey]decrypt.KeyIDState
	rows     map[decrypt.RowKey][]decrypt.Entry
	requests map[message.Digest]decrypt.Request
	answers  map[message.Digest]decrypt.Answer
	acks     map[message.Digest][]byte
	audit    []audit.Record
	fault    error
}

func (m *memory) State(k decrypt.CounterKey) (decrypt.KeyIDState, error) { return m.states[k], nil }
func (m *memory) Row(k decrypt.RowKey) ([]decrypt.Entry, error)          { return m.rows[k], nil }

func (m *memory) Claim(_ context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return decrypt.ClaimOutcome{}, m.fault
	}
	s, err := decrypt.Settle(&set, m)
	if err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	for k, v := range s.States {
		m.states[k] = v
	}
	m.audit = append(m.audit, set.Audit)
	if s.Refusal != nil {
		return decrypt.ClaimOutcome{}, s.Refusal
	}
	for k, v := range s.Rows {
		m.rows[k] = v
	}
	if _, ok := m.requests[set.Digest]; !ok {
		m.requests[set.Digest] = decrypt.Request{Digest: set.Digest, Original: set.Original, Tenant: set.Tenant, Context: set.Context}
	}
	if a, ok := m.answers[set.Original]; ok {
		a.Ack = m.acks[set.Digest]
		s.Outcome.Answer = &a
	}
	return s.Outcome, nil
}

func (m *memory) RecordAnswer(_ context.Context, a decrypt.Answer) (decrypt.Answer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return decrypt.Answer{}, m.fault
	}
	if old, ok := m.answers[a.Original]; ok {
		if old.Result != a.Result || !bytes.Equal(old.Body, a.Body) {
			return decrypt.Answer{}, &decrypt.Refusal{Code: decrypt.CodeAnswerConflict}
		}
		a.Again = true
	} else {
		m.answers[a.Original] = a
	}
	if old, ok := m.acks[a.Digest]; ok {
		a.Ack = old
	}
	m.acks[a.Digest] = a.Ack
	return a, nil
}

func (m *memory) LookupAnswer(_ context.Context, d message.Digest) (decrypt.Answer, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return decrypt.Answer{}, false, m.fault
	}
	original := d
	if r, ok := m.requests[d]; ok {
		original = r.Original
	}
	a, ok := m.answers[original]
	a.Ack = m.acks[d]
	return a, ok, nil
}

func (m *memory) LookupRequest(_ context.Context, d message.Digest) (decrypt.Request, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.requests[d]
	return r, ok, m.fault
}

func (m *memory) Counters(_ context.Context, base keys.Fingerprint, id dukpt.KeyID) (decrypt.KeyIDState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[decrypt.CounterKey{BaseKey: base, KeyID: id}], m.fault
}

func (m *memory) Audit(_ context.Context, r audit.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audit = append(m.audit, r)
	return m.fault
}

func (m *memory) Check(context.Context) error { return m.fault }
func (m *memory) Close() error                { return nil }
