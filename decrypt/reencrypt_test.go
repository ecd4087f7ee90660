package decrypt_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// TestReEncryptionAcross moves data of a terminal to a key of fixed value, once, and data of such a key to a terminal.
func TestReEncryptionAcross(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{})
	ctx := t.Context()
	to := decrypt.DataCall{Key: decrypt.CallKey{Base: h.ref("out")}, Mode: dukpt.CBC}
	first := must[*decrypt.CallResult](t)(h.service.ReEncryptData(ctx, h.caller, h.card(1, testTrack), to))
	must[engine.KeyInfo](t)(h.ring.Rotate(h.ref("out"))) // the same again is answered under the key of the first time
	again := must[*decrypt.CallResult](t)(h.service.ReEncryptData(ctx, h.caller, h.card(1, testTrack), to))
	if first.Status != decrypt.CounterFresh || again.Status != decrypt.CounterResend || !bytes.Equal(first.Output.Expose(), again.Output.Expose()) || first.Key.ID != again.Key.ID {
		t.Errorf("%v %X, then %v %X", first.Status, first.Output.Expose(), again.Status, again.Output.Expose())
	}
	c := must[*des.Cipher](t)(des.New(h.keys["out"].Material().Expose()))
	plain := bytes.Clone(first.Output.Expose())
	c.DecryptCBC(make([]byte, 8), plain)
	if !bytes.HasPrefix(plain, []byte(testTrack)) {
		t.Errorf("under the other key stands %q", plain)
	}
	if _, err := h.service.DecryptData(ctx, h.caller, h.card(1, testTrack)); codeOf(err) != decrypt.CodeTreatmentDiffers {
		t.Errorf("in the clear afterwards: %v", err)
	}
	sealed := must[*decrypt.CallResult](t)(h.service.EncryptData(ctx, h.caller, decrypt.DataCall{
		Key: decrypt.CallKey{Base: h.ref("data")}, Mode: dukpt.CBC, Data: []byte("thirty-two bytes for a terminal!"),
	}))
	from := decrypt.DataCall{Key: decrypt.CallKey{Base: h.ref("data")}, Mode: dukpt.CBC, Data: sealed.Output.Expose()}
	res, err := h.service.ReEncryptData(ctx, h.caller, from, decrypt.DataCall{Key: h.key(dataSlot, 3), Direction: dukpt.Response, Mode: dukpt.CBC})
	if err != nil || res.Status != decrypt.CounterFresh || len(res.Output.Expose()) != 32 {
		t.Errorf("to a terminal: %v", err)
	}
}

// TestReEncryptionToKeysThatCome moves data of a terminal to a key in a block. The claim holds for that key: not for another one with the same
// check value, and also when it comes under the next version of its key encryption key.
func TestReEncryptionToKeysThatCome(t *testing.T) {
	t.Parallel()
	h := newHall(t, decrypt.Limits{})
	ctx := t.Context()
	p := must[*keyblock.Protector](t)(keyblock.NewProtector(h.keys["kek"]))
	defer p.Wipe()
	one, other := alike(t)
	to := decrypt.DataCall{Key: decrypt.CallKey{Base: h.ref("kek"), Block: must[string](t)(p.Wrap(one))}, Mode: dukpt.CBC}
	first := must[*decrypt.CallResult](t)(h.service.ReEncryptData(ctx, h.caller, h.card(1, testTrack), to))
	if first.Status != decrypt.CounterFresh || first.Key.KCV != one.KCV() {
		t.Errorf("%v under %v", first.Status, first.Key.KCV)
	}
	as := to
	as.Key.Block = must[string](t)(p.Wrap(other))
	if _, err := h.service.ReEncryptData(ctx, h.caller, h.card(1, testTrack), as); codeOf(err) != decrypt.CodeTreatmentDiffers {
		t.Errorf("under another key of that check value: %v", err)
	}
	h.engine.Engine = rotatedKEK{h.engine.Engine, h.ref("kek"), h.ref("kek-2")}
	h.limited(t, decrypt.Limits{})
	q := must[*keyblock.Protector](t)(keyblock.NewProtector(h.keys["kek-2"]))
	defer q.Wipe()
	to.Key.Block = must[string](t)(q.Wrap(one))
	again, err := h.service.ReEncryptData(ctx, h.caller, h.card(1, testTrack), to)
	if err != nil || again.Status != decrypt.CounterResend || !bytes.Equal(first.Output.Expose(), again.Output.Expose()) {
		t.Errorf("under the next key encryption key: %v", err)
	}
}

// rotatedKEK has a key encryption key whose name means another one by now.
type rotatedKEK struct {
	engine.Engine
	was, is keyset.KeyRef
}

func (r rotatedKEK) Unwrap(ctx context.Context, kek keyset.KeyRef, block string) (engine.FixedOps, error) {
	if kek != r.was {
		return r.Engine.Unwrap(ctx, kek, block)
	}
	return r.Engine.Unwrap(ctx, r.is, block)
}

// alike returns two keys with one check value.
func alike(t *testing.T) (one, other keys.Key) {
	t.Helper()
	seen := map[keys.KCV]keys.Key{}
	for range 1 << 17 {
		k := must[keys.Key](t)(keys.GenerateKey(keys.Attributes{Algorithm: keys.TDES3, Usage: keys.UsageData, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable}))
		t.Cleanup(k.Wipe)
		if first, ok := seen[k.KCV()]; ok {
			return first, k
		}
		seen[k.KCV()] = k
	}
	t.Fatal("no two check values are the same")
	return one, other
}
