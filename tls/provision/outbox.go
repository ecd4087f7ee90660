package provision

import (
	"context"
	"errors"
	"log/slog"
	"slices"
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
	// TaskWithdraw tells the key-distribution host which key ids of a set are never to be given out.
	TaskWithdraw
	// TaskCampaign orders terminals of a compromised key set to rekey.
	TaskCampaign
	// TaskOrphans looks for certificates of a key that the issuer has made and nobody was given, and has them revoked. It is
	// there before the issuer is asked.
	TaskOrphans
)

// Task is something that another service has to be told, until it is done. It is plain data; Marshal and UnmarshalTask
// give its stored form.
type Task struct {
	ID       string            // 26 characters of Crockford's base 32
	Kind     TaskKind          // 0 for a stored one that cannot be read
	Terminal keyset.TerminalID // TaskSettle, TaskRevoke and TaskOrphans
	Body     []byte            // TaskSettle: remote.Settlement; TaskWithdraw: remote.Withdrawal; TaskCampaign: how far it is
	Serial   string            // TaskRevoke
	Reason   int               // TaskRevoke, RFC 5280, 5.3.1
	Key      KeyHash           // TaskOrphans
	Instance string            // TaskOrphans: which instance was about to ask
	Created  time.Time
	Due      time.Time // not before; whole seconds
	Tries    uint32
}

// TaskPlace is a place in the order of tasks: after the one that is due then and has that id. The zero value is before all of them.
type TaskPlace struct {
	Due int64 // Unix seconds
	ID  string
}

// Place is where the task stands.
func (t *Task) Place() TaskPlace { return TaskPlace{t.Due.Unix(), t.ID} }

const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
	maxTasks   = 4096 // looked at in one go
)

// outbox does what is due. When a service is away, what else it is to be told waits for the next time, however much that is: what
// others are to be told stands behind it.
func (e *Engine) outbox(ctx context.Context) error {
	away := make(map[TaskKind]bool)
	var after TaskPlace
	for {
		var tasks []*Task
		err := e.view(ctx, func(tx Tx) error {
			err := (&transaction{Tx: tx, engine: e}).alike() // before others are told what cannot be kept then
			if err != nil {
				return err
			}
			tasks, err = tx.Tasks(e.now().Unix(), after, e.tasks)
			return err
		})
		if err != nil {
			return err
		}
		tried, read := 0, len(tasks)
		if read > 0 {
			after = tasks[read-1].Place()
		}
		tasks = e.readable(ctx, tasks)
		if orphans := slices.DeleteFunc(slices.Clone(tasks), func(t *Task) bool { return t.Kind != TaskOrphans }); len(orphans) > 0 && !away[TaskOrphans] {
			tried++
			if err := e.orphans(ctx, orphans); err != nil {
				away[TaskOrphans] = true
				if err = e.postpone(ctx, "certificates that nobody has are not looked for now", err, orphans); err != nil {
					return err
				}
			}
		}
		for _, t := range tasks {
			if away[t.Kind] || t.Kind == TaskOrphans {
				continue
			}
			tried++
			done, err := e.attempt(ctx, t)
			if err != nil {
				return err
			}
			away[t.Kind] = !done
		}
		switch {
		case tried > 0:
			after = TaskPlace{} // some are gone, and others have come
		case read < e.tasks:
			return nil
		}
	}
}

// readable leaves out tasks that cannot be read, such as those of a newer release, and says so once of each. They stay where they are.
func (e *Engine) readable(ctx context.Context, tasks []*Task) []*Task {
	return slices.DeleteFunc(tasks, func(t *Task) bool {
		if t.Kind == 0 && !e.strange[t.ID] {
			e.strange[t.ID] = true
			e.log(ctx, "a task cannot be read, and is left alone", ErrFormat, slog.String("task", t.ID))
		}
		return t.Kind == 0
	})
}

// postpone puts tasks off that could not be done, whatever the reason, so that the others get their turn. The error is that of
// the context, or of the store that cannot even keep that.
func (e *Engine) postpone(ctx context.Context, what string, why error, tasks []*Task) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e.log(ctx, what, why, slog.String("task", tasks[0].ID), slog.Int("tasks", len(tasks)))
	return e.update(ctx, func(t *transaction) error { return t.postpone(tasks) })
}

// attempt does one task, and removes it or puts it off. The error is that of the store.
func (e *Engine) attempt(ctx context.Context, task *Task) (done bool, _ error) {
	if task.Kind == TaskCampaign {
		if err := e.campaign(ctx, task); err != nil { // such as that the set that follows cannot be given out now
			return true, e.postpone(ctx, "a campaign waits", err, []*Task{task})
		}
		return true, nil // the next step is a task again
	}
	err := e.perform(ctx, task)
	if ctx.Err() != nil {
		return false, ctx.Err() // what was done is done again
	}
	attrs := []slog.Attr{
		slog.String("task", task.ID), slog.String("kind", task.Kind.String()), slog.String("terminal", string(task.Terminal)),
	}
	if err != nil && (!e.lasting(err) || task.Kind == TaskWithdraw) { // a host that does not know the set yet is told again
		e.log(ctx, "task failed and is tried again", err, attrs...)
		task.Tries++
		task.Due = e.now().Add(backoff(task.Tries))
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

// lasting reports whether a failed task will fail for ever. A serial number that this issuer does not know may be one of another
// instance whose issuer has a ledger of its own: it is told again, until one knows it.
func (e *Engine) lasting(err error) bool {
	return codeOf(err) == CodeDistributorRefused || errors.Is(err, ca.ErrRequest) || errors.Is(err, ca.ErrUnknownSerial) && !e.config.Shared
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
	case TaskWithdraw:
		w, err := remote.ParseWithdrawal(task.Body)
		if err != nil {
			return &Refusal{Code: CodeDistributorRefused, Detail: err.Error()}
		}
		if err := e.config.Distributor.Withdraw(ctx, *w); err != nil {
			return distributorFailure(err)
		}
		return nil
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

var taskKindWords = words{"settle", "revoke", "withdraw", "campaign", "orphans"}

// TaskKinds returns every kind of task.
func TaskKinds() (all []TaskKind) {
	for i := range taskKindWords {
		all = append(all, TaskKind(i+1))
	}
	return all
}

// String returns the word of the kind, or "invalid(n)".
func (k TaskKind) String() string { return taskKindWords.spell(uint8(k)) }

func (t *Task) check() error {
	if !isID(t.ID) {
		return malformed("task id is not 26 characters of Crockford's base 32")
	}
	if _, err := taskKindWords.parse(t.Kind.String()); err != nil {
		return err
	}
	if of := t.Kind == TaskSettle || t.Kind == TaskRevoke || t.Kind == TaskOrphans; of || t.Terminal != "" {
		if err := checkTerminalID(t.Terminal); err != nil || !of {
			return malformed("a task of kind %v for terminal %q", t.Kind, t.Terminal)
		}
	}
	bodied := t.Kind == TaskSettle || t.Kind == TaskWithdraw || t.Kind == TaskCampaign
	if bodied != (len(t.Body) > 0) || (t.Kind == TaskRevoke) != isSerial(t.Serial) ||
		(t.Kind == TaskOrphans) != (t.Key != KeyHash{}) || (t.Kind == TaskOrphans) != (t.Instance != "") || len(t.Instance) > maxText {
		return malformed("a task of kind %v has too much or too little", t.Kind)
	}
	return checkTimes(t.Created, t.Due)
}

// wireTask is the stored form of a task.
type wireTask struct {
	Version  uint   `cbor:"v"`
	ID       string `cbor:"id"`
	Kind     string `cbor:"kind"`
	Terminal string `cbor:"terminal,omitempty"`
	Body     []byte `cbor:"body,omitempty"`
	Serial   string `cbor:"serial,omitempty"`
	Reason   int    `cbor:"reason,omitempty"`
	KeyHash  []byte `cbor:"key,omitempty"`
	Instance string `cbor:"instance,omitempty"`
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
		formatVersion, t.ID, t.Kind.String(), string(t.Terminal), t.Body, t.Serial, t.Reason, hashBytes(t.Key), t.Instance, seconds(t.Created),
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
		Reason: w.Reason, Instance: w.Instance, Created: fromSeconds(w.Created), Due: fromSeconds(w.Due), Tries: w.Tries,
	}
	r := reader{form.Reader()}
	r.Version(w.Version, formatVersion)
	r.hash((*[32]byte)(&t.Key), w.KeyHash)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, t, b)
}
