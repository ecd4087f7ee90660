package feed

import (
	"iter"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/strictjson"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// MaxObservations is how many entries one Observations may have, all lists together. Their JSON has at most 64 KiB.
const MaxObservations = 256

const (
	maxObservationsBytes = 64 << 10
	maxReason            = 64
)

// Observations are what a listener tells the authority about terminals. Saying the same twice changes nothing.
type Observations struct {
	Confirmed   []Confirmation `json:",omitempty"`
	FirstSeen   []Sighting     `json:",omitempty"`
	High        []HighMark     `json:",omitempty"`
	Quarantined []Quarantine   `json:",omitempty"`
}

// Confirmation says that a terminal has shown that it holds a key: a MAC under it has verified.
type Confirmation struct {
	Terminal keyset.TerminalID
	Slot     uint8
	KeySet   keyset.ID
	KeyID    dukpt.KeyID
}

// Sighting says when a key id came for the first time.
type Sighting struct {
	Terminal keyset.TerminalID
	KeySet   keyset.ID
	KeyID    dukpt.KeyID
	Time     time.Time // whole seconds, UTC
}

// HighMark says how far a key is used up.
type HighMark struct {
	Terminal keyset.TerminalID
	KeySet   keyset.ID
	KeyID    dukpt.KeyID
	Ordinal  uint32 // highest one that a MAC has verified for
}

// Quarantine says that there is evidence of a clone or a roll-back.
type Quarantine struct {
	Terminal keyset.TerminalID
	KeySet   keyset.ID
	KeyID    dukpt.KeyID
	Reason   string    // a code: 1 to 64 letters, digits and hyphens
	Time     time.Time // whole seconds, UTC
}

// ObservationsAnswer says which record is the last that the observations led to: a listener that waits for it sees what
// became of them.
type ObservationsAnswer struct {
	Epoch    uint64
	Sequence uint64
}

// ParseObservations reads the JSON body of POST /registry/observations: one object with these members, at least one
// entry, and nothing unknown, repeated, null or trailing. The error wraps ErrFormat and quotes no value.
func ParseObservations(body []byte) (*Observations, error) {
	var o Observations
	if err := parseJSON(body, maxObservationsBytes, &o); err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &o, nil
}

// Marshal returns the JSON of valid observations. The error wraps ErrFormat.
func (o *Observations) Marshal() ([]byte, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return formatJSON(o, maxObservationsBytes)
}

// Marshal returns the JSON of an answer. The error wraps ErrFormat.
func (a ObservationsAnswer) Marshal() ([]byte, error) {
	if a.Epoch < 1 {
		return nil, broken("answer of epoch 0")
	}
	return formatJSON(a, maxAnswerBytes)
}

func parseAnswer(body []byte) (ObservationsAnswer, error) {
	var a ObservationsAnswer
	if err := parseJSON(body, maxAnswerBytes, &a); err != nil {
		return ObservationsAnswer{}, err
	}
	if a.Epoch < 1 {
		return ObservationsAnswer{}, broken("answer of epoch 0")
	}
	return a, nil
}

func (o *Observations) size() int {
	return len(o.Confirmed) + len(o.FirstSeen) + len(o.High) + len(o.Quarantined)
}

func (o *Observations) validate() error {
	if n := o.size(); n < 1 || n > MaxObservations {
		return broken("%d observations, want 1 to %d", n, MaxObservations)
	}
	for _, c := range o.Confirmed {
		if err := first(checkKey(c.Terminal, c.KeySet, c.KeyID), checkNumber("slot", c.Slot >= 1 && c.Slot <= keyset.MaxSlots)); err != nil {
			return err
		}
	}
	for _, s := range o.FirstSeen {
		if err := first(checkKey(s.Terminal, s.KeySet, s.KeyID), checkUTC(s.Time)); err != nil {
			return err
		}
	}
	for _, h := range o.High {
		inside := h.Ordinal >= 1 && h.Ordinal <= h.KeyID.Scheme().MaxOrdinal()
		if err := first(checkKey(h.Terminal, h.KeySet, h.KeyID), checkNumber("ordinal", inside)); err != nil {
			return err
		}
	}
	for _, q := range o.Quarantined {
		if err := first(checkKey(q.Terminal, q.KeySet, q.KeyID), checkUTC(q.Time), checkReason(q.Reason)); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(terminal keyset.TerminalID, set keyset.ID, id dukpt.KeyID) error {
	if !isName(string(terminal)) || !isName(string(set)) || id.IsZero() {
		return broken("terminal, key set or key id is missing or is none")
	}
	return nil
}

func checkNumber(what string, inside bool) error {
	if !inside {
		return broken("%s is out of range", what)
	}
	return nil
}

func checkUTC(t time.Time) error {
	if _, offset := t.Zone(); offset != 0 {
		return broken("time is not in UTC")
	}
	if err := checkTime("time", t); err != nil {
		return broken("%v", err)
	}
	if t.Year() > 9999 {
		return broken("time is beyond the year 9999")
	}
	return nil
}

func checkReason(s string) error {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"
	if len(s) < 1 || len(s) > maxReason || strings.Trim(s, letters) != "" {
		return broken("reason is not 1 to %d letters, digits and hyphens", maxReason)
	}
	return nil
}

// parts yields the observations in parts that are not too large.
func (o *Observations) parts() iter.Seq[*Observations] {
	return func(yield func(*Observations) bool) {
		rest := *o
		for first := true; first || rest.size() > 0; first = false {
			room := MaxObservations
			part := &Observations{
				Confirmed: take(&rest.Confirmed, &room), FirstSeen: take(&rest.FirstSeen, &room),
				High: take(&rest.High, &room), Quarantined: take(&rest.Quarantined, &room),
			}
			if !yield(part) {
				return
			}
		}
	}
}

// take takes as many elements from the front of a list as there is room for.
func take[T any](list *[]T, room *int) []T {
	n := min(len(*list), *room)
	taken := (*list)[:n:n]
	*list = (*list)[n:]
	*room -= n
	return taken
}

func formatJSON(v any, limit int) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, broken("%v", err)
	}
	if len(b) > limit {
		return nil, broken("%d bytes, want at most %d", len(b), limit)
	}
	return b, nil
}

// parseJSON reads one JSON object into v. Its errors say where and not what.
func parseJSON(body []byte, limit int, v any) error {
	if err := strictjson.Read(body, limit, false, v); err != nil {
		return broken("%v", err)
	}
	return nil
}
