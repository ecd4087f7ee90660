package hsm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// entry is one key of the token, as one connection knows it. It does not change.
type entry struct {
	info    engine.KeyInfo
	object  object
	variant object // of a TDES base key
	base    object // of a base key whose keys are derived inside: the key, or a copy that is faster to reach
	parent  dukpt.WorkingKey
	wraps   bool // of a zone PIN key: it may take over a block that is carried

	distributes bool // initial keys come out for terminals, and no transaction is worked on
}

// inventory is what keys a connection knows. It does not change: a new key makes a new one.
type inventory struct {
	byID  map[keyset.KeyRef]*entry
	names map[keyset.KeyRef]*entry
}

// maxKeys is how many keys of ours a token may hold.
const maxKeys = 4096

// find returns the key that ref means.
func (v *inventory) find(ref keyset.KeyRef) (*entry, error) {
	if e := v.byID[ref]; e != nil {
		return e, nil
	}
	if e := v.names[ref]; e != nil {
		return e, nil
	}
	return nil, fmt.Errorf("%w: %q", engine.ErrKeyNotFound, ref.String())
}

// list returns the keys by name.
func (v *inventory) list() []*entry {
	out := make([]*entry, 0, len(v.byID))
	for _, e := range v.byID {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.info.Ref.String(), b.info.Ref.String()) })
	return out
}

// carries reports whether the token carries PIN blocks from key to key: it is wanted, and the token has shown that it can.
func (t *Token) carries() bool { return t.options.CarryPINs && t.shape.carriesAES != carriesNot }

// objectsOf finds the secret keys of the token. It is called when a connection is made or a key, never for a transaction.
func (t *Token) objectsOf(c *connection, s session) ([]object, error) {
	t.counts.finds.Add(1)
	found, err := c.device.findObjects(s, []attribute{number(attrClass, classSecret), flag(attrToken, true)}, maxKeys+1)
	if err != nil {
		return nil, err
	}
	if len(found) > maxKeys {
		return nil, fmt.Errorf("%w: the token holds more than %d secret keys", ErrAttributes, maxKeys)
	}
	return found, nil
}

// readKeys finds the keys of the token that have a record, and holds each to it. Any that is not what its record says fails
// it: nothing is decided on what is left.
func (t *Token) readKeys(c *connection) (*inventory, error) {
	o := c.owners[0]
	if err := o.turn.take(context.Background()); err != nil { // nobody else has the connection yet
		return nil, err
	}
	defer o.turn.give()
	found, err := t.objectsOf(c, o.session)
	if err != nil {
		return nil, err
	}
	v := &inventory{byID: map[keyset.KeyRef]*entry{}, names: map[keyset.KeyRef]*entry{}}
	variants := map[keyset.KeyRef]variantObject{}
	for _, found := range found {
		got, err := c.device.attributes(o.session, found, []uint{attrID, attrLabel})
		if err != nil {
			return nil, err
		}
		id, label := got[0].bytes, string(got[1].bytes)
		if !isRecord(id) {
			continue
		}
		if w, err := parseVariant(id); err == nil {
			if _, twice := variants[w.id]; twice {
				return nil, fmt.Errorf("%w: two variants of %s", ErrAmbiguous, w.id)
			}
			variants[w.id] = variantObject{w, found}
			continue
		}
		if err := v.add(id, label, found); err != nil {
			return nil, err
		}
	}
	r := reader{device: c.device, session: o.session, shape: t.shape, carries: t.carries()}
	for _, e := range v.list() {
		if err := r.open(e, variants); err != nil {
			return nil, fmt.Errorf("key %s: %w", e.info.Ref, err)
		}
	}
	if err := v.apart(); err != nil {
		return nil, err
	}
	return v, nil
}

type variantObject struct {
	record variant
	object object
}

// add notes an object by its record and name.
func (v *inventory) add(id []byte, label string, o object) error {
	r, err := parseRecord(id)
	if err != nil {
		return fmt.Errorf("%w: object %s: %w", ErrAttributes, strconv.Quote(label), err)
	}
	ref, err := keyset.ParseKeyRef(label)
	if err != nil || !ref.IsAlias() {
		return fmt.Errorf("%w: the name of key %s is not one", ErrAttributes, r.id)
	}
	if v.byID[r.id] != nil || v.names[ref] != nil {
		return fmt.Errorf("%w: two keys are called %s, or have the id %s", ErrAmbiguous, ref, r.id)
	}
	e := &entry{object: o, distributes: r.distributes, info: engine.KeyInfo{
		Ref: ref, ID: r.id, Version: 1, KCV: r.kcv, Fingerprint: r.fingerprint, Created: r.created,
		Attributes: keys.Attributes{Usage: r.usage, Mode: r.mode, Exportability: r.exports},
		Labels:     engine.Labels{PINExposure: engine.HostMemory, Environment: r.environment},
	}}
	v.byID[r.id], v.names[ref] = e, e
	return nil
}

// apart refuses one key under two names.
func (v *inventory) apart() error {
	seen := map[keys.Fingerprint]keyset.KeyRef{}
	for _, e := range v.list() {
		if other, dup := seen[e.info.Fingerprint]; dup {
			return fmt.Errorf("%w: %s and %s", ErrDuplicate, other, e.info.Ref)
		}
		seen[e.info.Fingerprint] = e.info.Ref
	}
	return nil
}

// with returns an inventory with one more key.
func (v *inventory) with(e *entry) *inventory {
	w := &inventory{byID: map[keyset.KeyRef]*entry{e.info.ID: e}, names: map[keyset.KeyRef]*entry{e.info.Ref: e}}
	for _, old := range v.byID {
		w.byID[old.info.ID], w.names[old.info.Ref] = old, old
	}
	return w
}
