package registry

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Certificate implements provision.Tx.
func (t tx) Certificate(role identity.Role, serial string) (*provision.Certificate, bool, error) {
	return body(t, provision.UnmarshalCertificate, `SELECT body FROM certificates WHERE role = ? AND serial = ?`, string(role), serial)
}

// PutCertificate implements provision.Tx.
func (t tx) PutCertificate(c *provision.Certificate) error {
	b, err := c.Marshal()
	if err != nil {
		return err
	}
	var holder string
	ok, err := t.db.One(`SELECT terminal FROM certificates WHERE role = ? AND serial = ?`, []any{string(c.Role), c.Serial}, &holder)
	if err != nil {
		return err
	}
	if ok && holder != string(c.Terminal) {
		return fmt.Errorf("%w: certificate %s of role %s belongs to %s", provision.ErrExists, c.Serial, c.Role, holder)
	}
	return t.exec(`INSERT INTO certificates (v, role, serial, terminal, issued, body) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (role, serial) DO UPDATE SET terminal = excluded.terminal, issued = excluded.issued, body = excluded.body`,
		version, string(c.Role), c.Serial, string(c.Terminal), c.Issued.Unix(), b)
}

// Certificates implements provision.Tx.
func (t tx) Certificates(id keyset.TerminalID, yield func(*provision.Certificate) error) error {
	if id == "" {
		return bodies(t, provision.UnmarshalCertificate, yield, `SELECT body FROM certificates ORDER BY terminal, issued, n`)
	}
	return bodies(t, provision.UnmarshalCertificate, yield,
		`SELECT body FROM certificates WHERE terminal = ? ORDER BY issued, n`, string(id))
}
