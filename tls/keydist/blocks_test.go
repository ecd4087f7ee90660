package keydist_test

import (
	"context"
	"crypto/elliptic"
	"errors"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/keydist/keydisttest"
)

// TestBlocks holds blocks that are made in memory to the suite: the base keys are at hand here.
func TestBlocks(t *testing.T) {
	t.Parallel()
	var held []keydisttest.BlockKey
	byRef := map[keyset.KeyRef]keys.Key{}
	for _, k := range []struct {
		ref, id   string
		algorithm keys.Algorithm
	}{
		{"alias/tdes", "FFFF9876543210E00000", keys.TDES2}, {"alias/aes", "1234567890123456", keys.AES128},
		{"alias/aes-192", "1234567890123456", keys.AES192}, {"alias/aes-256", "1234567890123456", keys.AES256},
	} {
		h := keydisttest.BlockKey{Ref: must[keyset.KeyRef](t)(keyset.ParseKeyRef(k.ref)), KeyID: must[dukpt.KeyID](t)(dukpt.ParseKeyID(k.id))}
		h.Key = must[keys.Key](t)(keys.GenerateKey(keys.Attributes{
			Algorithm: k.algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
		}))
		t.Cleanup(h.Key.Wipe)
		held, byRef[h.Ref] = append(held, h), h.Key
	}
	maker := remote.InHost(func(ctx context.Context, ref keyset.KeyRef, id dukpt.KeyID) (*dukpt.InitialKey, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		base, err := dukpt.NewBaseKey(byRef[ref])
		if err != nil {
			return nil, err
		}
		defer base.Wipe()
		return base.Derive(id)
	})
	keydisttest.RunBlocks(t, maker, held, must[keyset.KeyRef](t)(keyset.ParseKeyRef("alias/none")), remote.ClearInHost)
	wrong := remote.InHost(func(ctx context.Context, ref keyset.KeyRef, _ dukpt.KeyID) (*dukpt.InitialKey, error) {
		base, err := dukpt.NewBaseKey(byRef[ref])
		if err != nil {
			return nil, err
		}
		defer base.Wipe()
		return base.Derive(must[dukpt.KeyID](t)(dukpt.ParseKeyID("1234567890123457")))
	})
	if b, err := wrong.MakeBlock(t.Context(), remote.BlockRequest{BaseKey: held[1].Ref, KeyID: held[1].KeyID, Algorithm: keys.AES128}); err == nil || b.Text != "" {
		t.Errorf("a key of another id: %q, %v", b.Text, err)
	}
}

// scd is a maker that says that no key is clear: a payment HSM, as far as a host can tell.
type scd struct {
	remote.BlockMaker
	change func(*remote.Block)
}

func (scd) Exposure() remote.Exposure { return remote.InSCD }

func (d scd) MakeBlock(ctx context.Context, r remote.BlockRequest) (remote.Block, error) {
	b, err := d.BlockMaker.MakeBlock(ctx, r)
	d.change(&b)
	return b, err
}

// TestLabelIsTheMakers has a device make the blocks. Its label is in the audit log, and its answers are not believed blindly.
func TestLabelIsTheMakers(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	inside := scd{l.config.Blocks, func(*remote.Block) {}}
	l.config.Blocks = inside
	l.start()
	d := l.enrol("T-1", elliptic.P256())
	id := d.fetch("CODE", 1)
	leaves := l.store.Leaves()
	set, _ := l.keySet("CODE")
	if last := leaves[len(leaves)-1]; last.Result != "DELIVERED" || last.Reason != "in-scd" || last.KCV != initialKCV(t, set, id) {
		t.Errorf("recorded: %+v", last)
	}
	for name, change := range map[string]func(*remote.Block){
		"no block":              func(b *remote.Block) { b.Text = "" },
		"another usage":         func(b *remote.Block) { b.Text = strings.Replace(b.Text, "B1", "B0", 1) },
		"no ephemeral key":      func(b *remote.Block) { b.Ephemeral = nil },
		"a point off the curve": func(b *remote.Block) { b.Ephemeral[len(b.Ephemeral)-1] ^= 1 },
	} {
		l.config.Blocks = scd{inside.BlockMaker, change}
		l.start()
		out, err := l.host.Deliver(t.Context(), ra, d.order("CODE", 1))
		if refusal, ok := errors.AsType[*keydist.Refusal](err); out != nil || !ok || refusal.Code != keydist.CodeKeysUnavailable {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
}
