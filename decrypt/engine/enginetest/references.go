package enginetest

import (
	"context"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// wrongUsage uses keys for what they are not for.
func wrongUsage(t *testing.T, b *bench) {
	first := ksn(t, "FFFF9876543210E00001")
	for _, alias := range []string{"zone/tdes", "zone/aes", "data"} {
		_, err := b.Engine.Begin(t.Context(), b.refs[alias], first)
		want(t, "Begin under "+alias, err, engine.ErrUsage)
		_, err = b.Engine.BeginBatch(t.Context(), b.refs[alias], []dukpt.KSN{first})
		want(t, "BeginBatch under "+alias, err, engine.ErrUsage)
	}
	translate(t, b, engine.ErrUsage, "bdk/tdes", "bdk/aes", "data")
}

func wrongEnvironment(t *testing.T, b *bench) { translate(t, b, engine.ErrUsage, "zone/production") }

// translate asks for a good PIN under keys that may not have it.
func translate(t *testing.T, b *bench, target error, aliases ...string) {
	t.Helper()
	pan := newPAN(t, cardNumber)
	eachSide(t, func(t *testing.T, s side) {
		tx := b.terminal(t, s.bdk, s.keyID).next()
		block, err := tx.EncryptPIN(nil, s.format, newPIN(t, "1234"), pan)
		if err != nil {
			t.Fatal(err)
		}
		ops := b.begin(t, s.bdk, tx.KSN())
		for _, alias := range aliases {
			key, ok := b.refs[alias]
			if !ok {
				key = ref(t, alias)
			}
			got, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: pan, Block: block},
				engine.PINOut{Format: s.format, PAN: pan, Key: key})
			want(t, "translation to "+alias, err, target)
			if len(got) != 0 {
				t.Errorf("translation to %s gave %X", alias, got)
			}
		}
		_, err = ops.TranslatePIN(nil, dukpt.PINBlock{Format: s.format, PAN: pan, Block: block}, engine.PINOut{Format: s.format, PAN: pan})
		want(t, "translation to no key", err, engine.ErrKeyNotFound)
	})
}

func wrongScheme(t *testing.T, b *bench) {
	_, err := b.Engine.Begin(t.Context(), b.refs["bdk/aes"], ksn(t, "FFFF9876543210E00001"))
	want(t, "KSN of TDES under a base key of AES", err, engine.ErrUsage)
	_, err = b.Engine.Begin(t.Context(), b.refs["bdk/tdes"], ksn(t, "123456789012345600000001"))
	want(t, "KSN of AES under a base key of TDES", err, engine.ErrUsage)
	_, err = b.Engine.Begin(t.Context(), b.refs["bdk/tdes"], dukpt.KSN{})
	want(t, "no KSN", err, dukpt.ErrKSN)
}

func unknownKey(t *testing.T, b *bench) {
	first := ksn(t, "FFFF9876543210E00001")
	for _, key := range []keyset.KeyRef{{}, ref(t, "alias/nothing"), ref(t, "alias/BDK/tdes"), ref(t, "0123456789ABCDEFGHJKMNPQRS")} {
		_, err := b.Engine.Begin(t.Context(), key, first)
		want(t, "Begin("+key.String()+")", err, engine.ErrKeyNotFound)
		_, err = b.Engine.BeginBatch(t.Context(), key, []dukpt.KSN{first})
		want(t, "BeginBatch("+key.String()+")", err, engine.ErrKeyNotFound)
		_, err = b.Engine.Describe(t.Context(), key)
		want(t, "Describe("+key.String()+")", err, engine.ErrKeyNotFound)
		_, err = b.Engine.Resolve(t.Context(), key)
		want(t, "Resolve("+key.String()+")", err, engine.ErrKeyNotFound)
	}
	translate(t, b, engine.ErrKeyNotFound, "alias/nothing")
}

// badIdentifiers checks that names which could mean a path never become a reference.
func badIdentifiers(t *testing.T, b *bench) {
	for _, s := range []string{
		"", "alias/", "bdk/tdes", "alias/..", "alias/../lmk", "alias/bdk/tdes\x00", "alias/\x00", "alias/bdk%2Ftdes", "alias/bdk%252Ftdes",
		"alias/bdk tdes", "ALIAS/bdk/tdes", "../../etc/passwd", "/etc/passwd", "alias/bdk\\tdes", "alias/ümlaut",
	} {
		r, err := keyset.ParseKeyRef(s)
		if err == nil || !r.IsZero() {
			t.Errorf("ParseKeyRef(%q) = %q, %v", s, r, err)
		}
		_, err = b.Engine.Describe(t.Context(), r)
		want(t, "Describe of what was refused", err, engine.ErrKeyNotFound)
	}
}

func describe(t *testing.T, b *bench) {
	var labels engine.Labels
	ids := map[keyset.KeyRef]string{}
	for alias, key := range b.refs {
		info, err := b.Engine.Describe(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		k := b.keys[alias]
		env := keyset.Test
		if alias == "zone/production" {
			env = keyset.Production
		}
		if info.Ref != key || info.Attributes != k.Attributes() || info.KCV != k.KCV() || info.Labels.Environment != env || info.Fingerprint.IsZero() {
			t.Errorf("%s: got %+v, want attributes %+v, check value %v, %v", alias, info, k.Attributes(), k.KCV(), env)
		}
		if _, err := engine.ParseKeyMode(info.Labels.KeyMode.String()); err != nil {
			t.Error(err)
		}
		if _, err := engine.ParsePINExposure(info.Labels.PINExposure.String()); err != nil {
			t.Error(err)
		}
		info.Labels.Environment = keyset.Test
		if b.KeyMode == nil && labels != (engine.Labels{}) && labels.KeyMode != info.Labels.KeyMode {
			t.Errorf("%s: labels %v beside %v", alias, info.Labels, labels)
		}
		if b.KeyMode != nil && k.Attributes().Usage == keys.UsageBDK && info.Labels.KeyMode != b.KeyMode(k.Attributes().Algorithm) {
			t.Errorf("%s: labels %v, want %v", alias, info.Labels, b.KeyMode(k.Attributes().Algorithm))
		}
		labels = info.Labels

		id, err := b.Engine.Resolve(t.Context(), key)
		if err != nil || id.IsAlias() || id != info.ID {
			t.Errorf("Resolve(%s) = %q, %v; Describe says %q", key, id, err, info.ID)
		}
		if other, dup := ids[id]; dup {
			t.Errorf("%s and %s have the id %s", other, alias, id)
		}
		ids[id] = alias
		if again, err := b.Engine.Resolve(t.Context(), id); err != nil || again != id {
			t.Errorf("Resolve(%s) = %q, %v", id, again, err)
		}
	}
	id, err := b.Engine.Resolve(t.Context(), b.refs["bdk/tdes"])
	if err != nil {
		t.Fatal(err)
	}
	ops, err := b.Engine.Begin(t.Context(), id, ksn(t, "FFFF9876543210E00001"))
	if err != nil {
		t.Fatalf("Begin by id: %v", err)
	}
	ops.End()
}

func batch(t *testing.T, b *bench) {
	mac := dukpt.TDES.DefaultMAC()
	term := b.terminal(t, "bdk/tdes", tdesKeyID)
	var ksns []dukpt.KSN
	var macs [][]byte
	for range 5 {
		tx := term.next()
		m, err := tx.MAC(nil, mac, []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		ksns, macs = append(ksns, tx.KSN()), append(macs, m)
		tx.End()
	}
	ops, err := b.Engine.BeginBatch(t.Context(), b.refs["bdk/tdes"], ksns)
	if err != nil || len(ops) != len(ksns) {
		t.Fatalf("got %d transactions, %v; want %d", len(ops), err, len(ksns))
	}
	for i, o := range ops {
		if err := o.VerifyMAC(mac, []byte("m"), macs[i]); err != nil {
			t.Errorf("transaction %d: %v", i, err)
		}
		o.End()
	}
	ops, err = b.Engine.BeginBatch(t.Context(), b.refs["bdk/tdes"], append(ksns, dukpt.KSN{}))
	if err == nil || len(ops) != 0 {
		t.Errorf("a batch with a bad KSN: %d transactions, %v", len(ops), err)
	}
	if ops, err = b.Engine.BeginBatch(t.Context(), b.refs["bdk/tdes"], nil); err != nil || len(ops) != 0 {
		t.Errorf("an empty batch: %d transactions, %v", len(ops), err)
	}
}

// cancelled checks that a cancelled context fails its own call and leaves the engine as good as before.
func cancelled(t *testing.T, b *bench) {
	ctx, first := cancelledContext(t), ksn(t, "FFFF9876543210E00001")
	_, err := b.Engine.Begin(ctx, b.refs["bdk/tdes"], first)
	want(t, "Begin", err, context.Canceled)
	_, err = b.Engine.BeginBatch(ctx, b.refs["bdk/tdes"], []dukpt.KSN{first})
	want(t, "BeginBatch", err, context.Canceled)
	_, err = b.Engine.Describe(ctx, b.refs["bdk/tdes"])
	want(t, "Describe", err, context.Canceled)
	want(t, "Check", b.Engine.Check(ctx), context.Canceled)
	if _, err := b.begin(t, "bdk/tdes", first).MACResponse(nil, dukpt.TDES.DefaultMAC(), []byte("m")); err != nil {
		t.Errorf("after a cancelled call: %v", err)
	}
}

// concurrent runs many transactions over few keys, each of them checked against what its terminal made.
func concurrent(t *testing.T, b *bench) {
	const workers, each = 20, 50
	type sent struct {
		side side
		ksn  dukpt.KSN
		mac  []byte
	}
	var work []sent
	for _, s := range sides() {
		term := b.terminal(t, s.bdk, s.keyID)
		for range 25 {
			tx := term.next()
			m, err := tx.MAC(nil, s.mac, []byte("m"))
			if err != nil {
				t.Fatal(err)
			}
			work = append(work, sent{s, tx.KSN(), m})
			tx.End()
		}
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				x := work[(w*7+i)%len(work)]
				ops, err := b.Engine.Begin(t.Context(), b.refs[x.side.bdk], x.ksn)
				if err != nil {
					t.Errorf("Begin: %v", err)
					return
				}
				if err := ops.VerifyMAC(x.side.mac, []byte("m"), x.mac); err != nil {
					t.Errorf("VerifyMAC of %s: %v", x.ksn, err)
				}
				if _, err := b.Engine.Describe(t.Context(), b.refs[x.side.zone]); err != nil {
					t.Errorf("Describe: %v", err)
				}
				ops.End()
			}
		})
	}
	wg.Wait()
}

func check(t *testing.T, b *bench) {
	for range 2 * len(b.refs) { // an engine may check one key at a time
		if err := b.Engine.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func closed(t *testing.T, b *bench) {
	if b.Close == nil {
		t.Skip("this engine cannot be closed")
	}
	first := ksn(t, "FFFF9876543210E00001")
	ops := b.begin(t, "bdk/tdes", first)
	b.Close()
	b.Close()
	_, err := b.Engine.Begin(t.Context(), b.refs["bdk/tdes"], first)
	want(t, "Begin", err, engine.ErrUnavailable)
	_, err = b.Engine.BeginBatch(t.Context(), b.refs["bdk/tdes"], []dukpt.KSN{first})
	want(t, "BeginBatch", err, engine.ErrUnavailable)
	_, err = b.Engine.Describe(t.Context(), b.refs["bdk/tdes"])
	want(t, "Describe", err, engine.ErrUnavailable)
	_, err = b.Engine.Resolve(t.Context(), b.refs["bdk/tdes"])
	want(t, "Resolve", err, engine.ErrUnavailable)
	want(t, "Check", b.Engine.Check(t.Context()), engine.ErrUnavailable)
	pan := newPAN(t, cardNumber)
	_, err = ops.TranslatePIN(nil, dukpt.PINBlock{Format: pin.Format0, PAN: pan, Block: make([]byte, 8)},
		engine.PINOut{Format: pin.Format0, PAN: pan, Key: b.refs["zone/tdes"]})
	want(t, "TranslatePIN of a transaction that was open", err, engine.ErrUnavailable)
}
