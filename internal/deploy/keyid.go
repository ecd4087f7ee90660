package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const lastSuffix = ".last"

// ErrNoKeyID says that every key id of a set was given out.
var ErrNoKeyID = errors.New("deploy: the key set has no key id left")

// allocate gives out the next key id of a set and makes that durable before it returns, so that an id is given out at
// most once whatever happens afterwards. The folder is locked.
func (d *Deployment) allocate(set *keyset.KeySet, catalog *Catalog) (dukpt.KeyID, error) {
	id, err := d.nextKeyID(set, catalog)
	if err != nil {
		return dukpt.KeyID{}, err
	}
	if err := seal.WriteFile(d.lastPath(set), []byte(id.String()+"\n"), 0o600); err != nil {
		return dukpt.KeyID{}, err
	}
	return id, nil
}

// lastPath is the file with the highest key id of a set that was given out.
func (d *Deployment) lastPath(set *keyset.KeySet) string {
	return d.Path("keysets", string(set.ID)+lastSuffix)
}

// nextKeyID returns what allocate would give out. It is above both the stored mark and every id in a record: a mark that
// was restored from an old backup gives out no id twice as long as the records are newer.
func (d *Deployment) nextKeyID(set *keyset.KeySet, catalog *Catalog) (dukpt.KeyID, error) {
	last, err := readLast(d.lastPath(set), set)
	if err != nil {
		return dukpt.KeyID{}, err
	}
	for _, t := range catalog.Terminals() {
		for _, s := range t.Slots {
			if s.KeySet == set.ID && s.KeyID.Compare(last) > 0 {
				last = s.KeyID
			}
		}
	}
	id, ok := set.FirstID, true
	if !last.IsZero() {
		id, ok = last.Next()
	}
	if !ok || !set.Contains(id) {
		return dukpt.KeyID{}, fmt.Errorf("%w: %s ends at %v", ErrNoKeyID, set.ID, set.LastID)
	}
	return id, nil
}

// readLast returns the highest id that was given out, zero when none was.
func readLast(path string, set *keyset.KeySet) (dukpt.KeyID, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return dukpt.KeyID{}, nil
	}
	if err != nil {
		return dukpt.KeyID{}, fmt.Errorf("deploy: %w", err)
	}
	id, err := dukpt.ParseKeyID(strings.TrimSuffix(string(b), "\n"))
	if err != nil || id.String()+"\n" != string(b) || !set.Contains(id) {
		return dukpt.KeyID{}, fmt.Errorf("deploy: %s does not hold a key id of set %s", path, set.ID)
	}
	return id, nil
}
