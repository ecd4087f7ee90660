package deploy

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

var (
	// ErrDocument says that a signed document does not count: damaged, not signed by enough of the right people, or at odds
	// with the others or with the keyring. The text names the file.
	ErrDocument = errors.New("deploy: document refused")
	// ErrRollback says that a document that was there before is gone or another one.
	ErrRollback = errors.New("deploy: documents went back")
)

// CatalogOptions say where a catalog reads and what it holds documents to. All but the two folders and Keys are required.
type CatalogOptions struct {
	Dir         string // deployment folder, for the roots in its trust folder
	KeySets     string // folder of signed key sets; empty: Dir/keysets
	Terminals   string // folder of signed terminal records; empty: Dir/terminals
	Tenant      keyset.TenantID
	Environment keyset.Environment
	Keys        func() []engine.KeyInfo // the keys there are, asked at every load; base keys of sets must be among them. Nil where none are held
	Holder      string                  // what the keys are in, for errors; empty: keyring
	// Elsewhere says that base keys may be in a token beside: sets whose base key is not among Keys are not held to one.
	Elsewhere bool
}

// Catalog knows the key sets and terminals of a deployment from their signed documents. Every revision of every document
// is read, verified and compared with the one before; anything that does not fit fails the load as a whole. It answers
// from memory, is safe for concurrent use, and what it returns is shared and not to be changed.
//
// It refuses a document that goes back behind one that it has seen itself. It remembers nothing from an earlier process.
type Catalog struct {
	options  CatalogOptions
	mu       sync.Mutex // one load at a time
	contents atomic.Pointer[contents]
}

// contents is one load.
type contents struct {
	sets      map[keyset.ID]*keyset.KeySet
	terminals map[keyset.TerminalID]*keyset.Terminal
	files     map[string]seen // every document by path
	verified  map[digest]any  // *keyset.KeySet or signedTerminal
	over      map[keys.Fingerprint][]*keyset.KeySet
	holders   map[heldKey]keyset.TerminalID
}

// heldKey names the key of a terminal. It is comparable.
type heldKey struct {
	set keyset.ID
	id  dukpt.KeyID
}

type digest [sha256.Size]byte

// seen is a document as it was on disk. One of the same size and date is not read again: a load happens each second, and
// what counts of a document is what was verified when it was read.
type seen struct {
	size     int64
	modified time.Time
	sum      digest
}

// signedTerminal is a verified record with its approvers, whose number can be judged when its key sets are known.
type signedTerminal struct {
	record    *keyset.Terminal
	approvers []string
}

// NewCatalog reads a catalog. Errors wrap ErrDocument or the error of the file system.
func NewCatalog(o CatalogOptions) (*Catalog, error) {
	if o.KeySets == "" {
		o.KeySets = filepath.Join(o.Dir, "keysets")
	}
	if o.Terminals == "" {
		o.Terminals = filepath.Join(o.Dir, "terminals")
	}
	c := &Catalog{options: o}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the documents again. On error the catalog goes on with what it had. Documents are written once: one that
// is gone or changed since the last load wraps ErrRollback.
func (c *Catalog) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	verify, err := Verifier(c.options.Dir, c.options.Tenant, time.Time{})
	if err != nil {
		return err
	}
	before := c.contents.Load()
	if before == nil {
		before = new(contents)
	}
	l := loader{options: c.options, verify: verify, before: before, next: contents{
		sets: map[keyset.ID]*keyset.KeySet{}, terminals: map[keyset.TerminalID]*keyset.Terminal{},
		files: map[string]seen{}, verified: map[digest]any{},
	}}
	if err := l.load(); err != nil {
		return err
	}
	if err := l.next.keeps(before); err != nil {
		return err
	}
	c.contents.Store(&l.next)
	return nil
}

// keeps checks that every document of the load before is there as it was.
func (c *contents) keeps(before *contents) error {
	for _, path := range slices.Sorted(maps.Keys(before.files)) {
		if c.files[path].sum != before.files[path].sum {
			return fmt.Errorf("%w: %s is gone or another document", ErrRollback, path)
		}
	}
	return nil
}

// KeySet returns the latest revision of a set.
func (c *Catalog) KeySet(id keyset.ID) (*keyset.KeySet, bool) {
	s, ok := c.contents.Load().sets[id]
	return s, ok
}

// Terminal returns the latest record of a terminal.
func (c *Catalog) Terminal(tenant keyset.TenantID, id keyset.TerminalID) (*keyset.Terminal, bool) {
	if tenant != c.options.Tenant {
		return nil, false
	}
	t, ok := c.contents.Load().terminals[id]
	return t, ok
}

// KeySetOver returns the latest revision of the set over a base key that holds a key id.
func (c *Catalog) KeySetOver(base keys.Fingerprint, id dukpt.KeyID) (*keyset.KeySet, bool) {
	for _, s := range c.contents.Load().over[base] {
		if s.Contains(id) {
			return s, true
		}
	}
	return nil, false
}

// Holder returns the latest record of the terminal that has a key.
func (c *Catalog) Holder(tenant keyset.TenantID, set keyset.ID, id dukpt.KeyID) (*keyset.Terminal, bool) {
	if tenant != c.options.Tenant {
		return nil, false
	}
	now := c.contents.Load()
	t, ok := now.terminals[now.holders[heldKey{set, id}]]
	return t, ok
}

// KeySets returns the latest revision of every set, by name.
func (c *Catalog) KeySets() []*keyset.KeySet {
	sets := c.contents.Load().sets
	return slices.SortedFunc(maps.Values(sets), func(a, b *keyset.KeySet) int { return cmp.Compare(a.ID, b.ID) })
}

// Terminals returns the latest record of every terminal, by name.
func (c *Catalog) Terminals() []*keyset.Terminal {
	terminals := c.contents.Load().terminals
	return slices.SortedFunc(maps.Values(terminals), func(a, b *keyset.Terminal) int { return cmp.Compare(a.ID, b.ID) })
}

// loader is one load under way.
type loader struct {
	options CatalogOptions
	verify  keyset.Verifier
	before  *contents // the last load: documents do not change, so what it verified stays good
	next    contents
}

func (l *loader) load() error {
	sets, err := l.files(l.options.KeySets, keySetName)
	if err != nil {
		return err
	}
	for _, f := range sets {
		if err := l.keySet(f); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDocument, f.path, err)
		}
	}
	if err := l.checkSets(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDocument, l.options.KeySets, err)
	}
	terminals, err := l.files(l.options.Terminals, terminalName)
	if err != nil {
		return err
	}
	for _, f := range terminals {
		if err := l.terminal(f); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDocument, f.path, err)
		}
	}
	if err := l.checkTerminals(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDocument, l.options.Terminals, err)
	}
	return nil
}

// document is a file that holds one.
type document struct {
	path, name string
	number     uint64 // revision or generation
}

var (
	keySetName   = regexp.MustCompile(`^([A-Z0-9-]{1,32})\.r([1-9][0-9]{0,8})\.signed$`)
	terminalName = regexp.MustCompile(`^([A-Z0-9-]{1,32})\.g([1-9][0-9]{0,8})\.signed$`)
)

// files returns the documents of a folder, the oldest of each name first.
func (l *loader) files(dir string, pattern *regexp.Regexp) ([]document, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	var out []document
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.HasSuffix(e.Name(), lastSuffix) {
			continue
		}
		m := pattern.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			return nil, fmt.Errorf("%w: %s does not belong here", ErrDocument, filepath.Join(dir, e.Name()))
		}
		n, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrDocument, filepath.Join(dir, e.Name()), err)
		}
		out = append(out, document{path: filepath.Join(dir, e.Name()), name: m[1], number: n})
	}
	slices.SortFunc(out, func(a, b document) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.number, b.number))
	})
	return out, nil
}

// read returns a document. If its very bytes were verified before, it returns what they hold instead.
func (l *loader) read(f document) (doc []byte, sum digest, verified any, err error) {
	info, err := os.Lstat(f.path)
	if err != nil {
		return nil, digest{}, nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > keyset.MaxSigned {
		return nil, digest{}, nil, fmt.Errorf("mode %v and %d bytes, want a file of at most %d", info.Mode(), info.Size(), keyset.MaxSigned)
	}
	was := l.before.files[f.path]
	if verified = l.before.verified[was.sum]; verified != nil && was.size == info.Size() && was.modified.Equal(info.ModTime()) {
		l.next.files[f.path] = was
		return nil, was.sum, verified, nil
	}
	doc, err = os.ReadFile(f.path)
	if err != nil {
		return nil, digest{}, nil, err
	}
	sum = sha256.Sum256(doc)
	l.next.files[f.path] = seen{size: info.Size(), modified: info.ModTime(), sum: sum}
	return doc, sum, l.before.verified[sum], nil
}

func (l *loader) keySet(f document) error {
	doc, sum, verified, err := l.read(f)
	if err != nil {
		return err
	}
	set, ok := verified.(*keyset.KeySet)
	if !ok {
		if set, _, err = keyset.OpenKeySet(doc, l.verify); err != nil {
			return err
		}
	}
	if string(set.ID) != f.name || uint64(set.Revision) != f.number {
		return fmt.Errorf("the document is revision %d of %s", set.Revision, set.ID)
	}
	if err := follows(l.next.sets[set.ID], set); err != nil {
		return err
	}
	l.next.verified[sum], l.next.sets[set.ID] = set, set
	return nil
}

// follows checks that a set is the next revision of the one before, or the first.
func follows(prev, next *keyset.KeySet) error {
	if prev != nil {
		return keyset.CheckSuccessor(prev, next)
	}
	if next.Revision != 1 {
		return fmt.Errorf("revision %d, and revision 1 is missing", next.Revision)
	}
	return nil
}

// checkSets checks the latest revisions against the deployment, the keys and each other.
func (l *loader) checkSets() error {
	known := map[keyset.KeyRef]engine.KeyInfo{}
	var held []engine.KeyInfo
	if l.options.Keys != nil {
		held = l.options.Keys()
	}
	for _, k := range held {
		known[k.ID] = k
		if k.Version >= known[k.Ref].Version {
			known[k.Ref] = k
		}
	}
	sets := slices.Collect(maps.Values(l.next.sets))
	slices.SortFunc(sets, func(a, b *keyset.KeySet) int { return cmp.Compare(a.ID, b.ID) })
	l.next.over = map[keys.Fingerprint][]*keyset.KeySet{}
	for _, s := range sets {
		l.next.over[s.BaseKeyFingerprint] = append(l.next.over[s.BaseKeyFingerprint], s)
		if s.Tenant != l.options.Tenant || s.Environment != l.options.Environment {
			return fmt.Errorf("key set %s is of tenant %s and environment %v, this is %s and %v",
				s.ID, s.Tenant, s.Environment, l.options.Tenant, l.options.Environment)
		}
		if l.options.Keys == nil {
			continue
		}
		k, ok := known[s.BaseKey]
		if !ok && l.options.Elsewhere {
			continue
		}
		if !ok {
			return fmt.Errorf("key set %s: the %s has no base key %s", s.ID, cmp.Or(l.options.Holder, "keyring"), s.BaseKey)
		}
		if err := matches(s, k); err != nil {
			return err
		}
	}
	return keyset.DisjointRanges(sets)
}

// matches checks what a set says about its base key against the key.
func matches(s *keyset.KeySet, k engine.KeyInfo) error {
	switch {
	case k.Fingerprint != s.BaseKeyFingerprint:
		return fmt.Errorf("key set %s: base key %s has fingerprint %v, the set says %v", s.ID, s.BaseKey, k.Fingerprint, s.BaseKeyFingerprint)
	case k.Labels.Environment != s.Environment:
		return fmt.Errorf("key set %s: base key %s is of environment %v, the set of %v", s.ID, s.BaseKey, k.Labels.Environment, s.Environment)
	case k.Attributes.Usage != keys.UsageBDK || k.Attributes.Algorithm != s.Algorithm:
		return fmt.Errorf("key set %s: %s is a %v key of usage %s, no base key of %v", s.ID, s.BaseKey, k.Attributes.Algorithm, k.Attributes.Usage, s.Algorithm)
	}
	return nil
}

func (l *loader) terminal(f document) error {
	doc, sum, verified, err := l.read(f)
	if err != nil {
		return err
	}
	t, ok := verified.(signedTerminal)
	if !ok {
		if t.record, t.approvers, err = keyset.OpenTerminal(doc, l.verify); err != nil {
			return err
		}
	}
	if string(t.record.ID) != f.name || t.record.Generation != f.number {
		return fmt.Errorf("the document is generation %d of %s", t.record.Generation, t.record.ID)
	}
	if err := l.next.accepts(l.options, t); err != nil {
		return err
	}
	l.next.verified[sum], l.next.terminals[t.record.ID] = t, t.record
	return nil
}

// accepts checks that a record is the next of its terminal, and each of its slots against its key set.
func (c *contents) accepts(o CatalogOptions, t signedTerminal) error {
	var previous uint64
	if p := c.terminals[t.record.ID]; p != nil {
		previous = p.Generation
	}
	if t.record.Generation != previous+1 {
		return fmt.Errorf("generation %d follows generation %d", t.record.Generation, previous)
	}
	if t.record.Tenant != o.Tenant {
		return fmt.Errorf("the record is of tenant %s, this is %s", t.record.Tenant, o.Tenant)
	}
	if err := keyset.RequireApprovals(o.Environment, t.approvers); err != nil {
		return err
	}
	for _, slot := range t.record.Slots {
		set, ok := c.sets[slot.KeySet]
		if !ok {
			return fmt.Errorf("slot %d names key set %s, which does not exist", slot.Slot, slot.KeySet)
		}
		if !set.Contains(slot.KeyID) {
			return fmt.Errorf("slot %d has key id %v, which is outside key set %s", slot.Slot, slot.KeyID, slot.KeySet)
		}
	}
	return nil
}

// checkTerminals checks that no two terminals hold one key.
func (l *loader) checkTerminals() error {
	return l.next.oneHolderEach(slices.Collect(maps.Values(l.next.terminals)))
}

func (c *contents) oneHolderEach(terminals []*keyset.Terminal) error {
	c.holders = map[heldKey]keyset.TerminalID{}
	for _, t := range terminals {
		for _, s := range t.Slots {
			k := heldKey{s.KeySet, s.KeyID}
			if other, taken := c.holders[k]; taken {
				return fmt.Errorf("terminals %s and %s hold key id %v of key set %s", other, t.ID, s.KeyID, s.KeySet)
			}
			c.holders[k] = t.ID
		}
	}
	return nil
}
