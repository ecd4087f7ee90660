package registry

import "github.com/latchkey-pos/latchkey/tls/provision"

// Approval implements provision.Tx.
func (t tx) Approval(id string) (*provision.Approval, bool, error) {
	return body(t, provision.UnmarshalApproval, `SELECT body FROM approvals WHERE id = ?`, id)
}

// PutApproval implements provision.Tx.
func (t tx) PutApproval(a *provision.Approval) error {
	b, err := a.Marshal()
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO approvals (v, id, created, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET created = excluded.created, body = excluded.body`, version, a.ID, a.Created.Unix(), b)
}

// Approvals implements provision.Tx.
func (t tx) Approvals(yield func(*provision.Approval) error) error {
	return bodies(t, provision.UnmarshalApproval, yield, `SELECT body FROM approvals ORDER BY created, n`)
}

// PruneApprovals implements provision.Tx.
func (t tx) PruneApprovals(unix int64) (int, error) {
	return t.removed(`DELETE FROM approvals WHERE created < ?`, unix)
}
