package registry

import (
	"fmt"
	"time"

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
	return t.exec(`INSERT INTO certificates (v, role, serial, terminal, issued, not_after, revoked, key_hash, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (role, serial) DO UPDATE SET terminal = excluded.terminal, issued = excluded.issued,
			not_after = excluded.not_after, revoked = excluded.revoked, key_hash = excluded.key_hash, body = excluded.body`,
		version, string(c.Role), c.Serial, string(c.Terminal), seconds(c.Issued), seconds(c.NotAfter), seconds(c.Revoked), c.KeyHash[:], b)
}

// Certificates implements provision.Tx. It reads columns and no bodies.
func (t tx) Certificates(id keyset.TerminalID, after string, limit int, yield func(provision.Issuance) error) error {
	query, args := `SELECT role, serial, terminal, issued, not_after, revoked FROM certificates WHERE TRUE`, []any{}
	if id != "" {
		query += ` AND terminal = ?`
		args = append(args, string(id))
	}
	if after != "" {
		query += ` AND n < (SELECT min(n) FROM certificates WHERE role IN ('terminal', 'agreement') AND serial = ?)`
		args = append(args, after)
	}
	return t.issuances(yield, query+` ORDER BY n DESC LIMIT ?`, append(args, most(limit))...)
}

// CertificatesOfKey implements provision.Tx.
func (t tx) CertificatesOfKey(key provision.KeyHash, unix int64, yield func(provision.Issuance) error) error {
	return t.issuances(yield, `SELECT role, serial, terminal, issued, not_after, revoked FROM certificates WHERE key_hash = ? AND not_after > ?`,
		key[:], unix)
}

// issuances calls yield for each row of those columns that a query selects.
func (t tx) issuances(yield func(provision.Issuance) error, query string, args ...any) error {
	return t.db.Each(query, args, func(scan func(...any) error) error {
		var role, terminal string
		var issued, notAfter, revoked int64
		i := provision.Issuance{}
		if err := scan(&role, &i.Serial, &terminal, &issued, &notAfter, &revoked); err != nil {
			return err
		}
		i.Role, i.Terminal = identity.Role(role), keyset.TerminalID(terminal)
		i.Issued, i.NotAfter, i.Revoked = moment(issued), moment(notAfter), moment(revoked)
		return yield(i)
	})
}

// seconds is a time as a column holds it: Unix seconds, 0 for none.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
