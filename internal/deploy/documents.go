package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// SaveKeySet checks a signed key set as Catalog does, with certificates that are valid now, and stores it durably. It
// must be revision 1 of a new set, whose base key is in the keyring or among those of a token, or follow the latest revision.
// Errors wrap ErrDocument; nothing was stored then.
func (d *Deployment) SaveKeySet(doc []byte, inToken ...engine.KeyInfo) (*keyset.KeySet, error) {
	verify, err := Verifier(d.dir, d.config.Tenant, d.clock())
	if err != nil {
		return nil, err
	}
	set, _, err := keyset.OpenKeySet(doc, verify)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	err = underLock(d.dir, func() error {
		catalog, err := d.fresh()
		if err != nil {
			return err
		}
		l := loader{options: catalog.options, next: *catalog.contents.Load()}
		l.next.sets = maps.Clone(l.next.sets)
		if set.Revision == 1 { // later ones have the base key of the first
			held := append(slices.Clone(inToken), catalog.options.Keys()...) // a key of the keyring counts where both have the name
			if !slices.ContainsFunc(held, func(k engine.KeyInfo) bool { return k.Ref == set.BaseKey || k.ID == set.BaseKey }) {
				return fmt.Errorf("%w: key set %s: neither the keyring nor a token has a base key %s", ErrDocument, set.ID, set.BaseKey)
			}
			l.options.Keys = func() []engine.KeyInfo { return held }
		}
		if err := follows(l.next.sets[set.ID], set); err != nil {
			return fmt.Errorf("%w: %w", ErrDocument, err)
		}
		l.next.sets[set.ID] = set
		if err := l.checkSets(); err != nil {
			return fmt.Errorf("%w: %w", ErrDocument, err)
		}
		return writeOnce(d.Path("keysets", fmt.Sprintf("%s.r%d.signed", set.ID, set.Revision)), doc)
	})
	if err != nil {
		return nil, err
	}
	return set, nil
}

// SaveTerminal checks a signed terminal record as Catalog does, with certificates that are valid now, and stores it
// durably. It must be generation 1 of a new terminal or follow the latest. Errors wrap ErrDocument; nothing was stored
// then.
func (d *Deployment) SaveTerminal(doc []byte) (*keyset.Terminal, error) {
	var out *keyset.Terminal
	err := underLock(d.dir, func() error {
		catalog, err := d.fresh()
		if err != nil {
			return err
		}
		out, err = d.checkTerminal(catalog, doc)
		if err != nil {
			return err
		}
		return d.writeTerminal(out, doc)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// fresh returns the documents and keys as they are on disk now.
func (d *Deployment) fresh() (*Catalog, error) {
	ring, err := d.Keyring()
	if err != nil {
		return nil, err
	}
	if err := ring.Reload(); err != nil {
		return nil, err
	}
	return NewCatalog(d.catalogOptions(ring))
}

// checkTerminal returns the record of a document that may be stored.
func (d *Deployment) checkTerminal(catalog *Catalog, doc []byte) (*keyset.Terminal, error) {
	verify, err := Verifier(d.dir, d.config.Tenant, d.clock())
	if err != nil {
		return nil, err
	}
	record, approvers, err := keyset.OpenTerminal(doc, verify)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	now := *catalog.contents.Load()
	if err := now.accepts(catalog.options, signedTerminal{record: record, approvers: approvers}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	terminals := maps.Clone(now.terminals)
	terminals[record.ID] = record
	if err := now.oneHolderEach(slices.Collect(maps.Values(terminals))); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	return record, nil
}

func (d *Deployment) writeTerminal(t *keyset.Terminal, doc []byte) error {
	return writeOnce(d.Path("terminals", fmt.Sprintf("%s.g%d.signed", t.ID, t.Generation)), doc)
}

// writeOnce stores a document under a name that nothing has yet. The folder is locked.
func writeOnce(path string, doc []byte) error {
	_, err := os.Lstat(path)
	if err == nil {
		return fmt.Errorf("deploy: %s is there already: %w", filepath.Base(path), fs.ErrExist)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deploy: %w", err)
	}
	return seal.WriteFile(path, doc, 0o600)
}
