package provisiontest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Model is a store in memory that does what provision.Store says in the plainest way. It is safe for concurrent use. The
// zero value is empty and open.
type Model struct {
	mu     sync.RWMutex
	state  state
	closed bool
	// Fail, if not nil, is asked before every transaction; an error of it is what the transaction ends with.
	Fail func() error
	// Lose, if not nil, is asked after every transaction of Update that was kept; an error of it is what Update returns all
	// the same. A process that dies after the commit looks like that.
	Lose func() error
}

var _ provision.Store = (*Model)(nil)

// state is everything that is stored. Rows are kept in their stored form. Slices are in the order of writing.
type state struct {
	meta         provision.Meta
	terminals    map[keyset.TerminalID][]byte
	codes        map[keyset.TerminalID][]byte
	certificates []row
	approvals    []row
	highest      map[keyset.ID]dukpt.KeyID
	feed         []provision.FeedRecord
	tasks        map[string][]byte
	leaves       []audit.Record
}

// row is a stored row under its name.
type row struct {
	name string
	body []byte
}

func (s *state) clone() state {
	c := *s
	c.terminals, c.codes, c.tasks = maps.Clone(s.terminals), maps.Clone(s.codes), maps.Clone(s.tasks)
	c.highest = maps.Clone(s.highest)
	c.certificates, c.approvals = slices.Clone(s.certificates), slices.Clone(s.approvals)
	c.feed, c.leaves = slices.Clone(s.feed), slices.Clone(s.leaves)
	return c
}

// Update implements provision.Store.
func (m *Model) Update(ctx context.Context, f func(provision.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state.clone()
	if err := m.run(ctx, &tx{state: &next, writes: true}, f); err != nil {
		return err
	}
	m.state = next
	if m.Lose != nil {
		return m.Lose()
	}
	return nil
}

// View implements provision.Store.
func (m *Model) View(ctx context.Context, f func(provision.Tx) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.run(ctx, &tx{state: &m.state}, f)
}

func (m *Model) run(ctx context.Context, t *tx, f func(provision.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.closed {
		return &provision.Refusal{Code: provision.CodeStoreUnavailable, Detail: "the store is closed"}
	}
	if m.Fail != nil {
		if err := m.Fail(); err != nil {
			return err
		}
	}
	if err := f(t); err != nil {
		return err
	}
	return t.spoiled
}

// Check implements provision.Store.
func (m *Model) Check(ctx context.Context) error {
	return m.View(ctx, func(provision.Tx) error { return nil })
}

// Close implements provision.Store. Reopen undoes it.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen opens the model again with what it holds.
func (m *Model) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = false
}

// Copy returns a model of what this one holds now.
func (m *Model) Copy() *Model {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return &Model{state: m.state.clone()}
}

// Restore has the model hold what another one does, as when a database is restored from a copy.
func (m *Model) Restore(from *Model) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = from.state.clone()
}

// Leaves returns the audit log.
func (m *Model) Leaves() []audit.Record {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Clone(m.state.leaves)
}

type tx struct {
	*state
	writes  bool
	spoiled error // by an audit record, for the end of the transaction
}

func (t *tx) writable() error {
	if !t.writes {
		return provision.ErrReadOnly
	}
	return nil
}

func (t *tx) Meta() (provision.Meta, error) { return t.meta, nil }

func (t *tx) PutMeta(m provision.Meta) error {
	if err := t.writable(); err != nil {
		return err
	}
	t.meta = m
	return nil
}

// get reads a row of a map.
func get[K comparable, R any](rows map[K][]byte, name K, parse func([]byte) (R, error)) (r R, ok bool, err error) {
	b, ok := rows[name]
	if !ok {
		return r, false, nil
	}
	r, err = parse(b)
	return r, err == nil, err
}

// put writes a row of a map.
func put[K comparable](t *tx, rows *map[K][]byte, name K, r interface{ Marshal() ([]byte, error) }) error {
	if err := t.writable(); err != nil {
		return err
	}
	b, err := r.Marshal()
	if err != nil {
		return err
	}
	if *rows == nil {
		*rows = make(map[K][]byte)
	}
	(*rows)[name] = b
	return nil
}

func (t *tx) Terminal(id keyset.TerminalID) (*provision.Terminal, bool, error) {
	return get(t.terminals, id, provision.UnmarshalTerminal)
}

func (t *tx) PutTerminal(r *provision.Terminal) error { return put(t, &t.terminals, r.ID, r) }

func (t *tx) Terminals(after keyset.TerminalID, limit int, yield func(*provision.Terminal) error) error {
	n := 0
	for _, id := range slices.Sorted(maps.Keys(t.terminals)) {
		if id <= after {
			continue
		}
		if n++; limit > 0 && n > limit {
			break
		}
		r, err := provision.UnmarshalTerminal(t.terminals[id])
		if err != nil {
			return err
		}
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) OneTimeCode(id keyset.TerminalID) (*provision.OneTimeCode, bool, error) {
	return get(t.codes, id, provision.UnmarshalOneTimeCode)
}

func (t *tx) PutOneTimeCode(c *provision.OneTimeCode) error { return put(t, &t.codes, c.Terminal, c) }

func (t *tx) OverdueCodes(unix int64, limit int) (out []*provision.OneTimeCode, err error) {
	for _, id := range slices.Sorted(maps.Keys(t.codes)) {
		c, err := provision.UnmarshalOneTimeCode(t.codes[id])
		if err != nil {
			return nil, err
		}
		live := c.State == provision.StateOpen || c.State == provision.StateReserved
		if live && c.Expires.Unix() <= unix && len(out) < limit {
			out = append(out, c)
		}
	}
	return out, nil
}

func certificateName(role identity.Role, serial string) string { return string(role) + "/" + serial }

func (t *tx) Certificate(role identity.Role, serial string) (*provision.Certificate, bool, error) {
	i := find(t.certificates, certificateName(role, serial))
	if i < 0 {
		return nil, false, nil
	}
	c, err := provision.UnmarshalCertificate(t.certificates[i].body)
	return c, err == nil, err
}

func find(rows []row, name string) int {
	return slices.IndexFunc(rows, func(r row) bool { return r.name == name })
}

func (t *tx) PutCertificate(c *provision.Certificate) error {
	if err := t.writable(); err != nil {
		return err
	}
	b, err := c.Marshal()
	if err != nil {
		return err
	}
	old, ok, err := t.Certificate(c.Role, c.Serial)
	if err != nil {
		return err
	}
	if ok && old.Terminal != c.Terminal {
		return fmt.Errorf("%w: certificate %s", provision.ErrExists, c.Serial)
	}
	t.certificates = replace(t.certificates, row{certificateName(c.Role, c.Serial), b})
	return nil
}

func replace(rows []row, r row) []row {
	if i := find(rows, r.name); i >= 0 {
		rows[i] = r
		return rows
	}
	return append(rows, r)
}

func (t *tx) Certificates(id keyset.TerminalID, after string, limit int, yield func(provision.Issuance) error) error {
	var all []provision.Issuance
	for _, r := range t.certificates {
		c, err := provision.UnmarshalCertificate(r.body)
		if err != nil {
			return err
		}
		all = append(all, c.Issuance())
	}
	if after != "" {
		first := slices.IndexFunc(all, func(i provision.Issuance) bool { return i.Serial == after })
		all = all[:max(first, 0)]
	}
	n := 0
	for _, i := range slices.Backward(all) {
		if id != "" && i.Terminal != id {
			continue
		}
		if n++; limit > 0 && n > limit {
			break
		}
		if err := yield(i); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) CertificatesOfKey(key provision.KeyHash, unix int64, yield func(provision.Issuance) error) error {
	for _, r := range t.certificates {
		c, err := provision.UnmarshalCertificate(r.body)
		if err != nil {
			return err
		}
		if c.KeyHash != key || c.NotAfter.Unix() <= unix {
			continue
		}
		if err := yield(c.Issuance()); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) Approval(id string) (*provision.Approval, bool, error) {
	i := find(t.approvals, id)
	if i < 0 {
		return nil, false, nil
	}
	a, err := provision.UnmarshalApproval(t.approvals[i].body)
	return a, err == nil, err
}

func (t *tx) PutApproval(a *provision.Approval) error {
	if err := t.writable(); err != nil {
		return err
	}
	b, err := a.Marshal()
	if err != nil {
		return err
	}
	t.approvals = replace(t.approvals, row{a.ID, b})
	return nil
}

func (t *tx) Approvals(yield func(*provision.Approval) error) error {
	var all []*provision.Approval
	for _, r := range t.approvals {
		a, err := provision.UnmarshalApproval(r.body)
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	slices.SortStableFunc(all, func(a, b *provision.Approval) int { return a.Created.Compare(b.Created) })
	for _, a := range all {
		if err := yield(a); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) PruneApprovals(unix int64) (int, error) {
	if err := t.writable(); err != nil {
		return 0, err
	}
	before := len(t.approvals)
	var err error
	t.approvals = slices.DeleteFunc(t.approvals, func(r row) bool {
		a, e := provision.UnmarshalApproval(r.body)
		if e != nil {
			err = e
			return false
		}
		return a.Created.Unix() < unix
	})
	return before - len(t.approvals), err
}

func (t *tx) Highest(set keyset.ID) (dukpt.KeyID, error) { return t.highest[set], nil }

func (t *tx) RaiseHighest(set keyset.ID, id dukpt.KeyID) error {
	if err := t.writable(); err != nil {
		return err
	}
	if old := t.highest[set]; !old.IsZero() && id.Compare(old) <= 0 {
		return nil
	}
	if t.highest == nil {
		t.highest = make(map[keyset.ID]dukpt.KeyID)
	}
	t.highest[set] = id
	return nil
}

func (t *tx) AppendFeed(r provision.FeedRecord) error {
	if err := t.writable(); err != nil {
		return err
	}
	if slices.ContainsFunc(t.feed, func(o provision.FeedRecord) bool { return o.Epoch == r.Epoch && o.Sequence == r.Sequence }) {
		return fmt.Errorf("%w: record %d of epoch %d", provision.ErrExists, r.Sequence, r.Epoch)
	}
	r.Envelope = bytes.Clone(r.Envelope)
	t.feed = append(t.feed, r)
	return nil
}

// epoch returns the records of an epoch, ascending.
func (t *tx) epoch(epoch uint64) (out []provision.FeedRecord) {
	for _, r := range t.feed {
		if r.Epoch == epoch {
			r.Envelope = bytes.Clone(r.Envelope)
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b provision.FeedRecord) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return out
}

func (t *tx) FeedHead(epoch uint64) (provision.FeedRecord, bool, error) {
	all := t.epoch(epoch)
	if len(all) == 0 {
		return provision.FeedRecord{}, false, nil
	}
	return all[len(all)-1], true, nil
}

func (t *tx) FeedAfter(epoch, after uint64, limit int) (out []provision.FeedRecord, err error) {
	for _, r := range t.epoch(epoch) {
		if r.Sequence > after && len(out) < limit {
			out = append(out, r)
		}
	}
	return out, nil
}

func (t *tx) FeedLatest(epoch uint64, yield func(provision.FeedRecord) error) error {
	all := t.epoch(epoch)
	for i, r := range all {
		if slices.ContainsFunc(all[i+1:], func(o provision.FeedRecord) bool { return o.Object == r.Object }) {
			continue
		}
		if err := yield(r); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) PruneFeed(epoch, through uint64) (int, error) {
	if err := t.writable(); err != nil {
		return 0, err
	}
	var kept []provision.FeedRecord
	for _, r := range t.feed {
		newer := func(o provision.FeedRecord) bool {
			return o.Epoch == epoch && o.Object == r.Object && o.Sequence > r.Sequence
		}
		if r.Epoch == epoch && (r.Sequence > through || !slices.ContainsFunc(t.feed, newer)) {
			kept = append(kept, r)
		}
	}
	n := len(t.feed) - len(kept)
	t.feed = kept
	return n, nil
}

func (t *tx) PutTask(k *provision.Task) error { return put(t, &t.tasks, k.ID, k) }

func (t *tx) Task(id string) (*provision.Task, bool, error) {
	return get(t.tasks, id, provision.UnmarshalTask)
}

func (t *tx) DeleteTask(id string) error {
	if err := t.writable(); err != nil {
		return err
	}
	delete(t.tasks, id)
	return nil
}

func (t *tx) Tasks(unix int64, after provision.TaskPlace, limit int) ([]*provision.Task, error) {
	var out []*provision.Task
	for _, b := range t.tasks {
		k, err := provision.UnmarshalTask(b)
		if err != nil {
			return nil, err
		}
		if at := k.Place(); at.Due <= unix && (at.Due > after.Due || at.Due == after.Due && at.ID > after.ID) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *provision.Task) int { return cmp.Or(a.Due.Compare(b.Due), cmp.Compare(a.ID, b.ID)) })
	return out[:min(len(out), limit)], nil
}

func (t *tx) Audit(r audit.Record) error {
	if err := t.writable(); err != nil {
		return err
	}
	r.Sequence = uint64(len(t.leaves)) + 1
	b, err := r.Encode()
	if err != nil {
		t.spoiled = cmp.Or(t.spoiled, err)
		return err
	}
	r, err = audit.ParseRecord(b)
	t.leaves = append(t.leaves, r)
	return err
}
