package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Custodian is a person with certificate and private key, in memory or in a device. It prints the identity only.
type Custodian struct {
	id          identity.Identity
	certificate []byte
	key         crypto.Signer
	agreement   ecdh.KeyExchanger
}

// NewCustodian returns a custodian: a certificate of that role, and its key. The key signs, and agrees on keys as an
// *ecdsa.PrivateKey does, or by itself (ecdh.KeyExchanger). Errors wrap ErrCustodian or identity.ErrIdentity.
func NewCustodian(cert *x509.Certificate, key crypto.Signer) (Custodian, error) {
	id, _, err := readCertificate(cert.Raw)
	if err != nil {
		return Custodian{}, err
	}
	if !samePublic(key, cert.Raw) {
		return Custodian{}, fmt.Errorf("%w: the key is not that of the certificate", ErrCustodian)
	}
	agreement, err := exchanger(key)
	if err != nil {
		return Custodian{}, err
	}
	return Custodian{id: id, certificate: cert.Raw, key: key, agreement: agreement}, nil
}

// Name returns TENANT/NAME, as in a plan.
func (c Custodian) Name() string { return nameOf(c.id) }

// Format prints the identity, whatever the verb.
func (c Custodian) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, c.text()) }

// LogValue logs the identity.
func (c Custodian) LogValue() slog.Value { return slog.StringValue(c.text()) }

// MarshalText gives encoders the identity.
func (c Custodian) MarshalText() ([]byte, error) { return []byte(c.text()), nil }

func (c Custodian) text() string { return "ceremony.Custodian(" + c.id.String() + ")" }

// Loading is one ceremony on its last leg: everything is approved, and custodians open their components one after the other.
// It is for one goroutine. Wipe it, whatever happens.
type Loading struct {
	record   *Record
	verifier keyset.Verifier
	now      time.Time
	sheets   []keys.Sheet // by number; zero while it is missing
	people   []Custodian
}

// Begin starts the loading into a token, if two custodians have approved plan and components, the token is the one of the
// plan, the ceremony has not expired, and nothing was loaded before. The verifier says whose certificates count now. Errors wrap
// keyset.ErrApprovals, ErrOther, ErrExpired, ErrDone, ErrMissing, or are those of Approvers.
func (r *Record) Begin(v keyset.Verifier, in Token, now time.Time) (*Loading, error) {
	switch {
	case r.loaded != nil:
		return nil, ErrDone
	case len(r.components) == 0:
		return nil, fmt.Errorf("%w: none has been collected and approved", ErrMissing)
	case in != r.plan.Token:
		return nil, fmt.Errorf("%w: the token is %q with the serial number %s, the plan is for %q with %s",
			ErrOther, in.Label, in.Serial, r.plan.Token.Label, r.plan.Token.Serial)
	}
	if err := r.plan.fresh(now); err != nil {
		return nil, err
	}
	approvers, err := r.Approvers(v)
	if err != nil {
		return nil, err
	}
	if len(approvers) < MinApprovers {
		return nil, fmt.Errorf("%w: %d, want %d custodians", keyset.ErrApprovals, len(approvers), MinApprovers)
	}
	return &Loading{record: r, verifier: v, now: now, sheets: make([]keys.Sheet, len(r.plan.Shares))}, nil
}

// Share returns whose a sealed file of this ceremony is, and its number. Errors wrap ErrFormat or ErrOther.
func (l *Loading) Share(sealed []byte) (Share, int, error) {
	s, err := l.mine(sealed)
	if err != nil {
		return Share{}, 0, err
	}
	return l.record.plan.Shares[s.Number-1], s.Number, nil
}

// mine reads a sealed file and holds it to the record: it is the one that was approved.
func (l *Loading) mine(sealed []byte) (*Sealed, error) {
	s, err := ParseSealed(sealed)
	if err != nil {
		return nil, err
	}
	if err := s.of(l.record.plan); err != nil {
		return nil, err
	}
	c := l.record.components[s.Number-1]
	if c.File != digest(sealed) || c.KCV != s.KCV {
		return nil, fmt.Errorf("%w: component %d is not the file that was approved", ErrOther, s.Number)
	}
	return s, nil
}

// Open opens the component of one custodian and checks everything about it that can be checked alone: certificate, check
// value, parity. Errors wrap ErrFormat, ErrOther, ErrCustodian, ErrSealed or are those of keys.Sheet.Verify.
func (l *Loading) Open(sealed []byte, c Custodian) (keys.CheckValue, error) {
	s, err := l.mine(sealed)
	if err != nil {
		return keys.CheckValue{}, err
	}
	share := l.record.plan.Shares[s.Number-1]
	if !bytes.Equal(c.certificate, share.Certificate) {
		return keys.CheckValue{}, fmt.Errorf("%w: component %d is of %s, with the certificate of the plan", ErrCustodian, s.Number, share.Custodian)
	}
	if _, _, err := custodian(l.verifier, c.certificate); err != nil {
		return keys.CheckValue{}, err
	}
	if !l.sheets[s.Number-1].Component.IsZero() {
		return keys.CheckValue{}, fmt.Errorf("%w: component %d is open", keys.ErrComponents, s.Number)
	}
	sheet, err := s.open(c.agreement)
	if err != nil {
		return keys.CheckValue{}, err
	}
	if err := sheet.Verify(l.record.plan.Parity); err != nil {
		sheet.Wipe()
		return keys.CheckValue{}, err
	}
	l.sheets[s.Number-1] = sheet
	l.people = append(l.people, c)
	return sheet.CheckValue, nil
}

// Key combines the components when all are open, and checks the key: independence, weakness, parity, and its check value if the
// plan or a sheet has it. The caller wipes the key. Errors wrap ErrMissing, or are those of keys.Combine.
func (l *Loading) Key() (keys.Key, error) {
	for i, s := range l.sheets {
		if s.Component.IsZero() {
			return keys.Key{}, fmt.Errorf("%w: %d of %d, of %s", ErrMissing, i+1, len(l.sheets), l.record.plan.Shares[i].Custodian)
		}
	}
	k, err := keys.Combine(l.record.plan.Attributes, l.record.plan.Parity, l.sheets)
	if err != nil {
		return keys.Key{}, err
	}
	if want := l.record.plan.KeyKCV; !want.IsZero() && !planted.On(planted.CeremonyCheckValue) {
		if err := k.Verify(want); err != nil {
			k.Wipe()
			return keys.Key{}, fmt.Errorf("the key of these components: %w", err)
		}
	}
	return k, nil
}

// Finish has the record say what was loaded, signed by everybody who opened a component.
func (l *Loading) Finish(what Loaded) error {
	if len(l.people) != len(l.sheets) {
		return ErrMissing
	}
	r := l.record
	st := Statement{Ceremony: r.plan.Ceremony, Record: digest(r.text), At: moment(l.now), Loaded: &what}
	line, err := sign(entryLoaded, KindLoaded, st, slices.Clone(l.people)...)
	if err != nil {
		return err
	}
	if err := r.add(line); err != nil {
		return err
	}
	r.loaded = &line
	return nil
}

// Wipe zeroes the components that are open, and forgets the keys of the custodians.
func (l *Loading) Wipe() {
	for i := range l.sheets {
		l.sheets[i].Wipe()
	}
	l.people = nil
}
