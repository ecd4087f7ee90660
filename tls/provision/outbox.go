package provision

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
)

// TaskKind is what is to be done.
type TaskKind uint8

// The values of TaskKind.
const (
	// TaskSettle tells the key-distribution host what became of a key.
	TaskSettle TaskKind = iota + 1
	// TaskRevoke has the issuer revoke a certificate.
	TaskRevoke
)

// Task is something that another service has to be told, until it is done. It is plain data; Marshal and UnmarshalTask
// give its stored form.
type Task struct {
	ID       string // 26 characters of Crockford's base 32
	Kind     TaskKind
	Terminal keyset.TerminalID
	Body     []byte // TaskSettle: remote.Settlement
	Serial   string // TaskRevoke
	Reason   int    // TaskRevoke, RFC 5280, 5.3.1
	Created  time.Time
	Due      time.Time // not before; whole seconds
	Tries    uint32
}

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	maxTasks   = 4096 // looked at in one go
)

// outbox does what is due. When a service is away, what else it is to be told waits for the next time.
func (e *Engine) outbox(ctx context.Context) error {
	away := make(map[TaskKind]bool)
	for {
		var tasks []*Task
		err := e.view(ctx, func(tx Tx) error {
			var err error
			tasks, err = tx.Tasks(e.now().Unix(), maxTasks)
			return err
		})
		if err != nil {
			return err
		}
		tried := 0
		for _, t := range tasks {
			if away[t.Kind] {
				continue
			}
			tried++
			done, err := e.attempt(ctx, t)
			if err != nil {
				return err
			}
			away[t.Kind] = !done
		}
		if tried == 0 {
			return nil
		}
	}
}

// attempt does one task, and removes it or puts it off. The error is that of the store.
func (e *Engine) attempt(ctx context.Context, task *Task) (done bool, _ error) {
	err := e.perform(ctx, task)
	if ctx.Err() != nil {
		return false, ctx.Err() // what was done is done again
	}
	attrs := []slog.Attr{
		slog.String("task", task.ID), slog.String("kind", task.Kind.String()), slog.String("terminal", string(task.Terminal)),
	}
	if err != nil && !lasting(err) {
		e.log(ctx, "task failed and is tried again", err, attrs...)
		task.Tries++
		task.Due = e.now().Add(min(firstRetry<<min(task.Tries, 16), lastRetry))
		return false, e.update(ctx, func(t *transaction) error { return t.PutTask(task) })
	}
	return true, e.update(ctx, func(t *transaction) error {
		if err := t.DeleteTask(task.ID); err != nil {
			return err
		}
		if err == nil {
			return nil
		}
		r := audit.Record{Action: "task/" + task.Kind.String(), Object: string(task.Terminal), Result: resultRefused}
		r.Reason = plain(err.Error())
		e.log(ctx, "task was refused", err, attrs...)
		return t.note(r)
	})
}

// plain makes a text of another service fit for the audit log.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxText)]
}

// lasting reports whether a failed task will fail for ever.
func lasting(err error) bool {
	return codeOf(err) == CodeDistributorRefused || errors.Is(err, ca.ErrUnknownSerial) || errors.Is(err, ca.ErrRequest)
}

func (e *Engine) perform(ctx context.Context, task *Task) error {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	switch task.Kind {
	case TaskRevoke:
		err := e.config.Issuer.Revoke(ctx, task.Serial, task.Reason)
		if err == nil {
			e.crl.forget()
		}
		return err
	case TaskSettle:
		s, err := remote.ParseSettlement(task.Body)
		if err != nil {
			return &Refusal{Code: CodeDistributorRefused, Detail: err.Error()}
		}
		if err := e.config.Distributor.Settle(ctx, *s); err != nil {
			return distributorFailure(err)
		}
		return nil
	}
	return refuse(CodeDistributorRefused, "unknown task")
}

var taskKindWords = words{"settle", "revoke"}

// String returns the word of the kind, or "invalid(n)".
func (k TaskKind) String() string { return taskKindWords.spell(uint8(k)) }

func (t *Task) check() error {
	if !isID(t.ID) {
		return malformed("task id is not 26 characters of Crockford's base 32")
	}
	if _, err := taskKindWords.parse(t.Kind.String()); err != nil {
		return err
	}
	if err := checkTerminalID(t.Terminal); err != nil {
		return err
	}
	if (t.Kind == TaskSettle) != (len(t.Body) > 0) || (t.Kind == TaskRevoke) != isSerial(t.Serial) {
		return malformed("a task of kind %v has too much or too little", t.Kind)
	}
	return checkTimes(t.Created, t.Due)
}

// wireTask is the stored form of a task.
type wireTask struct {
	Version  uint   `cbor:"v"`
	ID       string `cbor:"id"`
	Kind     string `cbor:"kind"`
	Terminal string `cbor:"terminal"`
	Body     []byte `cbor:"body,omitempty"`
	Serial   string `cbor:"serial,omitempty"`
	Reason   int    `cbor:"reason,omitempty"`
	Created  int64  `cbor:"created,omitempty"`
	Due      int64  `cbor:"due,omitempty"`
	Tries    uint32 `cbor:"tries,omitempty"`
}

// Marshal returns the stored form of a task that breaks no rule. The error wraps ErrFormat.
func (t *Task) Marshal() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireTask{
		formatVersion, t.ID, t.Kind.String(), string(t.Terminal), t.Body, t.Serial, t.Reason, seconds(t.Created),
		seconds(t.Due), t.Tries,
	})
}

// UnmarshalTask reads what Marshal gives, and nothing else. It does not look into the body. The error wraps ErrFormat.
func UnmarshalTask(b []byte) (*Task, error) {
	var w wireTask
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	kind, err := taskKindWords.parse(w.Kind)
	if err != nil {
		return nil, err
	}
	t := &Task{
		ID: w.ID, Kind: TaskKind(kind), Terminal: keyset.TerminalID(w.Terminal), Body: w.Body, Serial: w.Serial,
		Reason: w.Reason, Created: fromSeconds(w.Created), Due: fromSeconds(w.Due), Tries: w.Tries,
	}
	r := reader{form.Reader()}
	r.Version(w.Version, formatVersion)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, t, b)
}
