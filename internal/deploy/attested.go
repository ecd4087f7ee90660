package deploy

import (
	"crypto/x509"
	"fmt"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// AttestedOptions say where the documents of makers are read and what they are held to. All but Folder are required.
type AttestedOptions struct {
	Dir         string // deployment folder, for the roots in its trust folder
	Folder      string // folder of the signed documents; empty: Dir/attested
	Tenant      keyset.TenantID
	Environment keyset.Environment
}

// Attested knows from their signed documents which makers of devices a deployment trusts, and which devices of theirs may have
// keys. It is to these documents what Catalog is to key sets: every revision is read, verified and compared with the one
// before, what does not fit fails the load as a whole, and none that it has seen may be gone or change. It is safe for
// concurrent use.
type Attested struct {
	options AttestedOptions
	mu      sync.Mutex // one load at a time
	last    *contents  // the last load; guarded by mu
	latest  atomic.Pointer[approvedMakers]
}

// approvedMakers is a verified document of makers.
type approvedMakers struct {
	makers    *keydist.Makers
	approvers []string
}

// superseded is what is kept of a document that another one has replaced.
func (a approvedMakers) superseded() approvedMakers {
	m := a.makers
	return approvedMakers{makers: &keydist.Makers{Tenant: m.Tenant, Environment: m.Environment, Revision: m.Revision}}
}

// NewAttested reads the documents. Errors wrap ErrDocument or the error of the file system.
func NewAttested(o AttestedOptions) (*Attested, error) {
	if o.Folder == "" {
		o.Folder = filepath.Join(o.Dir, attestedFolder)
	}
	a := &Attested{options: o, last: new(contents)}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// Makers returns what the latest revision says, nil where there is no document. It is shared and not to be changed.
func (a *Attested) Makers() *keydist.Makers { return a.latest.Load().makers }

// Approvers returns who signed the latest revision.
func (a *Attested) Approvers() []string { return a.latest.Load().approvers }

const attestedFolder = "attested"

var makersName = regexp.MustCompile(`^(r)([1-9][0-9]{0,8})\.signed$`)

func makersFile(revision uint64) string { return fmt.Sprintf("r%d.signed", revision) }

// Reload reads the documents again. On error those of before stay in force. One that is gone or changed since the last load
// wraps ErrRollback.
func (a *Attested) Reload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	verify, err := Verifier(a.options.Dir, a.options.Tenant, time.Time{})
	if err != nil {
		return err
	}
	own, err := ownRoots(a.options.Dir)
	if err != nil {
		return err
	}
	l := loader{verify: verify, before: a.last, next: contents{files: map[string]seen{}, verified: map[digest]any{}}}
	files, err := l.files(a.options.Folder, makersName)
	if err != nil {
		return err
	}
	var latest approvedMakers
	for i, f := range files {
		next, sum, err := l.makers(f)
		if err == nil {
			err = a.options.accepts(latest.makers, next.makers, own)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDocument, f.path, err)
		}
		if latest = next; i+1 < len(files) {
			latest = next.superseded()
		}
		l.next.verified[sum] = latest
	}
	if err := l.next.keeps(a.last); err != nil {
		return err
	}
	a.last = &l.next
	a.latest.Store(&latest)
	return nil
}

// makers returns the document of a file.
func (l *loader) makers(f document) (approvedMakers, digest, error) {
	doc, sum, verified, err := l.read(f)
	if err != nil {
		return approvedMakers{}, digest{}, err
	}
	a, ok := verified.(approvedMakers)
	if !ok {
		if a.makers, a.approvers, err = keydist.OpenMakers(doc, l.verify); err != nil {
			return approvedMakers{}, digest{}, err
		}
	}
	if a.makers.Revision != f.number {
		return approvedMakers{}, digest{}, fmt.Errorf("the document is revision %d", a.makers.Revision)
	}
	return a, sum, nil
}

// accepts holds a document to the deployment, to the one before and to our own authorities.
func (o AttestedOptions) accepts(previous, next *keydist.Makers, own []*x509.Certificate) error {
	if next.Tenant != o.Tenant || next.Environment != o.Environment {
		return fmt.Errorf("the document is of tenant %s and environment %v, this is %s and %v",
			next.Tenant, next.Environment, o.Tenant, o.Environment)
	}
	if err := next.Follows(previous); err != nil {
		return err
	}
	return next.Distinct(own...)
}

// ownRoots returns the roots of our authorities. Their issuing certificates are known by the roles they carry.
func ownRoots(dir string) (out []*x509.Certificate, err error) {
	for _, authority := range identity.Authorities() {
		roots, err := readCertificates(TrustPath(dir, authority))
		if err != nil {
			return nil, err
		}
		out = append(out, roots...)
	}
	return out, nil
}

// Attested reads the documents of makers.
func (d *Deployment) Attested() (*Attested, error) { return NewAttested(d.attestedOptions()) }

func (d *Deployment) attestedOptions() AttestedOptions {
	return AttestedOptions{Dir: d.dir, Tenant: d.config.Tenant, Environment: d.config.Environment}
}

// SaveMakers checks a signed document of makers as Attested does, with certificates that are valid now, and stores it durably.
// It must be revision 1 or follow the latest. It returns the document with its approvers. Errors wrap ErrDocument; nothing was
// stored then.
func (d *Deployment) SaveMakers(doc []byte) (*keydist.Makers, []string, error) {
	verify, err := Verifier(d.dir, d.config.Tenant, d.clock())
	if err != nil {
		return nil, nil, err
	}
	m, approvers, err := keydist.OpenMakers(doc, verify)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	err = underLock(d.dir, func() error {
		a, err := d.Attested()
		if err != nil {
			return err
		}
		own, err := ownRoots(d.dir)
		if err != nil {
			return err
		}
		if err := a.options.accepts(a.Makers(), m, own); err != nil {
			return fmt.Errorf("%w: %w", ErrDocument, err)
		}
		return writeOnce(filepath.Join(a.options.Folder, makersFile(m.Revision)), doc)
	})
	if err != nil {
		return nil, nil, err
	}
	return m, approvers, nil
}
