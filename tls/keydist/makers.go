package keydist

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// KindMakers is the kind of the signed document that says which makers are trusted; see keyset.Sign.
const KindMakers = "makers"

const (
	makersVersion = 1

	maxMakerRoots  = 32
	maxMakersBytes = keyset.MaxSigned - 64<<10 // there is room for the signatures too: about 300,000 devices
)

// ErrMakers is wrapped by every error about a document of makers. It quotes no device.
var ErrMakers = errors.New("keydist: makers refused")

// Makers says whose word for an agreement key is taken: the makers and key-injection facilities that are trusted, and those of
// their devices that may have keys. It is the payload of a signed document, of which each revision replaces the one before as
// a whole. It is plain data: Marshal and ParseMakers hold it to its rules.
type Makers struct {
	Tenant      keyset.TenantID
	Environment keyset.Environment
	Revision    uint64              // 1, 2, 3 …
	Roots       []*x509.Certificate // authorities, 1 to 32, each once
	Devices     *AllowList          // nil: none
}

// wireMakers is the stored form.
type wireMakers struct {
	Version     uint64   `cbor:"v"`
	Tenant      string   `cbor:"tenant"`
	Environment string   `cbor:"environment"`
	Revision    uint64   `cbor:"revision"`
	Roots       [][]byte `cbor:"roots"`             // DER, ascending
	Devices     []string `cbor:"devices,omitempty"` // as in an allow-list, ascending
}

var makersCodec = canon.New(maxMakersBytes, 4)

// Marshal returns the stored form, with roots and devices in its own order. The error wraps ErrMakers.
func (m *Makers) Marshal() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMakers, err)
	}
	w := wireMakers{
		Version: makersVersion, Tenant: string(m.Tenant), Environment: m.Environment.String(), Revision: m.Revision,
		Devices: m.Devices.Lines(),
	}
	for _, root := range m.Roots {
		w.Roots = append(w.Roots, root.Raw)
	}
	slices.SortFunc(w.Roots, bytes.Compare)
	b, err := makersCodec.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMakers, err)
	}
	if len(b) > maxMakersBytes {
		return nil, fmt.Errorf("%w: %d bytes of roots and devices, want at most %d", ErrMakers, len(b), maxMakersBytes)
	}
	return b, nil
}

// ParseMakers reads the stored form. Marshal of the result gives back the same bytes. The error wraps ErrMakers.
func ParseMakers(payload []byte) (*Makers, error) {
	m, err := parseMakers(payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMakers, err)
	}
	return m, nil
}

func parseMakers(payload []byte) (*Makers, error) {
	if len(payload) > maxMakersBytes {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(payload), maxMakersBytes)
	}
	var w wireMakers
	if err := makersCodec.Unmarshal(payload, &w); err != nil {
		return nil, err
	}
	if w.Version != makersVersion {
		return nil, fmt.Errorf("format version %d, want %d", w.Version, makersVersion)
	}
	m := &Makers{Tenant: keyset.TenantID(w.Tenant), Revision: w.Revision, Devices: newAllowList()}
	var err error
	if m.Environment, err = keyset.ParseEnvironment(w.Environment); err != nil {
		return nil, err
	}
	if !slices.IsSortedFunc(w.Roots, bytes.Compare) || !slices.IsSorted(w.Devices) {
		return nil, errors.New("roots or devices are not in ascending order")
	}
	for i, der := range w.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("root %d: %w", i+1, err)
		}
		m.Roots = append(m.Roots, root)
	}
	for i, line := range w.Devices {
		if err := m.Devices.add(line); err != nil {
			return nil, fmt.Errorf("device %d: %w", i+1, err)
		}
	}
	return m, m.check()
}

// OpenMakers opens a signed document that enough people approved, and returns it with its approvers. The error wraps
// keyset.ErrFormat, keyset.ErrSignature, keyset.ErrApprovals or ErrMakers.
func OpenMakers(doc []byte, v keyset.Verifier) (*Makers, []string, error) {
	payload, approvers, err := keyset.Open(doc, KindMakers, v)
	if err != nil {
		return nil, nil, err
	}
	m, err := ParseMakers(payload)
	if err != nil {
		return nil, nil, err
	}
	if err := keyset.RequireApprovals(m.Environment, approvers); err != nil {
		return nil, nil, err
	}
	return m, approvers, nil
}

// check reports the first rule that is broken.
func (m *Makers) check() error {
	if _, err := keyset.ParseTenant(string(m.Tenant)); err != nil {
		return err
	}
	if _, err := m.Environment.MarshalText(); err != nil {
		return err
	}
	if m.Revision < 1 {
		return errors.New("revision 0, want 1 or more")
	}
	if len(m.Roots) < 1 || len(m.Roots) > maxMakerRoots {
		return fmt.Errorf("%d roots, want 1 to %d", len(m.Roots), maxMakerRoots)
	}
	for i, root := range m.Roots {
		if err := checkMaker(root); err != nil {
			return err
		}
		if slices.ContainsFunc(m.Roots[:i], root.Equal) {
			return fmt.Errorf("root %q is there twice", root.Subject)
		}
	}
	return nil
}

// checkMaker refuses what certifies nothing, and what our own authorities issue.
func checkMaker(root *x509.Certificate) error {
	switch {
	case root == nil:
		return errors.New("a root is missing")
	case !root.BasicConstraintsValid || !root.IsCA || root.KeyUsage != 0 && root.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("root %q is no certificate authority", root.Subject)
	case ours(root):
		return fmt.Errorf("root %q is a certificate of our own authorities", root.Subject)
	}
	return nil
}

// Distinct reports whether none of the makers has the key of one of these certificates, which are those of our own
// authorities: nothing that they certify attests a key. The error wraps ErrMakers. A nil m is distinct from all.
func (m *Makers) Distinct(own ...*x509.Certificate) error {
	if m == nil {
		return nil
	}
	for _, root := range m.Roots {
		for _, cert := range own {
			if bytes.Equal(root.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
				return fmt.Errorf("%w: root %q has the key of our own authority %q", ErrMakers, root.Subject, cert.Subject)
			}
		}
	}
	return nil
}

// Follows reports whether m is the next revision after previous, nil for none, and of the same deployment. The error wraps
// ErrMakers.
func (m *Makers) Follows(previous *Makers) error {
	var last uint64
	if previous != nil {
		last = previous.Revision
		if m.Tenant != previous.Tenant || m.Environment != previous.Environment {
			return fmt.Errorf("%w: of tenant %s and environment %v, after %s and %v",
				ErrMakers, m.Tenant, m.Environment, previous.Tenant, previous.Environment)
		}
	}
	if m.Revision == 0 || m.Revision-1 != last {
		return fmt.Errorf("%w: revision %d follows revision %d", ErrMakers, m.Revision, last)
	}
	return nil
}

// pool returns the roots for verifying.
func (m *Makers) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, root := range m.Roots {
		pool.AddCert(root)
	}
	return pool
}
