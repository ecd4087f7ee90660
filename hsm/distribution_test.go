package hsm

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// distributed is one base key with the initial key that comes out of it.
var distributed = []struct {
	name      string
	algorithm keys.Algorithm
	value, id string
}{
	{"tdes", keys.TDES2, tdesBDK, "FFFF9876543210E00000"},
	{"aes", keys.AES128, aesBDK, "1234567890123456"},
	{"aes-256", keys.AES256, "FEDCBA9876543210F1F1F1F1F1F1F1F1FEDCBA9876543210F1F1F1F1F1F1F1F0", "1234567890123456"},
}

// TestTwoHosts has one base key in the token of each host. Each can do its own work, and refuses that of the other: to our
// code, and to whoever calls the module.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	kdh, host := open(t, Options{}), open(t, Options{})
	for _, d := range distributed {
		t.Run(d.name, func(t *testing.T) {
			a := attributesFor(d.algorithm, keys.UsageBDK, keys.ModeDerive)
			ref, key := alias(t, d.name), newKey(t, a, d.value)
			there, err := kdh.Distribution().Import(t.Context(), ref, key, keyset.Test)
			if err != nil {
				t.Fatal(err)
			}
			here, err := host.Import(t.Context(), ref, key, keyset.Test)
			if err != nil {
				t.Fatal(err)
			}
			if there.Fingerprint != here.Fingerprint || there.KCV != here.KCV || there.Labels.KeyMode != engine.BDKInToken {
				t.Errorf("there %+v\nhere %+v", there, here)
			}
			id, err := dukpt.ParseKeyID(d.id)
			if err != nil {
				t.Fatal(err)
			}
			base, err := dukpt.NewBaseKey(key)
			if err != nil {
				t.Fatal(err)
			}
			defer base.Wipe()
			want, err := base.Derive(id)
			if err != nil {
				t.Fatal(err)
			}
			defer want.Wipe()
			got, err := kdh.Distribution().InitialKey(t.Context(), ref, id)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Wipe()
			g, w := got.Key(), want.Key()
			defer g.Wipe()
			defer w.Wipe()
			if !bytes.Equal(g.Material().Expose(), w.Material().Expose()) || got.KeyID() != id || g.Attributes() != w.Attributes() {
				t.Error("the initial key is not the one that software derives")
			}
			ksn := firstOf(id)
			if ops, err := host.Engine().Begin(t.Context(), ref, ksn); err != nil {
				t.Errorf("a transaction at the host: %v", err)
			} else {
				ops.End()
			}
			if ik, err := host.Distribution().InitialKey(t.Context(), ref, id); !errors.Is(err, engine.ErrUsage) || ik != nil {
				t.Errorf("the host gives an initial key: %v", err)
			}
			if _, err := kdh.Engine().Begin(t.Context(), ref, ksn); !errors.Is(err, engine.ErrUsage) {
				t.Errorf("a transaction at the key-distribution host: %v", err)
			}
			if _, err := kdh.Engine().BeginBatch(t.Context(), ref, []dukpt.KSN{ksn}); !errors.Is(err, engine.ErrUsage) {
				t.Errorf("transactions at the key-distribution host: %v", err)
			}
			if d.algorithm.IsAES() { // for TDES both objects encrypt, and the record alone tells them apart
				refusesWork(t, kdh, ref, true)
				refusesWork(t, host, ref, false)
			}
		})
	}
	otherwise(t, kdh)
}

// firstOf returns the first KSN of a key id.
func firstOf(id dukpt.KeyID) dukpt.KSN {
	b := id.Append(nil)
	if id.Scheme() == dukpt.AES {
		b = append(b, 0, 0, 0, 0)
	}
	b[len(b)-1]++
	return must(dukpt.ParseKSN(b))
}

// refusesWork calls the module past our code, with the rights of whoever is logged in.
func refusesWork(t *testing.T, token *Token, ref keyset.KeyRef, distributes bool) {
	t.Helper()
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		e, err := c.keys.Load().find(ref)
		if err != nil {
			return err
		}
		in := loader{reader: reader{device: c.device, session: l.session, shape: token.shape}}
		step := dukpt.Derivation{Key: dukpt.KeyAES128, Data: printAES}
		for what, call := range map[string]func() error{
			"derives": func() error { _, err := token.shape.derive(c.device, l.session, e.object, step, useDerive); return err },
			"encrypts": func() error {
				_, err := c.device.encrypt(l.session, mechanism{code: mechAESECB}, e.object, printAES)
				return err
			},
			"decrypts": func() error {
				_, err := c.device.decrypt(l.session, mechanism{code: mechAESECB}, e.object, printAES)
				return err
			},
			"is read":      func() error { _, err := in.read(e.object); return err },
			"is wrapped":   func() error { _, err := in.wrapped(e.object); return err },
			"is given out": func() error { _, err := e.initial(c, l, must(dukpt.ParseKeyID("1234567890123456"))); return err },
		} {
			may := distributes && (what == "encrypts" || what == "is given out") || !distributes && what == "derives"
			if err := call(); (err == nil) != may || err != nil && !refusedByKey(err) {
				t.Errorf("distribution %v: the key %s: %v", distributes, what, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// otherwise asks a key-distribution host for what it has not.
func otherwise(t *testing.T, kdh *Token) {
	zone := newKey(t, attributesFor(keys.AES128, keys.UsagePIN, keys.ModeEncrypt), "00112233445566778899AABBCCDDEEFF")
	if _, err := kdh.Distribution().Import(t.Context(), alias(t, "zone"), zone, keyset.Test); !errors.Is(err, ErrAttributes) {
		t.Errorf("a zone key for distribution: %v", err)
	}
	if _, err := kdh.Import(t.Context(), alias(t, "zone"), zone, keyset.Test); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		ref  string
		id   dukpt.KeyID
		want error
	}{
		"no such key":    {"none", must(dukpt.ParseKeyID("1234567890123456")), engine.ErrKeyNotFound},
		"a zone key":     {"zone", must(dukpt.ParseKeyID("1234567890123456")), engine.ErrUsage},
		"another scheme": {"tdes", must(dukpt.ParseKeyID("1234567890123456")), engine.ErrUsage},
		"no key id":      {"aes", dukpt.KeyID{}, dukpt.ErrKSN},
	} {
		if ik, err := kdh.Distribution().InitialKey(t.Context(), alias(t, tt.ref), tt.id); !errors.Is(err, tt.want) || ik != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	r, err := kdh.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range r.Keys {
		if !strings.Contains(k.Why, "for a key-distribution host") {
			t.Errorf("%s: %s", k.Ref, k.Why)
		}
	}
	again := openAgain(t, kdh.URI(), Options{}) // what the keys are for stays in the token
	if _, err := again.Engine().Begin(t.Context(), alias(t, "aes"), firstOf(must(dukpt.ParseKeyID("1234567890123456")))); !errors.Is(err, engine.ErrUsage) {
		t.Errorf("after it was opened again: %v", err)
	}
}

// TestDistributionRecordOfAnother has a key that derives carry the record of one for distribution.
func TestDistributionRecordOfAnother(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	token := openAgain(t, u, Options{})
	key := newKey(t, attributesFor(keys.AES128, keys.UsageBDK, keys.ModeDerive), "FEDCBA9876543210F1F1F1F1F1F1F1F1")
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		in := loader{reader: reader{device: c.device, session: l.session, shape: token.shape}, options: token.options, known: c.keys.Load(), distributes: true}
		fp, err := fingerprintOf(keys.AES128, key.Material().Expose())
		if err != nil {
			return err
		}
		r := in.record(key.Attributes(), keyset.Test, key.KCV(), fp)
		_, err = in.create(keys.AES128, key.Material().Expose(), "false", r.String(), []use{useDerive})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pin := secret.From([]byte(hsmtest.PIN))
	defer pin.Wipe()
	if _, err := Open(t.Context(), u, pin, Options{}); !errors.Is(err, ErrAttributes) {
		t.Errorf("the token is opened: %v", err)
	}
}
