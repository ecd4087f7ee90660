package dukpt

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
)

func TestUpdateKeyRefuses(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		ik, err := b.base.Derive(b.id)
		if err != nil {
			t.Fatal(err)
		}
		for w := WorkingKey(0); w <= KeyHMAC256+1; w++ {
			k, err := ik.UpdateKey(w)
			var want error
			switch {
			case b.id.Scheme() == TDES || w == 0 || w >= KeyHMAC128:
				want = ErrUnsupported
			case workingKeys[w].strength > workingKeys[b.base.family.key].strength:
				want = ErrStrength
			}
			if !errors.Is(err, want) {
				t.Errorf("%s, %v: %v, want %v", b.name, w, err, want)
			}
			if err == nil && fmt.Sprint(k.Attributes().Usage, k.Attributes().Algorithm) != fmt.Sprint("K1", w.Algorithm()) {
				t.Errorf("%s, %v: the key has %v", b.name, w, k.Attributes())
			}
		}
		ik.Wipe()
		if _, err := ik.UpdateKey(KeyAES128); err == nil {
			t.Errorf("%s: a wiped initial key gives an update key", b.name)
		}
	}
}

// TestKeyEncryptionKey takes every type through both ends: they have one key, and each may do its own part.
func TestKeyEncryptionKey(t *testing.T) {
	t.Parallel()
	made := 0
	for _, b := range testBases(t) {
		r := testRoles(t, b, 99)
		for w := WorkingKey(0); w <= KeyHMAC256+1; w++ {
			var want error
			switch {
			case b.id.Scheme() == TDES || w == 0 || w >= KeyHMAC128:
				want = ErrUnsupported
			case workingKeys[w].strength > workingKeys[b.base.family.key].strength:
				want = ErrStrength
			}
			host, err := r.host.KeyEncryptionKey(w)
			terminal, err2 := r.term.KeyEncryptionKey(w)
			if !errors.Is(err, want) || !errors.Is(err2, want) {
				t.Errorf("%s, %v: %v and %v, want %v", b.name, w, err, err2, want)
			}
			if err != nil || err2 != nil {
				if !host.IsZero() || !terminal.IsZero() {
					t.Errorf("%s, %v: refused, and there is a key", b.name, w)
				}
				continue
			}
			made++
			a := keys.Attributes{
				Algorithm: w.Algorithm(), Usage: keys.UsageKBPK, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
			}
			if host.Attributes() != a {
				t.Errorf("%s, %v: the host's key has %v", b.name, w, host.Attributes())
			}
			if a.Mode = keys.ModeDecrypt; terminal.Attributes() != a {
				t.Errorf("%s, %v: the terminal's key has %v", b.name, w, terminal.Attributes())
			}
			if !slices.Equal(host.Material().Expose(), terminal.Material().Expose()) {
				t.Errorf("%s, %v: two keys", b.name, w)
			}
			for _, s := range []*session{&r.host.s, &r.term.s} {
				if slices.ContainsFunc(s.workingKey(maxKey), func(x byte) bool { return x != 0 }) {
					t.Errorf("%s, %v: the working key is still there", b.name, w)
				}
			}
		}
		r.host.End()
		r.term.End()
		mustPanic(t, b.name+": host", func() { _, _ = r.host.KeyEncryptionKey(KeyAES128) })
		mustPanic(t, b.name+": terminal", func() { _, _ = r.term.KeyEncryptionKey(KeyAES128) })
	}
	if made != 3+4+5 {
		t.Errorf("%d keys made", made)
	}
}

// checkKEK holds a published key of usage 0002 against what a session makes, and against both ends where the base key is
// published too.
func checkKEK(c *check, v testvec.Vector, s *session, w WorkingKey) {
	compare := func(what string, k keys.Key, err error) {
		c.ok(err)
		c.bytes(what, k.Material().Expose(), v.Hex("working_key"))
	}
	k, err := s.keyEncryptionKey(w, keys.ModeEncrypt)
	compare("key encryption key", k, err)
	if !v.Has("bdk") {
		return
	}
	r, err := vectorRoles(v)
	if err != nil {
		c.ok(err)
		return
	}
	k, err = r.host.KeyEncryptionKey(w)
	compare("the host's", k, err)
	k, err = r.term.KeyEncryptionKey(w)
	compare("the terminal's", k, err)
}
