package audit

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
)

// Version is the version of the record format.
const Version = 1

// MaxRecord bounds an encoded record in bytes.
const MaxRecord = 8 << 10

// maxApprovals bounds how many persons approved one thing.
const maxApprovals = 16

// ErrRecord is wrapped by every error about a record that breaks the format.
var ErrRecord = errors.New("audit: malformed record")

// Record says who did what to what, and what came of it. It holds nothing secret: KSNs, check values and masked card
// numbers are public. Members that are empty are not written.
type Record struct {
	Time      time.Time // of the instance; kept in milliseconds, UTC
	Instance  string    // who keeps the log; required
	Sequence  uint64    // place in the log, from 1; set by the store
	Actor     string    // name of the caller
	Role      string    // role of the caller
	Tenant    string
	Source    string   // network address
	Action    string   // required, such as "transaction/sale"
	Object    string   // what it was done to, such as a KSN
	Result    string   // required, such as "FRESH" or "REFUSED"
	Reason    string   // code of a refusal
	Digest    [32]byte // SHA-256 of the request
	KCV       string   // check value of the key that was used
	Labels    Labels
	Approvals []string // who approved it
}

// Labels say how the key that was used is held. The zero value is none.
type Labels struct {
	KeyMode     string `cbor:"key-mode,omitempty"`
	PINExposure string `cbor:"pin-exposure,omitempty"`
	Environment string `cbor:"environment,omitempty"`
}

// recordWire is the CBOR form of a Record.
type recordWire struct {
	Version   *uint    `cbor:"v"`
	Time      *int64   `cbor:"time"`
	Instance  *string  `cbor:"instance"`
	Sequence  *uint64  `cbor:"sequence"`
	Actor     string   `cbor:"actor,omitempty"`
	Role      string   `cbor:"role,omitempty"`
	Tenant    string   `cbor:"tenant,omitempty"`
	Source    string   `cbor:"source,omitempty"`
	Action    *string  `cbor:"action"`
	Object    string   `cbor:"object,omitempty"`
	Result    *string  `cbor:"result"`
	Reason    string   `cbor:"reason,omitempty"`
	Digest    []byte   `cbor:"digest,omitempty"`
	KCV       string   `cbor:"kcv,omitempty"`
	Labels    *Labels  `cbor:"labels,omitempty"`
	Approvals []string `cbor:"approvals,omitempty"`
}

var codec = canon.New(16, 4)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRecord, fmt.Sprintf(format, args...))
}

// check reports the first rule that the record breaks.
func (r *Record) check() error {
	switch {
	case r.Instance == "":
		return malformed("no instance")
	case r.Action == "":
		return malformed("no action")
	case r.Result == "":
		return malformed("no result")
	case len(r.Approvals) > maxApprovals:
		return malformed("%d approvals, want at most %d", len(r.Approvals), maxApprovals)
	}
	return nil
}

// Encode returns the deterministic CBOR form (RFC 8949, 4.2.1). It fails with ErrRecord without a required member and
// beyond MaxRecord.
func (r *Record) Encode() ([]byte, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	version, at := uint(Version), r.Time.UnixMilli()
	w := recordWire{
		Version: &version, Time: &at, Instance: &r.Instance, Sequence: &r.Sequence, Actor: r.Actor, Role: r.Role,
		Tenant: r.Tenant, Source: r.Source, Action: &r.Action, Object: r.Object, Result: &r.Result, Reason: r.Reason,
		KCV: r.KCV, Approvals: r.Approvals,
	}
	if r.Digest != [32]byte{} {
		w.Digest = r.Digest[:]
	}
	if r.Labels != (Labels{}) {
		w.Labels = &r.Labels
	}
	b, err := codec.Marshal(w)
	if err != nil {
		return nil, malformed("%v", err)
	}
	if len(b) > MaxRecord {
		return nil, malformed("%d bytes, want at most %d", len(b), MaxRecord)
	}
	return b, nil
}

// ParseRecord reads what Encode makes, in that spelling only. It fails with ErrRecord.
func ParseRecord(b []byte) (Record, error) {
	if len(b) > MaxRecord {
		return Record{}, malformed("%d bytes, want at most %d", len(b), MaxRecord)
	}
	var w recordWire
	if err := codec.Unmarshal(b, &w); err != nil {
		return Record{}, malformed("%v", err)
	}
	r, err := w.record()
	if err != nil {
		return Record{}, err
	}
	again, err := r.Encode()
	if err != nil {
		return Record{}, err
	}
	if !bytes.Equal(again, b) {
		return Record{}, malformed("not the deterministic encoding of its content")
	}
	return r, nil
}

func (w *recordWire) record() (Record, error) {
	if w.Version == nil || *w.Version != Version {
		return Record{}, malformed("not of version %d", Version)
	}
	if w.Time == nil || w.Instance == nil || w.Sequence == nil || w.Action == nil || w.Result == nil {
		return Record{}, malformed("time, instance, sequence, action or result is missing")
	}
	r := Record{
		Time: time.UnixMilli(*w.Time).UTC(), Instance: *w.Instance, Sequence: *w.Sequence, Actor: w.Actor, Role: w.Role,
		Tenant: w.Tenant, Source: w.Source, Action: *w.Action, Object: w.Object, Result: *w.Result, Reason: w.Reason,
		KCV: w.KCV, Approvals: w.Approvals,
	}
	if w.Digest != nil && len(w.Digest) != len(r.Digest) {
		return Record{}, malformed("a digest of %d bytes", len(w.Digest))
	}
	copy(r.Digest[:], w.Digest)
	if w.Labels != nil {
		r.Labels = *w.Labels
	}
	return r, nil
}
