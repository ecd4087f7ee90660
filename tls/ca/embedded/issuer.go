package embedded

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/status"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// CRLLifetime is how long a revocation list says it is good; CRL makes a new one when half of it is over or something
// was revoked.
const CRLLifetime = 24 * time.Hour

// Issuer is an open authority. It is safe for concurrent use, also beside other processes on the same folder. It prints
// its kind and nothing else.
type Issuer struct {
	kind   Kind
	chain  []*x509.Certificate // issuing, root
	signer *softcas.SoftCAS
	key    crypto.Signer
	held   crypto.Signer // the issuing key, where it is held elsewhere
	ledger *ledger
	clock  func() time.Time

	crlURL, statusURL []string // written into certificates

	mu  sync.Mutex
	crl *list
}

var _ ca.Issuer = (*Issuer)(nil)

// list is the last revocation list with what it was made of.
type list struct {
	der     []byte
	at      time.Time
	revoked int // entries of the ledger, which only grow
}

// Open opens the authority in dir with its passphrase, which the caller keeps and wipes. It needs the issuing key, not
// that of the root. Errors wrap seal.ErrPassphrase, seal.ErrFormat, ErrLedger or the error of the file system.
func Open(dir string, passphrase secret.Bytes) (*Issuer, error) {
	return OpenAt(dir, passphrase, time.Now)
}

// OpenAt is Open with a clock.
func OpenAt(dir string, passphrase secret.Bytes, clock func() time.Time) (*Issuer, error) {
	return OpenWith(dir, passphrase, Options{Clock: clock})
}

// OpenWith is Open with an issuing key that is held elsewhere. It is made to sign, and held to its certificate; so is it by Health.
// Errors wrap ca.ErrOtherKey, or ErrNoKey where the key is neither in the folder nor given.
func OpenWith(dir string, passphrase secret.Bytes, o Options) (*Issuer, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	root, err := readCertificate(filepath.Join(dir, RootFile))
	if err != nil {
		return nil, err
	}
	issuing, err := readCertificate(filepath.Join(dir, IssuingFile))
	if err != nil {
		return nil, err
	}
	kind, err := kindOf(issuing)
	if err != nil {
		return nil, err
	}
	if err := issuing.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("embedded: %s was not signed by %s: %w", IssuingFile, RootFile, err)
	}
	key := o.Issuing
	if key == nil {
		if key, err = readKey(dir, kind, IssuingKeyFile, passphrase); err != nil {
			return nil, err
		}
	}
	if err := ca.Prove(key, issuing); err != nil {
		return nil, fmt.Errorf("embedded: the issuing key is not that of %s: %w", IssuingFile, err)
	}
	chain := []*x509.Certificate{issuing, root}
	cas, err := softcas.New(context.Background(), apiv1.Options{CertificateChain: chain[:1], Signer: key})
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	ledger, err := openLedger(filepath.Join(dir, LedgerFile), (*os.File).Sync)
	if err != nil {
		return nil, err
	}
	i := &Issuer{kind: kind, chain: chain, signer: cas, key: key, held: o.Issuing, ledger: ledger, clock: o.Clock}
	if o.CRL != "" {
		i.crlURL = []string{o.CRL}
	}
	if o.Status != "" {
		i.statusURL = []string{o.Status}
	}
	return i, nil
}

// readKey opens a sealed key of a folder.
func readKey(dir string, kind Kind, file string, passphrase secret.Bytes) (crypto.Signer, error) {
	sealed, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	return openKey(passphrase, label(kind, file), sealed)
}

// Close lets go of the folder. The issuer cannot be used afterwards. The signing key stays in memory until the garbage
// collector has been over it: Go offers no way to wipe it.
func (i *Issuer) Close() error { return i.ledger.close() }

// Kind returns the authority that the issuer is.
func (i *Issuer) Kind() Kind { return i.kind }

// Root returns the certificate that others trust.
func (i *Issuer) Root() *x509.Certificate { return i.chain[len(i.chain)-1] }

// Chain returns the issuing certificate and the root.
func (i *Issuer) Chain() []*x509.Certificate { return slices.Clone(i.chain) }

// Issue certifies the request as ca.Issuer says. The serial number is in the ledger before the certificate is returned;
// a crash in between leaves a certificate that nobody holds, or a number in the ledger that nobody uses.
func (i *Issuer) Issue(ctx context.Context, req ca.Request) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := req.Validate(i.kind); err != nil {
		return nil, err
	}
	now := i.clock()
	template, err := req.Template(now)
	if err != nil {
		return nil, err
	}
	if err := ca.Covered(i.chain, template.NotBefore, template.NotAfter); err != nil {
		return nil, err
	}
	template.SerialNumber, template.CRLDistributionPoints, template.OCSPServer = newSerial(), i.crlURL, i.statusURL
	resp, err := i.signer.CreateCertificate(&apiv1.CreateCertificateRequest{
		Template: template, // fresh, because softcas writes into it
		Lifetime: template.NotAfter.Sub(template.NotBefore),
	})
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	issued := []*x509.Certificate{resp.Certificate, i.chain[0]}
	if err := ca.Check(req, issued, i.chain, now); err != nil {
		return nil, err
	}
	err = i.ledger.do(func() error { return i.ledger.append(issuedEntry(resp.Certificate, req.Identity, now)) })
	if err != nil {
		return nil, err
	}
	return issued, nil
}

func issuedEntry(leaf *x509.Certificate, id identity.Identity, now time.Time) entry {
	hash := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return entry{
		Event: eventIssued, Time: now.UTC(), Serial: identity.Serial(leaf), Identity: id.String(),
		KeyHash: hex.EncodeToString(hash[:]), NotAfter: leaf.NotAfter,
	}
}

// Revoke records a revocation as ca.Issuer says. The reason recorded first stays.
func (i *Issuer) Revoke(ctx context.Context, serial string, reason int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := ca.CheckReason(reason); err != nil {
		return err
	}
	return i.ledger.do(func() error {
		if _, ok := i.ledger.issued[serial]; !ok {
			return fmt.Errorf("%w: %q", ca.ErrUnknownSerial, serial)
		}
		if _, ok := i.ledger.revoked[serial]; ok {
			return nil
		}
		return i.ledger.append(entry{Event: eventRevoked, Time: i.clock().UTC(), Serial: serial, Reason: reason})
	})
}

// Issued finds in the ledger what was issued under public keys, as ca.Issuer says.
func (i *Issuer) Issued(ctx context.Context, keys map[[32]byte]bool, known func(serial string) bool) (map[string][32]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make(map[string][32]byte)
	err := i.ledger.do(func() error {
		for serial, e := range i.ledger.issued {
			key, err := hex.DecodeString(e.KeyHash)
			if err != nil || len(key) != sha256.Size {
				return fmt.Errorf("%w: serial number %s is under no key", ErrLedger, serial)
			}
			if keys[[32]byte(key)] && !known(serial) {
				out[serial] = [32]byte(key)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// CRL returns a revocation list in DER, good for CRLLifetime when it is new. Certificates that have expired are not on
// it. softcas keeps no list of its own; this one is made from the ledger.
func (i *Issuer) CRL(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock()
	err := i.ledger.do(func() error {
		if i.crl != nil && i.crl.revoked == len(i.ledger.revoked) && now.Sub(i.crl.at).Abs() < CRLLifetime/2 {
			return nil
		}
		number := i.ledger.number + 1
		if err := i.ledger.append(entry{Event: eventCRL, Time: now.UTC(), Number: number}); err != nil {
			return err
		}
		resp, err := i.signer.CreateCRL(&apiv1.CreateCRLRequest{RevocationList: &x509.RevocationList{
			Number: big.NewInt(number), ThisUpdate: now, NextUpdate: now.Add(CRLLifetime), RevokedCertificateEntries: i.ledger.entries(now),
		}})
		if err != nil {
			return fmt.Errorf("embedded: revocation list: %w", err)
		}
		i.crl = &list{der: resp.CRL, at: now, revoked: len(i.ledger.revoked)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return slices.Clone(i.crl.der), nil
}

// SignStatus signs what is known of a certificate of this authority. What is revoked in the ledger is so whatever the answer says:
// a registration authority may know of no certificate that was revoked because nobody was given it.
func (i *Issuer) SignStatus(ctx context.Context, a status.Answer) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := i.ledger.do(func() error {
		e, ok := i.ledger.revoked[identity.Serial(&x509.Certificate{SerialNumber: a.Request.Serial()})]
		if ok && a.State != status.Revoked {
			a.State, a.Revoked, a.Reason = status.Revoked, e.Time.Truncate(time.Second), e.Reason
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return status.Sign(a, i.chain[0], i.key)
}

// entries returns what stands on a revocation list made at now, oldest first.
func (r *records) entries(now time.Time) []x509.RevocationListEntry {
	var out []x509.RevocationListEntry
	for serial, e := range r.revoked {
		if now.After(r.issued[serial].NotAfter) {
			continue
		}
		b, _ := hex.DecodeString(serial) // apply has checked it
		out = append(out, x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(b), RevocationTime: e.Time, ReasonCode: e.Reason})
	}
	slices.SortFunc(out, func(a, b x509.RevocationListEntry) int {
		if c := a.RevocationTime.Compare(b.RevocationTime); c != 0 {
			return c
		}
		return a.SerialNumber.Cmp(b.SerialNumber)
	})
	return out
}

// Health reports whether the issuer could issue now: its certificates are valid, a key that is
// held elsewhere signs, and the ledger can be read.
func (i *Issuer) Health(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := i.clock()
	for _, cert := range i.chain {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return fmt.Errorf("embedded: %q is valid from %v until %v", cert.Subject.CommonName, cert.NotBefore, cert.NotAfter)
		}
	}
	if i.held != nil {
		if err := ca.Prove(i.held, i.chain[0]); err != nil {
			return fmt.Errorf("embedded: %w", err)
		}
	}
	return i.ledger.do(func() error { return nil })
}

// Format prints the kind, whatever the verb: the signing key is in here.
func (i *Issuer) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, i.text()) }

// LogValue logs the kind.
func (i *Issuer) LogValue() slog.Value { return slog.StringValue(i.text()) }

// MarshalText gives the kind, for encoders that would otherwise look inside.
func (i *Issuer) MarshalText() ([]byte, error) { return []byte(i.text()), nil }

func (i *Issuer) text() string {
	if i == nil {
		return "embedded.Issuer(none)"
	}
	return "embedded.Issuer(" + i.kind.String() + ")"
}
