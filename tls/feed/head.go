package feed

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Head says where the feed stands at a moment. The authority signs one for every page, so that it is a sign of life too.
type Head struct {
	Tenant   keyset.TenantID
	Epoch    uint64            // the Unix second in which it began
	Sequence uint64            // of the latest record; 0 while the epoch has none
	Hash     [sha256.Size]byte // SHA-256 of the envelope of that record; zero without one
	Time     time.Time         // by the clock of the authority, whole milliseconds
	Snapshot [sha256.Size]byte // SnapshotDigest of the records of the page if they are a snapshot, else zero
	Objects  uint64            // how many terminals the feed knows
}

var headForm = canon.NewForm(fmt.Errorf("%w: head", ErrFormat), maxRecordBytes, 64, 8)

// Marshal returns the payload of a valid head. The error wraps ErrFormat.
func (h *Head) Marshal() ([]byte, error) {
	if err := h.validate(); err != nil {
		return nil, err
	}
	return headForm.Marshal(h.wire())
}

// ParseHead reads the payload of a head. Marshal of the result gives back the same bytes. The error wraps ErrFormat.
func ParseHead(b []byte) (*Head, error) {
	var w wireHead
	if err := headForm.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	h, err := w.parse()
	if err != nil {
		return nil, headForm.Errorf("%v", err)
	}
	return canon.Spelled(headForm, h, b)
}

func (h *Head) validate() error {
	if _, err := keyset.ParseTenant(string(h.Tenant)); err != nil {
		return broken("head: %v", err)
	}
	switch {
	case h.Epoch < 1:
		return broken("head: epoch 0, want 1 or more")
	case (h.Sequence == 0) != (h.Hash == [sha256.Size]byte{}):
		return broken("head: a hash and no record, or a record and no hash")
	case h.Objects > h.Sequence || (h.Objects == 0) != (h.Sequence == 0):
		return broken("head: %d terminals after %d records", h.Objects, h.Sequence)
	case h.Time.UnixMilli() < 1 || h.Time.Nanosecond()%int(time.Millisecond) != 0:
		return broken("head: time is not in whole milliseconds since 1970")
	}
	return nil
}

// wireHead is the payload of a head.
type wireHead struct {
	Version  uint   `cbor:"v"`
	Tenant   string `cbor:"tenant"`
	Epoch    uint64 `cbor:"epoch"`
	Sequence uint64 `cbor:"sequence"`
	Hash     []byte `cbor:"hash,omitempty"`
	Time     int64  `cbor:"time"`
	Snapshot []byte `cbor:"snapshot,omitempty"`
	Objects  uint64 `cbor:"objects"`
}

func (h *Head) wire() *wireHead {
	return &wireHead{
		Version: formatVersion, Tenant: string(h.Tenant), Epoch: h.Epoch, Sequence: h.Sequence, Hash: hashBytes(h.Hash),
		Time: h.Time.UnixMilli(), Snapshot: hashBytes(h.Snapshot), Objects: h.Objects,
	}
}

func (w *wireHead) parse() (*Head, error) {
	if w.Version != formatVersion {
		return nil, fmt.Errorf("format version %d, want %d", w.Version, formatVersion)
	}
	h := &Head{
		Tenant: keyset.TenantID(w.Tenant), Epoch: w.Epoch, Sequence: w.Sequence, Time: time.UnixMilli(w.Time).UTC(),
		Objects: w.Objects,
	}
	if err := readHash(&h.Hash, w.Hash); err != nil {
		return nil, err
	}
	return h, readHash(&h.Snapshot, w.Snapshot)
}
