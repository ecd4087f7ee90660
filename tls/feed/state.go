package feed

import (
	"crypto/sha256"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// opened is a record whose signature has been verified, with the hash of its envelope.
type opened struct {
	*Record
	hash [sha256.Size]byte
}

// position is a place in the feed: that of a record, with the hash of its envelope. Before the first one all is zero.
type position struct {
	epoch, sequence uint64
	hash            [sha256.Size]byte
}

// state is what the feed has said up to a position.
type state struct {
	position
	terminals map[keyset.TerminalID]opened // the latest record of each
	holders   map[heldKey]keyset.TerminalID
}

// heldKey names the key of a terminal. It is comparable.
type heldKey struct {
	set keyset.ID
	id  dukpt.KeyID
}

// change is what one page adds to a state.
type change struct {
	position
	terminals map[keyset.TerminalID]opened
	whole     bool // replaces what was known
}

// apply makes the change. A state is only ever changed by what judge has returned for it.
func (s *state) apply(c *change) {
	s.position = c.position
	if c.whole {
		s.terminals, s.holders = make(map[keyset.TerminalID]opened, len(c.terminals)), make(map[heldKey]keyset.TerminalID, len(c.terminals))
	}
	for id, r := range c.terminals {
		if before, known := s.terminals[id]; known {
			for _, slot := range before.Terminal.Slots {
				if key := (heldKey{slot.KeySet, slot.KeyID}); s.holders[key] == id { // else another terminal has it by now
					delete(s.holders, key)
				}
			}
		}
		for _, slot := range r.Terminal.Slots {
			s.holders[heldKey{slot.KeySet, slot.KeyID}] = id
		}
		s.terminals[id] = r
	}
}

// judge decides on a page whose signatures have been verified: what it changes, or why it does not follow.
func (s *state) judge(h *Head, records []opened) (*change, error) {
	if err := s.forward(h); err != nil {
		return nil, err
	}
	if h.Snapshot != [sha256.Size]byte{} {
		return s.judgeSnapshot(h, records)
	}
	return s.judgeNext(h, records)
}

// forward refuses a head that lies behind what is known.
func (s *state) forward(h *Head) error {
	if h.Epoch < s.epoch || h.Epoch == s.epoch && h.Sequence < s.sequence {
		return fmt.Errorf("%w: from epoch %d, sequence %d to %d, %d", ErrRollback, s.epoch, s.sequence, h.Epoch, h.Sequence)
	}
	return nil
}

// judgeNext decides on records that are to follow the latest one that is known. They may be only some of those up to the
// head.
func (s *state) judgeNext(h *Head, records []opened) (*change, error) {
	if s.epoch == 0 || h.Epoch != s.epoch {
		return nil, disorder("epoch %d begins without a snapshot", h.Epoch)
	}
	c := &change{position: s.position, terminals: make(map[keyset.TerminalID]opened, len(records))}
	added := 0
	for _, r := range records {
		if err := c.follows(r); err != nil {
			return nil, err
		}
		before, known := c.terminals[r.Terminal.ID]
		if !known {
			before, known = s.terminals[r.Terminal.ID]
		}
		if known && r.Terminal.Generation <= before.Terminal.Generation {
			return nil, disorder("record %d takes %s back to generation %d", r.Sequence, r.Terminal.ID, r.Terminal.Generation)
		}
		if !known {
			added++
		}
		c.terminals[r.Terminal.ID] = r
		c.position = position{r.Epoch, r.Sequence, r.hash}
	}
	if h.Sequence != c.sequence {
		if h.Sequence < c.sequence || len(records) == 0 {
			return nil, disorder("head is at %d and the records end at %d", h.Sequence, c.sequence)
		}
		return c, nil // the rest comes with the next page
	}
	return c, c.adds(h, len(s.terminals)+added)
}

// follows reports whether a record is the one right after a position.
func (p position) follows(r opened) error {
	if planted.On(planted.ParseFeed) {
		return nil
	}
	if r.Epoch != p.epoch || r.Sequence != p.sequence+1 || r.Previous != p.hash {
		return disorder("record %d of epoch %d does not follow record %d of epoch %d", r.Sequence, r.Epoch, p.sequence, p.epoch)
	}
	return nil
}

// adds reports whether the head says where this position is, and how many terminals are known there.
func (p position) adds(h *Head, terminals int) error {
	if h.Hash != p.hash || h.Objects != uint64(terminals) {
		return disorder("head %d does not add up: %d terminals, want %d, or another last record", h.Sequence, terminals, h.Objects)
	}
	return nil
}

// judgeSnapshot decides on records that are to replace what is known.
func (s *state) judgeSnapshot(h *Head, records []opened) (*change, error) {
	c := &change{position: position{epoch: h.Epoch}, terminals: make(map[keyset.TerminalID]opened, len(records)), whole: true}
	digest := sha256.New()
	for _, r := range records {
		if r.Epoch != h.Epoch || r.Sequence <= c.sequence || r.Sequence == c.sequence+1 && r.Previous != c.hash {
			return nil, disorder("record %d of epoch %d in a snapshot after record %d of epoch %d", r.Sequence, r.Epoch, c.sequence, h.Epoch)
		}
		c.position = position{r.Epoch, r.Sequence, r.hash}
		c.terminals[r.Terminal.ID] = r
		digest.Write(r.hash[:])
	}
	if [sha256.Size]byte(digest.Sum(nil)) != h.Snapshot || len(records) != len(c.terminals) || c.sequence != h.Sequence {
		return nil, disorder("snapshot of %d records is not what its head says", len(records))
	}
	if err := c.adds(h, len(c.terminals)); err != nil {
		return nil, err
	}
	return c, s.keeps(c)
}

// keeps reports whether a snapshot of the same epoch agrees with what is known: nothing is missing, older or different.
// A new epoch is a new beginning.
func (s *state) keeps(c *change) error {
	if c.epoch != s.epoch {
		return nil
	}
	for id, before := range s.terminals {
		if _, ok := c.terminals[id]; !ok {
			return disorder("snapshot %d has no record of %s", c.sequence, id)
		}
		if r := c.terminals[id]; r.Sequence < before.Sequence || r.Sequence == before.Sequence && r.hash != before.hash {
			return disorder("snapshot %d has another or an older record of %s than record %d", c.sequence, id, before.Sequence)
		}
	}
	for id, r := range c.terminals {
		before, known := s.terminals[id]
		switch {
		case known && r.Sequence == before.Sequence:
		case r.Sequence <= s.sequence:
			return disorder("snapshot %d has record %d of %s, which did not come when it was due", c.sequence, r.Sequence, id)
		case known && r.Terminal.Generation <= before.Terminal.Generation:
			return disorder("snapshot %d takes %s back to generation %d", c.sequence, id, r.Terminal.Generation)
		}
	}
	return nil
}

func disorder(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrOrder, fmt.Sprintf(format, args...))
}
