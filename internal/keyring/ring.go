package keyring

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

var (
	// ErrDamaged says that a file of the ring is not what was written; the text names the file.
	ErrDamaged = errors.New("keyring: damaged")
	// ErrExposed says that a file or the folder is open to others than its owner; the text names it.
	ErrExposed = errors.New("keyring: open to group or others")
	// ErrDuplicate says that the ring has this very key under another name.
	ErrDuplicate = errors.New("keyring: the key is here under another name")
	// ErrExists says that the name is taken.
	ErrExists = errors.New("keyring: name is taken")
	// ErrRewrapped says that the local master key was replaced after the ring was opened. Keys that are open stay so; whoever wants more
	// opens the ring anew.
	ErrRewrapped = errors.New("keyring: the local master key was replaced")
)

var errClosed = fmt.Errorf("%w: keyring is closed", engine.ErrUnavailable)

// Options adjust a ring.
type Options struct {
	Clock func() time.Time // dates new keys; nil: time.Now
	Seal  seal.Params      // cost of sealing the local master key; zero: seal.DefaultParams. Cheap ones are for tests

	syncDir func(string) error // nil: seal.SyncDir; tests watch it
}

func (o Options) filled() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Seal == (seal.Params{}) {
		o.Seal = seal.DefaultParams
	}
	if o.syncDir == nil {
		o.syncDir = seal.SyncDir
	}
	return o
}

// Ring is an open key folder. It is safe for concurrent use, also beside other processes that add keys: see Reload. It
// prints its folder and nothing else.
type Ring struct {
	dir    string
	clock  func() time.Time
	master *master
	probe  atomic.Uint64 // which key Check uses next
	ended  sync.Pool     // of *dukpt.HostTransaction, which hold no keys any more

	mu      sync.RWMutex // held for reading while a key is used, for writing while keys are added or wiped
	closed  bool
	byID    map[keyset.KeyRef]*entry
	names   map[keyset.KeyRef][]*entry // by alias, oldest version first
	secrets map[string][]keys.Key      // by name; index 0 is version 1
}

// Create makes a ring in dir, which must not exist or be empty, with fresh named secrets and no keys, and opens it. The
// caller keeps the passphrase and wipes it.
func Create(dir string, passphrase secret.Bytes) (*Ring, error) {
	return CreateWith(dir, passphrase, Options{})
}

// CreateWith is Create with options.
func CreateWith(dir string, passphrase secret.Bytes, o Options) (*Ring, error) {
	o = o.filled()
	if err := vacant(dir); err != nil {
		return nil, err
	}
	if err := makeFolder(filepath.Clean(dir), o.syncDir); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, folderMode); err != nil { // it may have been there, with another mode
		return nil, fmt.Errorf("keyring: %w", err)
	}
	sealed, protector, err := newMaster(passphrase, o)
	if err != nil {
		return nil, err
	}
	r := newRing(dir, &master{protectors: []*keyblock.Protector{protector}}, o)
	if err := r.create(sealed); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Ring) create(sealed []byte) error {
	for _, name := range secretNames {
		if err := r.addSecret(name); err != nil {
			return err
		}
	}
	// The local master key comes last: a folder without it was never finished, and holds nothing that can be read.
	if err := seal.WriteFile(filepath.Join(r.dir, lmkFile), sealed, fileMode); err != nil {
		return err
	}
	var err error
	r.master.stamp, err = masterStamp(r.dir)
	return err
}

// Open reads a ring and every file in it. Any file that does not verify fails it: errors wrap ErrDamaged, ErrExposed,
// seal.ErrPassphrase, seal.ErrFormat, keys.ErrWeak for a weak base key, or the error of the file system, and name the file; or
// ErrRewrapped while Rewrap is at work. The caller keeps the passphrase.
func Open(dir string, passphrase secret.Bytes) (*Ring, error) {
	return OpenWith(dir, passphrase, Options{})
}

// OpenWith is Open with options.
func OpenWith(dir string, passphrase secret.Bytes, o Options) (*Ring, error) {
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	m, err := openMaster(dir, passphrase)
	if err != nil {
		return nil, err
	}
	r := newRing(dir, m, o.filled())
	if err := r.Reload(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func newRing(dir string, m *master, o Options) *Ring {
	return &Ring{
		dir: dir, clock: o.Clock, master: m,
		byID: map[keyset.KeyRef]*entry{}, names: map[keyset.KeyRef][]*entry{}, secrets: map[string][]keys.Key{},
	}
}

// Generate makes a random key under a new alias. It is durable when Generate returns. Errors wrap ErrExists, or
// engine.ErrUnavailable after Close.
func (r *Ring) Generate(ref keyset.KeyRef, a keys.Attributes, env keyset.Environment) (engine.KeyInfo, error) {
	k, err := keys.GenerateKey(a)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	defer k.Wipe()
	return r.add(ref, k, env, newName)
}

// Import takes a key in under a new alias. It copies the key, which the caller still wipes. Errors wrap ErrExists,
// ErrDuplicate when any name of the ring has this very key, keys.ErrWeak for a key that keys.ImportKey would not take, or
// engine.ErrUnavailable after Close.
func (r *Ring) Import(ref keyset.KeyRef, k keys.Key, env keyset.Environment) (engine.KeyInfo, error) {
	if k.IsZero() {
		return engine.KeyInfo{}, errors.New("keyring: no key to import")
	}
	if err := k.CheckWeak(); err != nil {
		return engine.KeyInfo{}, fmt.Errorf("keyring: %s: %w", ref, err)
	}
	return r.add(ref, k, env, newName)
}

// Rotate makes a random key of the same kind and environment as the next version under an alias; the alias means the new
// one from then on, and the old one keeps its id. Base keys do not rotate: terminals hold what was derived from them.
// Errors wrap engine.ErrKeyNotFound, engine.ErrUsage or engine.ErrUnavailable.
func (r *Ring) Rotate(ref keyset.KeyRef) (engine.KeyInfo, error) {
	old, err := r.describe(ref)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	if !ref.IsAlias() || old.Attributes.Usage == keys.UsageBDK {
		return engine.KeyInfo{}, fmt.Errorf("%w: %s is an id or names a base key, and these do not rotate", engine.ErrUsage, ref)
	}
	k, err := keys.GenerateKey(old.Attributes)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	defer k.Wipe()
	return r.add(ref, k, old.Labels.Environment, nextVersion)
}

// How add treats a name.
const (
	newName     = false
	nextVersion = true
)

func (r *Ring) add(ref keyset.KeyRef, k keys.Key, env keyset.Environment, next bool) (engine.KeyInfo, error) {
	if !ref.IsAlias() {
		return engine.KeyInfo{}, fmt.Errorf("keyring: key name %q is not an alias", ref)
	}
	if _, err := env.MarshalText(); err != nil {
		return engine.KeyInfo{}, err
	}
	var info engine.KeyInfo
	err := underLock(r.dir, func() error {
		if err := r.Reload(); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.closed {
			return errClosed
		}
		versions := r.names[ref]
		if len(versions) > 0 && !next {
			return fmt.Errorf("%w: %s", ErrExists, ref)
		}
		e, err := r.write(ref, k, env, uint32(len(versions))+1)
		if err != nil {
			return err
		}
		r.byID[e.info.ID] = e
		r.names[ref] = append(versions, e)
		info = e.info
		return nil
	})
	return info, err
}

// write stores a key and returns it as Open would read it. The ring is locked.
func (r *Ring) write(ref keyset.KeyRef, k keys.Key, env keyset.Environment, version uint32) (*entry, error) {
	fp := k.Fingerprint(r.fingerprints())
	for _, e := range r.byID {
		if e.info.Fingerprint == fp {
			return nil, fmt.Errorf("%w: %s", ErrDuplicate, e.info.Ref)
		}
	}
	random := make([]byte, 26)
	_, _ = rand.Read(random) // cannot fail
	rec := record{
		Version: recordVersion, Ref: ref.String(), ID: newID(random), Created: r.clock().UTC().Format(timeLayout),
		Environment: env.String(), KeyVersion: version, KCV: k.KCV().String(), Fingerprint: fp.String(),
	}
	var err error
	if rec.Block, err = r.master.wrap(k, rec.label()); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	e, err := rec.open(r.master, r.labelled)
	if err != nil {
		return nil, fmt.Errorf("keyring: %s: %w", ref, err)
	}
	b, err := writeStrict(rec)
	if err == nil {
		err = seal.WriteFile(filepath.Join(r.dir, rec.ID+keySuffix), b, fileMode)
	}
	if err != nil {
		e.wipe()
		return nil, err
	}
	return e, nil
}

// Reload takes in what other processes added to the folder. Keys already open stay as they are. On error nothing changes;
// a file that is gone is an error, because keys are never deleted. It fails with ErrRewrapped once Rewrap has begun.
func (r *Ring) Reload() error {
	r.mu.Lock() // before the folder is listed: what this process adds meanwhile would be open and not listed
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	if err := checkFolder(r.dir); err != nil {
		return err
	}
	if err := r.master.check(r.dir); err != nil {
		return err
	}
	if err := r.reload(); err != nil {
		return cmp.Or(r.master.check(r.dir), err) // what is wrapped anew meanwhile is no damage
	}
	return nil
}

// reload reads the folder. The ring is locked.
func (r *Ring) reload() error {
	keyFiles, secretFiles, err := list(r.dir)
	if err != nil {
		return err
	}
	secrets, err := r.readSecrets(secretFiles)
	if err != nil {
		return err
	}
	previous := r.secrets
	r.secrets = secrets // fingerprints need them
	fresh, err := r.readKeys(keyFiles)
	if err == nil {
		err = r.merge(fresh, len(keyFiles))
	}
	if err != nil {
		for _, e := range fresh {
			e.wipe()
		}
		r.secrets = previous
		return err
	}
	return nil
}

// readKeys reads the key files that are not open yet.
func (r *Ring) readKeys(files []string) ([]*entry, error) {
	var fresh []*entry
	for _, name := range files {
		id, err := keyset.ParseKeyRef(strings.TrimSuffix(name, keySuffix))
		if err == nil && r.byID[id] != nil {
			continue
		}
		path := filepath.Join(r.dir, name)
		b, err := readFile(path)
		if err != nil {
			return fresh, err
		}
		var rec record
		err = readStrict(b, &rec)
		if err == nil && rec.ID+keySuffix != name {
			err = errors.New("the file has the name of another key")
		}
		var e *entry
		if err == nil {
			e, err = rec.open(r.master, r.labelled)
		}
		if errors.Is(err, errNoKCV) || errors.Is(err, keys.ErrWeak) { // what was written, and of no use
			return fresh, fmt.Errorf("keyring: %s: %w", path, err)
		}
		if err != nil {
			return fresh, fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
		}
		fresh = append(fresh, e)
	}
	return fresh, nil
}

// merge adds fresh keys if the whole is consistent: no file gone, no key twice, versions of each name from 1 on.
func (r *Ring) merge(fresh []*entry, files int) error {
	if files != len(r.byID)+len(fresh) {
		return fmt.Errorf("%w: %s: %d key files, want %d: some are gone", ErrDamaged, r.dir, files, len(r.byID)+len(fresh))
	}
	byID, names := map[keyset.KeyRef]*entry{}, map[keyset.KeyRef][]*entry{}
	seen := map[keys.Fingerprint]keyset.KeyRef{}
	for _, e := range r.byID {
		byID[e.info.ID], seen[e.info.Fingerprint] = e, e.info.Ref
		names[e.info.Ref] = append(names[e.info.Ref], e)
	}
	for _, e := range fresh {
		if other, dup := seen[e.info.Fingerprint]; dup {
			return fmt.Errorf("%w: %s: %s and %s are the same key", ErrDamaged, r.dir, other, e.info.Ref)
		}
		byID[e.info.ID], seen[e.info.Fingerprint] = e, e.info.Ref
		names[e.info.Ref] = append(names[e.info.Ref], e)
	}
	for ref, versions := range names {
		slices.SortFunc(versions, func(a, b *entry) int { return cmp.Compare(a.info.Version, b.info.Version) })
		for i, e := range versions {
			if e.info.Version != uint32(i)+1 {
				return fmt.Errorf("%w: %s: version %d of %s is missing or there twice", ErrDamaged, r.dir, i+1, ref)
			}
		}
	}
	r.byID, r.names = byID, names
	return nil
}

// List returns what is public about every key, by name and version.
func (r *Ring) List() []engine.KeyInfo {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]engine.KeyInfo, 0, len(r.byID))
	for _, e := range r.byID {
		out = append(out, e.info)
	}
	slices.SortFunc(out, func(a, b engine.KeyInfo) int {
		return cmp.Or(cmp.Compare(a.Ref.String(), b.Ref.String()), cmp.Compare(a.Version, b.Version))
	})
	return out
}

// InitialKey derives the initial key of a terminal under a base key, for the caller to wipe. Errors wrap engine.ErrKeyNotFound,
// engine.ErrUsage, engine.ErrUnavailable, dukpt.ErrKSN or the context's.
func (r *Ring) InitialKey(ctx context.Context, ref keyset.KeyRef, id dukpt.KeyID) (*dukpt.InitialKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	base, err := r.BaseKey(ref)
	if err != nil {
		return nil, err
	}
	defer base.Wipe()
	return base.Derive(id)
}

// BaseKey returns a base key of its own for the caller to derive initial keys with, and to wipe. Errors wrap
// engine.ErrKeyNotFound, engine.ErrUsage or engine.ErrUnavailable.
func (r *Ring) BaseKey(ref keyset.KeyRef) (*dukpt.BaseKey, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, err := r.find(ref)
	if err != nil {
		return nil, err
	}
	if e.base == nil {
		return nil, fmt.Errorf("%w: %s has usage %s, want %s", engine.ErrUsage, ref, e.info.Attributes.Usage, keys.UsageBDK)
	}
	return dukpt.NewBaseKey(e.key)
}

// Close wipes every key. It waits for operations under way, may be called again, and everything else fails afterwards.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.master.wipe()
	for _, e := range r.byID {
		e.wipe()
	}
	for _, versions := range r.secrets {
		for _, k := range versions {
			k.Wipe()
		}
	}
	clear(r.byID)
	clear(r.names)
	clear(r.secrets)
}

// find returns the key that ref means now. The ring is locked.
func (r *Ring) find(ref keyset.KeyRef) (*entry, error) {
	if r.closed {
		return nil, errClosed
	}
	if e := r.byID[ref]; e != nil {
		return e, nil
	}
	if versions := r.names[ref]; len(versions) > 0 {
		return versions[len(versions)-1], nil
	}
	return nil, fmt.Errorf("%w: %q", engine.ErrKeyNotFound, ref.String())
}

func (r *Ring) describe(ref keyset.KeyRef) (engine.KeyInfo, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, err := r.find(ref)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	return e.info, nil
}

func (r *Ring) labelled(env keyset.Environment) labelled {
	return labelled{labels: softwareLabels(env), fingerprints: r.fingerprints()}
}

// Format prints the folder, whatever the verb.
func (r *Ring) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, r.String()) }

// String returns the folder.
func (r *Ring) String() string {
	if r == nil {
		return "keyring.Ring(none)"
	}
	return "keyring.Ring(" + r.dir + ")"
}

// LogValue logs the folder.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText gives encoders the folder.
func (r *Ring) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
