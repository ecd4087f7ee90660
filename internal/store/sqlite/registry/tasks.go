package registry

import "github.com/latchkey-pos/latchkey/tls/provision"

// PutTask implements provision.Tx.
func (t tx) PutTask(task *provision.Task) error {
	b, err := task.Marshal()
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO tasks (id, v, due, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET due = excluded.due, body = excluded.body`, task.ID, version, task.Due.Unix(), b)
}

// DeleteTask implements provision.Tx.
func (t tx) DeleteTask(id string) error { return t.exec(`DELETE FROM tasks WHERE id = ?`, id) }

// Tasks implements provision.Tx.
func (t tx) Tasks(unix int64, limit int) ([]*provision.Task, error) {
	return collect(t, provision.UnmarshalTask, `SELECT body FROM tasks WHERE due <= ? ORDER BY due, id LIMIT ?`, unix, limit)
}
