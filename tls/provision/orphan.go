package provision

import (
	"context"
	"crypto/sha256"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// orphanWait is how long an attempt to have a key certified may be under way before somebody looks for what came of it. It
// is longer than any attempt takes, so that nobody loses a certificate to who was quick.
const orphanWait = 4 * commitTimeout

// intentID is where it stands that a key of a terminal is about to be certified. There is one place for each, so that a
// terminal that asks all day long of an issuer that is away leaves one trace and not a thousand.
func intentID(id keyset.TerminalID, key KeyHash) string {
	h := sha256.New()
	h.Write([]byte("latchkey certificates of a key\x00" + string(id) + "\x00"))
	h.Write(key[:])
	return string(crockford.Append(nil, h.Sum(nil)[:17], idLength))
}

// intend notes, before an issuer is asked, that it is about to be: if this process ends before the certificate is kept,
// there is a certificate somewhere that nobody has, and the note says under which key to look for it.
func (t *transaction) intend(a *enrolment) error {
	if planted.On(planted.OrphansForgotten) {
		return nil
	}
	task := &Task{
		ID: intentID(a.terminal, a.key), Kind: TaskOrphans, Terminal: a.terminal, Key: a.key, Instance: t.engine.config.Instance,
		Created: t.now, Due: t.now.Add(orphanWait),
	}
	before, ok, err := t.Task(task.ID)
	if err != nil {
		return err
	}
	if ok { // an attempt before ended nobody knows how, or another one is under way: the note outlives this one
		task.Created, task.Tries = before.Created, before.Tries+1
	}
	a.intended = t.now
	return t.PutTask(task)
}

// fulfil ends what intend began, in the transaction that keeps the certificate. When the note is gone, or is that of a later
// attempt, this one has taken so long that its certificate is being revoked.
func (t *transaction) fulfil(a *enrolment) error {
	if a.intended.IsZero() {
		return nil
	}
	task, ok, err := t.Task(intentID(a.terminal, a.key))
	if err != nil {
		return err
	}
	if !ok || task.Created.After(a.intended) {
		return &Refusal{Code: CodeIssuerUnavailable, RetryAfter: retryAfter()}
	}
	return t.forget(task)
}

// forget removes a note that one attempt alone has made.
func (t *transaction) forget(task *Task) error {
	if task.Tries > 0 {
		return nil
	}
	return t.DeleteTask(task.ID)
}

// abandoned makes the notes due that this instance has left behind: it has just begun, so none of its attempts is under way.
func (t *transaction) abandoned() error {
	all, err := t.Tasks(math.MaxInt64, TaskPlace{}, math.MaxInt32)
	if err != nil {
		return err
	}
	for _, task := range all {
		if task.Kind != TaskOrphans || task.Instance != t.engine.config.Instance || !task.Due.After(t.now) {
			continue
		}
		task.Due = t.now
		if err := t.PutTask(task); err != nil {
			return err
		}
	}
	return nil
}

// orphans looks for certificates of the keys of those tasks that the registry has not kept, and has them revoked. The error
// is that of the store or of the issuer, and then nothing was done.
func (e *Engine) orphans(ctx context.Context, tasks []*Task) error {
	keys := make(map[[32]byte]bool)
	for _, task := range tasks {
		keys[task.Key] = true
	}
	kept := make(map[string]bool)
	err := e.view(ctx, func(tx Tx) error {
		clear(kept)
		return tx.Certificates("", "", 0, func(i Issuance) error {
			kept[i.Serial] = kept[i.Serial] || i.Role == identity.Terminal
			return nil
		})
	})
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	issued, err := e.config.Issuer.Issued(limited, keys, func(serial string) bool { return kept[serial] })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	return e.update(ctx, func(t *transaction) error {
		for _, task := range tasks {
			if err := t.orphaned(task, issued); err != nil {
				return err
			}
		}
		return nil
	})
}

// due returns a task as it stands now, nil when somebody else has dealt with it, or with a note is having its key certified again.
func (t *transaction) due(task *Task) (*Task, error) {
	now, ok, err := t.Task(task.ID)
	if err != nil || !ok || now.Due.After(t.now) {
		return nil, err
	}
	return now, nil
}

// postpone puts tasks off.
func (t *transaction) postpone(tasks []*Task) error {
	for _, task := range tasks {
		task, err := t.due(task)
		if err != nil {
			return err
		}
		if task == nil {
			continue
		}
		task.Tries++
		task.Due = t.now.Add(backoff(task.Tries))
		if err := t.PutTask(task); err != nil {
			return err
		}
	}
	return nil
}

// orphaned leaves it to the outbox to revoke what was issued under the key of a note and is not kept, and removes the note.
// Whoever would keep such a certificate from now on misses the note.
func (t *transaction) orphaned(task *Task, issued map[string][32]byte) error {
	task, err := t.due(task)
	if err != nil || task == nil {
		return err
	}
	for _, serial := range slices.Sorted(maps.Keys(issued)) {
		if issued[serial] != task.Key {
			continue
		}
		_, kept, err := t.Certificate(identity.Terminal, serial)
		if err != nil {
			return err
		}
		if kept {
			continue
		}
		revoke := &Task{Kind: TaskRevoke, Terminal: task.Terminal, Serial: serial, Reason: reasonSuperseded}
		if err := t.task(revoke); err != nil {
			return err
		}
		r := audit.Record{Action: "certificate/orphan", Object: string(task.Terminal), Result: resultDone, Reason: "serial " + serial}
		if err := t.note(r); err != nil {
			return err
		}
	}
	return t.DeleteTask(task.ID)
}

// backoff is how long to wait after so many tries.
func backoff(tries uint32) time.Duration { return min(firstRetry<<min(tries, 16), lastRetry) }
