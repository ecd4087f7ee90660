package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// filled is a ring with keys of all kinds and secrets of two versions.
func filled(t *testing.T) (*Ring, string) {
	t.Helper()
	r, dir := create(t)
	for name, a := range map[string]keyset.Environment{"one": keyset.Test, "two": keyset.Production} {
		generate(t, r, name+"-bdk", bdkAES, a)
		generate(t, r, name+"-tdes", bdkTDES, a)
		generate(t, r, name+"-zone", zoneAES, a)
	}
	_, err := r.Rotate(alias(t, "one-zone"))
	must(t, err)
	_, err = r.RotateSecret(SecretClaim)
	must(t, err)
	return r, dir
}

// contents are all that a ring holds, as it says it.
func contents(t *testing.T, r *Ring) string {
	t.Helper()
	out := fmt.Sprintf("%+v", r.List())
	for _, name := range []string{SecretClaim, SecretFill, SecretPAN} {
		last, key, err := r.Secret(name)
		must(t, err)
		key.Wipe()
		for v := uint32(1); v <= last; v++ {
			k, err := r.SecretVersion(name, v)
			must(t, err)
			out += fmt.Sprintf(" %s %d %x", name, v, k.Expose())
			k.Wipe()
		}
	}
	return out
}

func blocks(t *testing.T, dir string) (out [][]byte) {
	t.Helper()
	for _, pattern := range []string{"*.key", "*.secret", lmkFile} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		must(t, err)
		for _, f := range files {
			b, err := os.ReadFile(f)
			must(t, err)
			out = append(out, b)
		}
	}
	return out
}

// TestRewrap replaces the local master key: all that the ring holds is as it was, and no file is. Who has the ring open keeps its keys, adds
// none, and is told.
func TestRewrap(t *testing.T) {
	t.Parallel()
	r, dir := filled(t)
	want, before := contents(t, r), blocks(t, dir)
	var told []int
	must(t, Rewrap(dir, passphrase, cheap, func(done, of int) { told = append(told, done*100+of) }))
	if n := 7 + 5; len(told) != n || told[0] != 100+n || told[n-1] != n*100+n { // keys, secrets
		t.Errorf("told %v", told)
	}
	after := blocks(t, dir)
	for i, b := range after {
		if bytes.Equal(b, before[i]) {
			t.Errorf("file %d is as it was", i)
		}
	}
	if again := reopen(t, dir); contents(t, again) != want {
		t.Error("the ring holds something else")
	}
	if contents(t, r) != want {
		t.Error("an open ring has lost what it had")
	}
	if err := r.Reload(); !errors.Is(err, ErrRewrapped) {
		t.Errorf("reload: %v", err)
	}
	if _, err := r.Generate(alias(t, "more"), zoneAES, keyset.Test); !errors.Is(err, ErrRewrapped) {
		t.Errorf("generate: %v", err)
	}
	if _, err := r.RotateSecret(SecretPAN); !errors.Is(err, ErrRewrapped) {
		t.Errorf("rotate: %v", err)
	}
	if now := blocks(t, dir); !reflect.DeepEqual(now, after) {
		t.Error("a ring of the old key has written")
	}
	sealed := before[len(before)-1]
	must(t, seal.WriteFile(filepath.Join(dir, lmkFile), sealed, fileMode))
	if _, err := OpenWith(dir, passphrase, cheap); !errors.Is(err, ErrDamaged) {
		t.Errorf("under the old local master key: %v", err)
	}
}

// interrupted runs Rewrap until n files are done, and no further.
func interrupted(dir string, n int) {
	defer func() { _ = recover() }()
	_ = Rewrap(dir, passphrase, cheap, func(done, _ int) {
		if done == n {
			panic("the power is gone")
		}
	})
}

// cuts interrupts a rewrap after each file in turn, and says how often the ring was not what it had been afterwards, and how often there was
// nothing to go on with.
func cuts(t *testing.T) (lost, points int) {
	t.Helper()
	r, dir := filled(t)
	want := contents(t, r)
	for n := 1; n <= 12; n++ {
		points++
		interrupted(dir, n)
		again, err := OpenWith(dir, passphrase, cheap)
		if err != nil || contents(t, again) != want {
			return lost + 1, points
		}
		again.Close()
	}
	if _, err := os.Stat(filepath.Join(dir, nextLMKFile)); err != nil {
		t.Error("nothing was interrupted")
	}
	more := reopen(t, dir) // and a ring in this state takes keys
	generate(t, more, "meanwhile", zoneAES, keyset.Test)
	want = contents(t, more)
	must(t, Rewrap(dir, passphrase, cheap, nil))
	if _, err := os.Stat(filepath.Join(dir, nextLMKFile)); err == nil {
		t.Error("it is not finished")
	}
	if contents(t, reopen(t, dir)) != want {
		lost++
	}
	return lost, points
}

// TestRewrapInterrupted cuts it off after each file.
func TestRewrapInterrupted(t *testing.T) {
	if lost, points := cuts(t); lost != 0 || points != 12 {
		t.Errorf("%d of %d rings are lost", lost, points)
	}
}

// TestRewrapRefuses begins nothing where not everything verifies.
func TestRewrapRefuses(t *testing.T) {
	t.Parallel()
	r, dir := filled(t)
	info := r.List()[0]
	path := filepath.Join(dir, info.ID.String()+keySuffix)
	good, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2`), 1), fileMode))
	if err := Rewrap(dir, passphrase, cheap, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("a changed file: %v", err)
	}
	must(t, os.WriteFile(path, good, fileMode))
	if err := Rewrap(dir, secret.From([]byte("another")), cheap, nil); !errors.Is(err, seal.ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, nextLMKFile)); err == nil {
		t.Error("something was begun")
	}
	if used, err := reopen(t, dir).Engine().Describe(t.Context(), info.ID); err != nil || used.KCV != info.KCV {
		t.Errorf("%+v, %v", used, err)
	}
}
