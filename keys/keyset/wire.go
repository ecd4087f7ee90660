package keyset

import (
	"bytes"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// wireSet is the stored form of a key set. Members of later issues stand here so that they are told from unknown ones.
type wireSet struct {
	Version       uint           `cbor:"v"`
	ID            string         `cbor:"id"`
	Revision      uint           `cbor:"version"`
	Tenant        string         `cbor:"tenant"`
	Environment   string         `cbor:"environment"`
	Scheme        string         `cbor:"scheme"`
	Algorithm     string         `cbor:"algorithm"`
	BaseKey       string         `cbor:"base-key"`
	Fingerprint   string         `cbor:"base-key-fingerprint"`
	KSNDescriptor string         `cbor:"ksn-descriptor,omitempty"`
	FirstID       []byte         `cbor:"first-id"`
	LastID        []byte         `cbor:"last-id"`
	Usages        []string       `cbor:"usages"`
	Profile       string         `cbor:"profile,omitempty"`
	Counter       string         `cbor:"counter"`
	Window        uint32         `cbor:"window"`
	Jump          uint32         `cbor:"jump"`
	Horizon       uint64         `cbor:"horizon"`
	Contents      map[string]int `cbor:"contents"`
	Treatments    int            `cbor:"treatments"`
	MAC           *wireMAC       `cbor:"mac,omitempty"`
	Paths         string         `cbor:"paths"`
	Unknown       string         `cbor:"unknown"`
	Delivery      string         `cbor:"delivery"`
	Release       string         `cbor:"release,omitempty"`
	Outgoing      []string       `cbor:"outgoing-pin-keys,omitempty"`
	OutgoingData  []string       `cbor:"outgoing-data-keys,omitempty"` // not in use yet
	State         string         `cbor:"state"`
}

type wireMAC struct {
	Algorithm string `cbor:"algorithm"`
	Padding   uint8  `cbor:"padding,omitempty"`
	Length    int    `cbor:"length"`
	Evidence  int    `cbor:"evidence"`
}

// Marshal returns the stored form of a valid set. The error wraps ErrKeySet when it is not valid.
func Marshal(s *KeySet) ([]byte, error) {
	err := s.Validate()
	if err != nil {
		return nil, err
	}
	return encode(s.wire())
}

// Unmarshal reads the stored form of a set and validates it. Marshal of the result gives back the same bytes. The error
// wraps ErrFormat for bytes that are not a set, and ErrKeySet for a set that breaks a rule.
func Unmarshal(b []byte) (*KeySet, error) {
	var w wireSet
	err := decode(b, &w, maxDocument)
	if err != nil {
		return nil, err
	}
	s, err := w.parse()
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	err = s.Validate()
	if err != nil {
		return nil, err
	}
	again, err := encode(s.wire())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: not the deterministic encoding of its content", ErrFormat)
	}
	return s, nil
}

func (s *KeySet) wire() *wireSet {
	w := &wireSet{
		Version: s.Version, ID: string(s.ID), Revision: s.Revision, Tenant: string(s.Tenant),
		Environment: s.Environment.String(), Scheme: s.Scheme.String(), Algorithm: s.Algorithm.String(),
		BaseKey: s.BaseKey.String(), Fingerprint: s.BaseKeyFingerprint.String(), KSNDescriptor: s.KSNDescriptor,
		FirstID: s.FirstID.Append(nil), LastID: s.LastID.Append(nil), Counter: s.Counter.String(),
		Window: s.W, Jump: s.J, Horizon: uint64(s.R / time.Second),
		Contents: make(map[string]int), Treatments: s.Treatments,
		Paths: s.Paths.String(), Unknown: s.Unknown.String(), Delivery: s.Delivery.String(), State: s.State.String(),
	}
	for _, u := range s.Usages {
		w.Usages = append(w.Usages, u.String())
		w.Contents[u.String()] = s.Contents[u]
	}
	if s.Profile != 0 {
		w.Profile = s.Profile.String()
	}
	if s.Release != 0 {
		w.Release = s.Release.String()
	}
	if s.Has(UsageMAC) {
		w.MAC = &wireMAC{s.MAC.Algorithm.String(), uint8(s.MAC.Padding), s.MAC.Length, s.MAC.Evidence}
	}
	for _, k := range s.OutgoingPINKeys {
		w.Outgoing = append(w.Outgoing, k.String())
	}
	return w
}

func (w *wireSet) parse() (*KeySet, error) {
	if w.OutgoingData != nil {
		return nil, fmt.Errorf("outgoing data keys are not in use yet")
	}
	s := &KeySet{
		Version: w.Version, ID: ID(w.ID), Revision: w.Revision, Tenant: TenantID(w.Tenant),
		KSNDescriptor: w.KSNDescriptor, W: w.Window, J: w.Jump, Treatments: w.Treatments,
	}
	var p parts
	p.take(w.Horizon <= uint64(maxHorizon/time.Second), "horizon is out of range")
	if p.err == nil {
		s.R = time.Duration(w.Horizon) * time.Second
	}
	p.text(&s.Environment, w.Environment)
	p.text(&s.Counter, w.Counter)
	p.text(&s.Paths, w.Paths)
	p.text(&s.Unknown, w.Unknown)
	p.text(&s.Delivery, w.Delivery)
	p.text(&s.State, w.State)
	p.text(&s.BaseKey, w.BaseKey)
	p.text(&s.BaseKeyFingerprint, w.Fingerprint)
	p.binary(&s.FirstID, w.FirstID)
	p.binary(&s.LastID, w.LastID)
	if w.Profile != "" {
		p.text(&s.Profile, w.Profile)
	}
	if w.Release != "" {
		p.text(&s.Release, w.Release)
	}
	p.scheme(s, w)
	p.usages(s, w)
	p.mac(s, w.MAC)
	s.OutgoingPINKeys = p.refs(w.Outgoing)
	return s, p.err
}

// parts reads member after member and keeps the first error.
type parts struct{ err error }

func (p *parts) take(ok bool, complaint string) {
	if p.err == nil && !ok {
		p.err = fmt.Errorf("%s", complaint)
	}
}

func (p *parts) text(dst interface{ UnmarshalText([]byte) error }, s string) {
	if p.err == nil {
		p.err = dst.UnmarshalText([]byte(s))
	}
}

func (p *parts) binary(dst interface{ UnmarshalBinary([]byte) error }, b []byte) {
	if p.err == nil {
		p.err = dst.UnmarshalBinary(b)
	}
}

func (p *parts) scheme(s *KeySet, w *wireSet) {
	if p.err != nil {
		return
	}
	s.Scheme, p.err = dukpt.ParseScheme(w.Scheme)
	if p.err != nil {
		return
	}
	s.Algorithm, p.err = keys.ParseAlgorithm(w.Algorithm)
}

func (p *parts) usages(s *KeySet, w *wireSet) {
	for _, word := range w.Usages {
		var u Usage
		p.text(&u, word)
		s.Usages = append(s.Usages, u)
	}
	s.Contents = make(map[Usage]int, len(w.Contents))
	for word, n := range w.Contents {
		var u Usage
		p.text(&u, word)
		s.Contents[u] = n
	}
}

func (p *parts) mac(s *KeySet, w *wireMAC) {
	if p.err != nil || w == nil {
		return
	}
	s.MAC = MACRule{Padding: dukpt.MACPadding(w.Padding), Length: w.Length, Evidence: w.Evidence}
	s.MAC.Algorithm, p.err = dukpt.ParseMACAlgorithm(w.Algorithm)
}

func (p *parts) refs(names []string) (refs []KeyRef) {
	for _, name := range names {
		var k KeyRef
		p.text(&k, name)
		refs = append(refs, k)
	}
	return refs
}
