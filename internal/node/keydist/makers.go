package keydist

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// makers are the makers that are trusted to certify agreement keys, and the devices of theirs that may have keys. The
// devices are read again; the roots are not, because changing them is a decision for two people and a restart.
type makers struct {
	roots   *x509.CertPool // nil: none
	path    string         // of the list; empty: none
	current atomic.Pointer[keydist.AllowList]
}

func openMakers(c Config) (*makers, error) {
	m := new(makers)
	if c.MakerRoots != "" {
		certs, err := deploy.LoadChain(daemon.Path(c.Folder, c.MakerRoots))
		if err != nil {
			return nil, fmt.Errorf("maker-roots: %w", err)
		}
		m.roots = x509.NewCertPool()
		for _, cert := range certs {
			if !cert.IsCA {
				return nil, fmt.Errorf("maker-roots: %q is not an authority", cert.Subject.CommonName)
			}
			m.roots.AddCert(cert)
		}
	}
	if c.AttestedSerials != "" {
		m.path = daemon.Path(c.Folder, c.AttestedSerials)
	}
	if err := m.reload(); err != nil {
		return nil, err
	}
	return m, nil
}

// list returns the devices as they were last read.
func (m *makers) list() *keydist.AllowList { return m.current.Load() }

// reload reads the list again. On error the last good one stays in force.
func (m *makers) reload() error {
	if m.path == "" {
		return nil
	}
	text, err := readList(m.path)
	if err != nil {
		return fmt.Errorf("attested-serials: %w", err)
	}
	list, err := keydist.ParseAllowList(text)
	if err != nil {
		return fmt.Errorf("attested-serials: %s: %w", m.path, err)
	}
	m.current.Store(list)
	return nil
}

func readList(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, errors.New("others than its owner may write it")
	}
	return io.ReadAll(io.LimitReader(f, keydist.MaxAllowList+1))
}
