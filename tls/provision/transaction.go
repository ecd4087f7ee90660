package provision

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// transaction is one transaction of the store, and what the engine has to do once it is durable.
type transaction struct {
	Tx
	engine    *Engine
	now       time.Time // whole seconds
	end       *head     // of the feed; nil before it was read
	meta      Meta
	loaded    map[keyset.TerminalID]keyset.Terminal // as the feed has them
	standings map[keyset.TerminalID]standing
	holders   map[held]keyset.TerminalID // of every key id, once it was asked for
	tasks     bool                       // there is something to be told to others
}

// update runs f as one transaction. When it is durable, gate and followers know of it before update returns.
func (e *Engine) update(ctx context.Context, f func(*transaction) error) error {
	return e.write(ctx, func(t *transaction) error {
		if err := t.alike(); err != nil {
			return err
		}
		return f(t)
	})
}

// alike refuses to write beside an instance that has been started with another certificate or pepper: the feed would have
// records of two signers in one epoch, and there would be codes that the other one cannot check.
func (t *transaction) alike() error {
	e := t.engine
	if !e.config.Shared {
		return nil
	}
	meta, err := t.Meta()
	switch {
	case err != nil:
		return err
	case meta.Signer != sha256.Sum256(e.config.Chain[0].Raw):
		return refuse(CodeStoreUnavailable, "another instance has another certificate: restart this one with it")
	case meta.Pepper != e.pepperCheck():
		return refuse(CodeStoreUnavailable, "another instance has another pepper: restart this one with it")
	}
	return nil
}

// write is update for who has just been started, and decides what the store is to be signed with.
func (e *Engine) write(ctx context.Context, f func(*transaction) error) error {
	var done *transaction
	err := e.config.Store.Update(ctx, func(tx Tx) error {
		done = nil
		t := &transaction{
			Tx: tx, engine: e, now: e.now(), loaded: make(map[keyset.TerminalID]keyset.Terminal),
			standings: make(map[keyset.TerminalID]standing),
		}
		if err := f(t); err != nil {
			return err
		}
		done = t
		return nil
	})
	if err != nil {
		e.uncertain(ctx, done)
		return storeFailure(err)
	}
	e.committed(done)
	return nil
}

// uncertain deals with a transaction that had done its work when the store failed: it may have been kept.
func (e *Engine) uncertain(ctx context.Context, t *transaction) {
	if t == nil || len(t.standings) == 0 {
		return
	}
	e.memory.doubt(t.standings)
	if e.config.OnChange != nil {
		e.config.OnChange()
	}
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTimeout)
	defer cancel()
	if err := e.resolve(soon); err != nil {
		e.log(ctx, "a change may have been kept or not", err)
	}
}

// resolveTimeout bounds the first attempt to find out what became of a change; Run goes on with it.
const resolveTimeout = 2 * time.Second

// committed makes a durable transaction visible.
func (e *Engine) committed(t *transaction) {
	if len(t.standings) > 0 && e.memory.put(*t.end, t.standings) && e.config.OnChange != nil {
		e.config.OnChange()
	}
	if t.tasks {
		select {
		case e.kick <- struct{}{}:
		default: // somebody has been told already
		}
	}
}

// view runs f over one state of the store.
func (e *Engine) view(ctx context.Context, f func(Tx) error) error {
	return storeFailure(e.config.Store.View(ctx, f))
}

// storeFailure leaves refusals and errors of the context as they are, and makes every other error one of the store.
func storeFailure(err error) error {
	if err == nil || errors.Is(err, errDry) {
		return err
	}
	if _, ok := errors.AsType[*Refusal](err); ok {
		return err
	}
	return &Refusal{Code: CodeStoreUnavailable, Cause: err}
}

// registered returns the row of a terminal, and refuses when there is none.
func registered(tx Tx, id keyset.TerminalID) (*Terminal, error) {
	row, ok, err := tx.Terminal(id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, refuse(CodeTerminalUnknown, "%s", id)
	}
	return row, nil
}

// row returns the row of a terminal that is to be changed, and refuses when there is none.
func (t *transaction) row(id keyset.TerminalID) (*Terminal, error) {
	row, err := registered(t.Tx, id)
	if err != nil {
		return nil, err
	}
	t.loaded[id] = row.Record()
	return row, nil
}

// save stores a row. When it changes what the feed says of the terminal, it is a new generation, and its record is
// appended to the feed.
func (t *transaction) save(row *Terminal) error {
	before, known := t.loaded[row.ID]
	if known && reflect.DeepEqual(before, row.Record()) {
		return t.PutTerminal(row)
	}
	row.Generation++
	if err := t.PutTerminal(row); err != nil {
		return err
	}
	if err := t.publish(row, !known); err != nil {
		return err
	}
	t.loaded[row.ID] = row.Record()
	return nil
}

// publish appends the record of a terminal to the feed.
func (t *transaction) publish(row *Terminal, first bool) error {
	if err := t.readEnd(); err != nil {
		return err
	}
	e := t.engine
	if first {
		t.end.objects++
		t.meta.Objects = t.end.objects
		if err := t.PutMeta(t.meta); err != nil {
			return err
		}
	}
	r := &feed.Record{
		Epoch: t.end.epoch, Sequence: t.end.sequence + 1, Previous: t.end.hash, Kind: feed.KindTerminal, Issuer: e.issuer,
		Terminal: row.Record(),
	}
	envelope, hash, err := feed.SignRecord(r, e.config.Chain[0].Raw, e.config.Signer)
	if err != nil {
		return &Refusal{Code: CodeInternal, Cause: fmt.Errorf("sign the record of %s: %w", row.ID, err)}
	}
	if err := t.AppendFeed(FeedRecord{r.Epoch, r.Sequence, string(row.ID), envelope}); err != nil {
		return err
	}
	t.end.sequence, t.end.hash = r.Sequence, hash
	t.standings[row.ID] = standingOf(row, t.end.position)
	return nil
}

// readEnd reads where the feed ends.
func (t *transaction) readEnd() error {
	if t.end != nil {
		return nil
	}
	meta, end, err := readHead(t.Tx)
	if err != nil {
		return err
	}
	t.meta, t.end = meta, &end
	return nil
}

// readHead reads where the feed ends.
func readHead(tx Tx) (Meta, head, error) {
	meta, err := tx.Meta()
	if err != nil {
		return Meta{}, head{}, err
	}
	newest, ok, err := tx.FeedHead(meta.Epoch)
	if err != nil {
		return Meta{}, head{}, err
	}
	end := head{position: position{epoch: meta.Epoch}, objects: meta.Objects}
	if ok {
		end.sequence, end.hash = newest.Sequence, sha256.Sum256(newest.Envelope)
	}
	return meta, end, nil
}

// settle leaves it to the outbox to tell the key-distribution host what became of a key.
func (t *transaction) settle(id keyset.TerminalID, slot uint8, k *Key, state keyset.SlotState) error {
	s := remote.Settlement{
		Tenant: t.engine.config.Tenant, Terminal: id, Slot: slot, KeySet: k.KeySet, KeyID: k.ID, State: state,
	}
	body, err := s.Marshal()
	if err != nil {
		return &Refusal{Code: CodeInternal, Cause: err}
	}
	return t.task(&Task{Kind: TaskSettle, Terminal: id, Body: body})
}

// revoke notes that a certificate is revoked, and leaves it to the outbox to tell the issuer of terminals. Agreement
// certificates are in no revocation list: only this registry asks for keys under them.
func (t *transaction) revoke(id keyset.TerminalID, role identity.Role, serial string, reason int) error {
	c, ok, err := t.Certificate(role, serial)
	if err != nil || !ok || !c.Revoked.IsZero() {
		return err
	}
	c.Revoked, c.Reason = t.now, reason
	if err := t.PutCertificate(c); err != nil {
		return err
	}
	if role != identity.Terminal {
		return nil
	}
	return t.task(&Task{Kind: TaskRevoke, Terminal: id, Serial: serial, Reason: reason})
}

// revokeAll revokes every certificate of a terminal that has not ended: those that were replaced and those of agreement
// keys too.
func (t *transaction) revokeAll(row *Terminal, reason int) error {
	var all []Issuance
	err := t.Certificates(row.ID, "", 0, func(i Issuance) error {
		if i.Revoked.IsZero() && t.now.Before(i.NotAfter) {
			all = append(all, i)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range all {
		if err := t.revoke(row.ID, i.Role, i.Serial, reason); err != nil {
			return err
		}
	}
	return nil
}

// supersede revokes the current TLS certificate of a terminal and the one before.
func (t *transaction) supersede(row *Terminal) error {
	for _, serial := range []string{row.Serial, row.PreviousSerial} {
		if serial == "" {
			continue
		}
		if err := t.revoke(row.ID, identity.Terminal, serial, reasonSuperseded); err != nil {
			return err
		}
	}
	return nil
}

func (t *transaction) task(task *Task) error {
	task.ID, task.Created, task.Due = newID(), t.now, t.now
	t.tasks = true
	return t.PutTask(task)
}

// note appends to the audit log.
func (t *transaction) note(r audit.Record) error { return t.Audit(t.engine.signed(r)) }

// signed fills in what every record of the audit log has.
func (e *Engine) signed(r audit.Record) audit.Record {
	r.Time, r.Instance, r.Tenant = e.config.Clock().UTC().Truncate(time.Millisecond), e.config.Instance, string(e.config.Tenant)
	r.Labels = audit.Labels{Environment: e.config.Environment.String()}
	r.Approvals = slices.Clone(r.Approvals)
	return r
}

// Results in the audit log.
const (
	resultDone     = "DONE"
	resultRepeated = "REPEATED" // nothing was changed: what was asked for had been done
	resultFiled    = "FILED"    // waits for a second person
	resultRefused  = "REFUSED"
)

// refused audits a refusal, unless the store, its load or that of the caller is the reason, and returns the error.
func (e *Engine) refused(ctx context.Context, r audit.Record, err error) error {
	if done, ok := errors.AsType[*audited](err); ok {
		return done.Refusal
	}
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		return err
	}
	switch refusal.Code {
	case CodeStoreUnavailable, CodeStoreFull, CodeStoreDamaged, CodeOverloaded, CodeTooManyAttempts:
		e.log(ctx, "not served", refusal)
		return err
	}
	if refusal.Cause != nil {
		e.log(ctx, "refused", refusal)
	}
	r.Result, r.Reason = resultRefused, string(refusal.Code)
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if auditErr := e.update(lasting, func(t *transaction) error { return t.note(r) }); auditErr != nil {
		return auditErr
	}
	return err
}
