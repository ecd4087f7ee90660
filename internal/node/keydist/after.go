package keydist

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// after knows the key ids that were given out by other means than this host: what the configuration says, and those of
// terminals with signed records, whose keys came in bundles.
type after struct {
	configured map[keyset.ID]dukpt.KeyID
	catalog    *deploy.Catalog
}

// newAfter holds the configuration to the key sets: a key id of another set would say nothing about this one.
func newAfter(c Config, catalog *deploy.Catalog) (*after, error) {
	configured, err := c.firstAfter()
	if err != nil {
		return nil, err
	}
	for id, last := range configured {
		set, ok := catalog.KeySet(id)
		if !ok {
			return nil, fmt.Errorf("first-after: there is no key set %s", id)
		}
		if !set.Contains(last) {
			return nil, fmt.Errorf("first-after: %v is no key id of %s", last, id)
		}
	}
	return &after{configured, catalog}, nil
}

// of returns the highest of them, zero for none.
func (a *after) of(set *keyset.KeySet) dukpt.KeyID {
	last := a.configured[set.ID]
	for _, t := range a.catalog.Terminals() {
		for _, s := range t.Slots {
			if s.KeySet == set.ID && s.KeyID.Compare(last) > 0 {
				last = s.KeyID
			}
		}
	}
	return last
}
