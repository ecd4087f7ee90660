package registry

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/store/rows"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Meta implements provision.Tx.
func (t tx) Meta() (provision.Meta, error) {
	var m provision.Meta
	var tenant string
	var signer, pepper []byte
	ok, err := t.db.One(`SELECT tenant, epoch, objects, signer, pepper FROM meta WHERE id = 1`, nil,
		&tenant, &m.Epoch, &m.Objects, &signer, &pepper)
	if err != nil || !ok {
		return provision.Meta{}, err
	}
	if len(signer) != len(m.Signer) || len(pepper) != len(m.Pepper) {
		return provision.Meta{}, rows.Unreadable("row", fmt.Errorf("hashes of %d and %d bytes", len(signer), len(pepper)))
	}
	m.Tenant, m.Signer, m.Pepper = keyset.TenantID(tenant), [32]byte(signer), [32]byte(pepper)
	return m, nil
}

// PutMeta implements provision.Tx.
func (t tx) PutMeta(m provision.Meta) error {
	return t.exec(`INSERT INTO meta (id, v, tenant, epoch, objects, signer, pepper) VALUES (1, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, epoch = excluded.epoch,
			objects = excluded.objects, signer = excluded.signer, pepper = excluded.pepper`,
		version, string(m.Tenant), int64(m.Epoch), int64(m.Objects), m.Signer[:], m.Pepper[:])
}

// Highest implements provision.Tx.
func (t tx) Highest(set keyset.ID) (dukpt.KeyID, error) {
	var b []byte
	ok, err := t.db.One(`SELECT key_id FROM highest WHERE key_set = ?`, []any{string(set)}, &b)
	if err != nil || !ok {
		return dukpt.KeyID{}, err
	}
	var id dukpt.KeyID
	if err := id.UnmarshalBinary(b); err != nil {
		return dukpt.KeyID{}, rows.Unreadable("row", err)
	}
	return id, nil
}

// RaiseHighest implements provision.Tx.
func (t tx) RaiseHighest(set keyset.ID, id dukpt.KeyID) error {
	return t.exec(`INSERT INTO highest (key_set, v, key_id) VALUES (?, ?, ?)
		ON CONFLICT (key_set) DO UPDATE SET key_id = excluded.key_id WHERE excluded.key_id > highest.key_id`,
		string(set), version, id.Append(nil))
}
