package registry

import (
	"time"

	"github.com/latchkey-pos/latchkey/tls/provision"
)

// PutTask implements provision.Tx.
func (t tx) PutTask(task *provision.Task) error {
	b, err := task.Marshal()
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO tasks (id, v, due, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET due = excluded.due, body = excluded.body`, task.ID, version, task.Due.Unix(), b)
}

// Task implements provision.Tx.
func (t tx) Task(id string) (*provision.Task, bool, error) {
	return body(t, provision.UnmarshalTask, `SELECT body FROM tasks WHERE id = ?`, id)
}

// DeleteTask implements provision.Tx.
func (t tx) DeleteTask(id string) error { return t.exec(`DELETE FROM tasks WHERE id = ?`, id) }

// Tasks implements provision.Tx.
func (t tx) Tasks(unix int64, after provision.TaskPlace, limit int) (out []*provision.Task, err error) {
	err = t.db.Each(`SELECT id, due, body FROM tasks WHERE due <= ? AND (due, id) > (?, ?) ORDER BY due, id LIMIT ?`,
		[]any{unix, after.Due, after.ID, limit}, func(scan func(...any) error) error {
			var id string
			var due int64
			var b []byte
			if err := scan(&id, &due, &b); err != nil {
				return err
			}
			task, err := provision.UnmarshalTask(b)
			if err != nil || task.ID != id {
				task = &provision.Task{ID: id, Due: time.Unix(due, 0).UTC()}
			}
			out = append(out, task)
			return nil
		})
	return out, err
}
