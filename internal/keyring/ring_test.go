package keyring

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/decrypt/engine/enginetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

var (
	passphrase = secret.From([]byte("correct horse battery staple"))
	start      = time.Date(2026, 3, 4, 5, 6, 7, 890, time.UTC)
	cheap      = Options{Clock: func() time.Time { return start }, Seal: seal.Params{Memory: 64, Time: 1, Parallelism: 1}}

	bdkTDES  = keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}
	bdkAES   = keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable}
	zoneAES  = keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.Exportable}
	zoneTDES = keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.Exportable}
)

func create(t *testing.T) (*Ring, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ring")
	r, err := CreateWith(dir, passphrase, cheap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, dir
}

func reopen(t *testing.T, dir string) *Ring {
	t.Helper()
	r, err := OpenWith(dir, passphrase, cheap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func alias(t *testing.T, name string) keyset.KeyRef {
	t.Helper()
	ref, err := keyset.ParseKeyRef("alias/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func key(t *testing.T, a keys.Attributes, digits string) keys.Key {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.NewKey(a, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func generate(t *testing.T, r *Ring, name string, a keys.Attributes, env keyset.Environment) engine.KeyInfo {
	t.Helper()
	info, err := r.Generate(alias(t, name), a, env)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestEngine(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		r, _ := create(t)
		return enginetest.Fixture{
			Engine: r.Engine(),
			Import: func(ref keyset.KeyRef, k keys.Key, env keyset.Environment) error {
				_, err := r.Import(ref, k, env)
				return err
			},
			Close: r.Close, Fixed: true,
		}
	})
}

func TestLabels(t *testing.T) {
	t.Parallel()
	r, _ := create(t)
	info := generate(t, r, "bdk", bdkAES, keyset.Test)
	want := engine.Labels{KeyMode: engine.Software, PINExposure: engine.HostMemory, Environment: keyset.Test}
	if info.Labels != want || info.Labels.String() != "software/host-memory/test" {
		t.Errorf("got %v, want %v", info.Labels, want)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	r, dir := create(t)
	generate(t, r, "bdk/a", bdkAES, keyset.Production)
	generate(t, r, "bdk/t", bdkTDES, keyset.Test)
	generate(t, r, "zone", zoneAES, keyset.Test)
	if _, err := r.Rotate(alias(t, "zone")); err != nil {
		t.Fatal(err)
	}
	want := r.List()
	version, secretWas, err := r.Secret(SecretClaim)
	if err != nil || version != 1 || secretWas.Len() != 32 {
		t.Fatalf("secret: version %d of %d bytes, %v", version, secretWas.Len(), err)
	}
	r.Close()
	if _, _, err := r.Secret(SecretClaim); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("secret of a closed ring: %v", err)
	}
	if _, err := r.Generate(alias(t, "late"), bdkAES, keyset.Test); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("key in a closed ring: %v", err)
	}

	again := reopen(t, dir)
	got := again.List()
	if len(got) != 4 || len(want) != 4 {
		t.Fatalf("%d keys, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("key %d: got %+v, want %+v", i, got[i], want[i])
		}
		if got[i].Created != start.Truncate(time.Second) {
			t.Errorf("created %v, want %v", got[i].Created, start)
		}
	}
	if _, s, err := again.Secret(SecretClaim); err != nil || !s.Equal(secretWas) {
		t.Errorf("the secret is another one (%v)", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	r, _ := create(t)
	info := generate(t, r, "bdk", bdkTDES, keyset.Test)
	if _, err := r.Generate(alias(t, "bdk"), bdkTDES, keyset.Test); !errors.Is(err, ErrExists) {
		t.Errorf("name taken: %v", err)
	}
	if _, err := r.Generate(info.ID, bdkTDES, keyset.Test); err == nil {
		t.Error("an id was taken for a name")
	}
	if _, err := r.Generate(keyset.KeyRef{}, bdkTDES, keyset.Test); err == nil {
		t.Error("a key without a name")
	}
	if _, err := r.Generate(alias(t, "x"), bdkTDES, 0); err == nil {
		t.Error("a key without an environment")
	}
	if _, err := r.Import(alias(t, "x"), keys.Key{}, keyset.Test); err == nil {
		t.Error("no key was imported")
	}
	if n := len(r.List()); n != 1 {
		t.Errorf("refusals left %d keys, want 1", n)
	}
}

// The same key under a second name would have claims of its own, and every message could be replayed once.
func TestDuplicate(t *testing.T) {
	t.Parallel()
	const digits = "0123456789ABCDEFFEDCBA9876543210"
	tests := []struct {
		name   string
		key    keys.Key
		env    keyset.Environment
		refuse bool
	}{
		{"same", key(t, bdkTDES, digits), keyset.Test, true},
		{"other environment", key(t, bdkTDES, digits), keyset.Production, true},
		{"other usage", key(t, zoneTDES, digits), keyset.Test, true},
		{"other parity", key(t, bdkTDES, "0022446688AACCEEFFDDBB9977553311"), keyset.Test, true},
		{"same bytes as AES", key(t, bdkAES, digits), keyset.Test, false},
		{"another", key(t, bdkTDES, "FEDCBA98765432100123456789ABCDEF"), keyset.Test, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, dir := create(t)
			if _, err := r.Import(alias(t, "first"), key(t, bdkTDES, digits), keyset.Test); err != nil {
				t.Fatal(err)
			}
			_, err := r.Import(alias(t, "second"), tt.key, tt.env)
			if got := errors.Is(err, ErrDuplicate); got != tt.refuse || (!tt.refuse && err != nil) {
				t.Fatalf("got %v, want refusal %v", err, tt.refuse)
			}
			if tt.refuse {
				if !strings.Contains(err.Error(), "alias/first") {
					t.Errorf("the error does not name the other: %v", err)
				}
				if n := len(reopen(t, dir).List()); n != 1 {
					t.Errorf("%d keys after a refusal", n)
				}
			}
		})
	}
}

func TestRotate(t *testing.T) {
	t.Parallel()
	r, _ := create(t)
	zone := alias(t, "zone")
	first := generate(t, r, "zone", zoneAES, keyset.Test)
	second, err := r.Rotate(zone)
	if err != nil {
		t.Fatal(err)
	}
	if second.Version != 2 || second.Attributes != first.Attributes || second.Labels != first.Labels || second.Fingerprint == first.Fingerprint {
		t.Errorf("got %+v after %+v", second, first)
	}
	e := r.Engine()
	if id, err := e.Resolve(t.Context(), zone); err != nil || id != second.ID {
		t.Errorf("the name means %s, %v; want %s", id, err, second.ID)
	}
	if info, err := e.Describe(t.Context(), first.ID); err != nil || info.Version != 1 || info.KCV != first.KCV {
		t.Errorf("the old id: %+v, %v", info, err)
	}
	generate(t, r, "bdk", bdkAES, keyset.Test)
	if _, err := r.Rotate(alias(t, "bdk")); !errors.Is(err, engine.ErrUsage) {
		t.Errorf("a base key rotated: %v", err)
	}
	if _, err := r.Rotate(first.ID); !errors.Is(err, engine.ErrUsage) {
		t.Errorf("an id rotated: %v", err)
	}
	if _, err := r.Rotate(alias(t, "nothing")); !errors.Is(err, engine.ErrKeyNotFound) {
		t.Errorf("nothing rotated: %v", err)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	r, dir := create(t)
	seen := map[string]string{}
	for _, name := range []string{SecretClaim, SecretFill, SecretPAN} {
		version, s, err := r.Secret(name)
		if err != nil || version != 1 || s.Len() != 32 {
			t.Fatalf("%s: version %d of %d bytes, %v", name, version, s.Len(), err)
		}
		if other, dup := seen[string(s.Expose())]; dup {
			t.Errorf("%s and %s are the same secret", name, other)
		}
		seen[string(s.Expose())] = name
		s.Wipe() // ours, not the ring's
		if _, again, err := r.Secret(name); err != nil || again.Len() != 32 {
			t.Errorf("%s after its copy was wiped: %v", name, err)
		}
	}
	for _, name := range []string{"", "nothing", secretFingerprint, "../lmk"} {
		if _, _, err := r.Secret(name); !errors.Is(err, engine.ErrKeyNotFound) {
			t.Errorf("Secret(%q): %v", name, err)
		}
		if _, err := r.RotateSecret(name); !errors.Is(err, engine.ErrKeyNotFound) {
			t.Errorf("RotateSecret(%q): %v", name, err)
		}
	}
	_, first, err := r.Secret(SecretClaim)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := r.RotateSecret(SecretClaim); err != nil || v != 2 {
		t.Fatalf("rotated to %d, %v", v, err)
	}
	again := reopen(t, dir)
	version, second, err := again.Secret(SecretClaim)
	if err != nil || version != 2 || second.Equal(first) {
		t.Errorf("version %d, %v", version, err)
	}
	if old, err := again.SecretVersion(SecretClaim, 1); err != nil || !old.Equal(first) {
		t.Errorf("the first version is gone or another (%v)", err)
	}
	for _, v := range []uint32{0, 3, 1 << 31} {
		if _, err := again.SecretVersion(SecretClaim, v); !errors.Is(err, engine.ErrKeyNotFound) {
			t.Errorf("version %d: %v", v, err)
		}
	}
}

func TestBaseKey(t *testing.T) {
	t.Parallel()
	r, _ := create(t)
	if _, err := r.Import(alias(t, "bdk"), key(t, bdkTDES, "0123456789ABCDEFFEDCBA9876543210"), keyset.Test); err != nil {
		t.Fatal(err)
	}
	generate(t, r, "zone", zoneAES, keyset.Test)
	base, err := r.BaseKey(alias(t, "bdk"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := dukpt.ParseKeyID("FFFF9876543210E00000")
	if err != nil {
		t.Fatal(err)
	}
	ik, err := base.Derive(id)
	if err != nil {
		t.Fatal(err)
	}
	k := ik.Key()
	if got, want := k.KCV(), key(t, k.Attributes(), "6AC292FAA1315B4D858AB3A3D7D5933A").KCV(); got != want {
		t.Errorf("check value of the published initial key: got %v, want %v", got, want)
	}
	base.Wipe()
	if _, err := r.BaseKey(alias(t, "zone")); !errors.Is(err, engine.ErrUsage) {
		t.Errorf("a PIN key as base key: %v", err)
	}
	if again, err := r.BaseKey(alias(t, "bdk")); err != nil {
		t.Errorf("after a copy was wiped: %v", err)
	} else if _, err := again.Derive(id); err != nil {
		t.Errorf("after a copy was wiped: %v", err)
	}
}

// Two rings on one folder stand for two processes.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	a, dir := create(t)
	b := reopen(t, dir)
	info := generate(t, a, "bdk", bdkAES, keyset.Test)
	if _, err := b.Engine().Describe(t.Context(), info.ID); !errors.Is(err, engine.ErrKeyNotFound) {
		t.Errorf("before Reload: %v", err)
	}
	if _, err := b.Generate(alias(t, "bdk"), bdkAES, keyset.Test); !errors.Is(err, ErrExists) {
		t.Errorf("the other process took the name: %v", err)
	}
	if got, err := b.Engine().Describe(t.Context(), info.ID); err != nil || got.KCV != info.KCV {
		t.Errorf("after Reload: %+v, %v", got, err)
	}
	done := make(chan error, 8)
	for i := range 8 {
		r := []*Ring{a, b}[i%2]
		name := alias(t, fmt.Sprintf("zone/%d", i))
		go func() {
			_, err := r.Generate(name, zoneAES, keyset.Test)
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if n := len(a.List()); n != 9 {
		t.Errorf("%d keys, want 9", n)
	}
	reopen(t, dir)
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	_, dir := create(t)
	if _, err := CreateWith(dir, passphrase, cheap); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another ring: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateWith(file, passphrase, cheap); err == nil {
		t.Error("over a file")
	}
	if _, err := CreateWith(filepath.Join(t.TempDir(), "ring"), secret.Bytes{}, cheap); err == nil {
		t.Error("without a passphrase")
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		pass   secret.Bytes
		want   error
		names  string // what the error names
	}{
		{"wrong passphrase", nil, secret.From([]byte("another passphrase")), seal.ErrPassphrase, lmkFile},
		{"no passphrase", nil, secret.Bytes{}, seal.ErrPassphrase, lmkFile},
		{"no folder", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }, passphrase, fs.ErrNotExist, ""},
		{"folder open to others", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o755)) }, passphrase, ErrExposed, "ring"},
		{"master key open to others", chmod(lmkFile), passphrase, ErrExposed, lmkFile},
		{"key open to others", chmod("*.key"), passphrase, ErrExposed, ".key"},
		{"secret open to others", chmod("claim.1.secret"), passphrase, ErrExposed, "claim.1.secret"},
		{"no master key", remove(lmkFile), passphrase, fs.ErrNotExist, lmkFile},
		{"empty master key", overwrite(lmkFile, ""), passphrase, seal.ErrFormat, lmkFile},
		{"a secret gone", remove("fill.1.secret"), passphrase, ErrDamaged, "fill.1.secret"},
		{"a version gone", remove("claim.1.secret"), passphrase, ErrDamaged, "claim.1.secret"},
		{"a secret under another name", rename("fill.1.secret", "fill.2.secret"), passphrase, ErrDamaged, "fill.2.secret"},
		{"empty key", overwrite("*.key", ""), passphrase, ErrDamaged, ".key"},
		{"key that is null", overwrite("*.key", "null"), passphrase, ErrDamaged, ".key"},
		{"key without members", overwrite("*.key", "{}"), passphrase, ErrDamaged, ".key"},
		{"long key", overwrite("*.key", strings.Repeat(" ", maxRecord+1)), passphrase, ErrDamaged, ".key"},
		{"key under another name", rename("*.key", "0123456789ABCDEFGHJKMNPQRS.key"), passphrase, ErrDamaged, "0123456789ABCDEFGHJKMNPQRS.key"},
		{"a stranger", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
		}, passphrase, ErrDamaged, "notes.txt"},
		{"a link", func(t *testing.T, dir string) {
			must(t, os.Symlink(filepath.Join(dir, "claim.1.secret"), filepath.Join(dir, "claim.3.secret")))
		}, passphrase, ErrDamaged, "claim.3.secret"},
		{"a folder", func(t *testing.T, dir string) {
			must(t, os.Mkdir(filepath.Join(dir, "x.key"), 0o700))
		}, passphrase, ErrDamaged, "x.key"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, dir := create(t)
			generate(t, r, "zone", zoneAES, keyset.Test)
			if _, err := r.RotateSecret(SecretClaim); err != nil {
				t.Fatal(err)
			}
			if tt.damage != nil {
				tt.damage(t, dir)
			}
			_, err := OpenWith(dir, tt.pass, cheap)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.names) {
				t.Errorf("got %v, want %v that names %q", err, tt.want, tt.names)
			}
		})
	}
}

// Every member of a key file is bound: changing any of them, to something that is right by itself, is found.
func TestMembersAreBound(t *testing.T) {
	t.Parallel()
	r, dir := create(t)
	info := generate(t, r, "zone", zoneAES, keyset.Test)
	other := generate(t, r, "other", zoneAES, keyset.Production)
	read := func(id keyset.KeyRef) (rec record) {
		b, err := os.ReadFile(filepath.Join(dir, id.String()+keySuffix))
		must(t, err)
		must(t, json.Unmarshal(b, &rec))
		return rec
	}
	good, foreign := read(info.ID), read(other.ID)
	r.Close()
	for name, change := range map[string]func(*record){
		"v":           func(rec *record) { rec.Version = 2 },
		"ref":         func(rec *record) { rec.Ref = "alias/zone2" },
		"created":     func(rec *record) { rec.Created = "2026-03-04T05:06:08Z" },
		"environment": func(rec *record) { rec.Environment = "production" },
		"version":     func(rec *record) { rec.KeyVersion = 2 },
		"kcv":         func(rec *record) { rec.KCV = foreign.KCV },
		"fingerprint": func(rec *record) { rec.Fingerprint = foreign.Fingerprint },
		"block":       func(rec *record) { rec.Block = foreign.Block },
		"block, kcv and fingerprint": func(rec *record) {
			rec.Block, rec.KCV, rec.Fingerprint = foreign.Block, foreign.KCV, foreign.Fingerprint
		},
		"label in the block":  func(rec *record) { rec.Block = strings.Replace(rec.Block, " test ", " prod ", 1) },
		"usage in the block":  func(rec *record) { rec.Block = rec.Block[:5] + "D0" + rec.Block[7:] },
		"mode in the block":   func(rec *record) { rec.Block = rec.Block[:8] + "B" + rec.Block[9:] },
		"date in other words": func(rec *record) { rec.Created = "2026-03-04T05:06:07.000Z" },
		"name in lower case":  func(rec *record) { rec.Fingerprint = strings.ToUpper(rec.Fingerprint) },
	} {
		t.Run(name, func(t *testing.T) {
			rec := good
			change(&rec)
			if rec == good {
				t.Fatal("nothing was changed")
			}
			path := filepath.Join(dir, info.ID.String()+keySuffix)
			b, err := writeStrict(rec)
			must(t, err)
			must(t, os.WriteFile(path, b, 0o600))
			if _, err := OpenWith(dir, passphrase, cheap); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %v that names %s", err, ErrDamaged, path)
			}
			b, err = writeStrict(good)
			must(t, err)
			must(t, os.WriteFile(path, b, 0o600))
			reopen(t, dir).Close()
		})
	}
}

// A key file of another ring does not verify here: the master key is another one.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	a, dirA := create(t)
	_, dirB := create(t)
	id := generate(t, a, "zone", zoneAES, keyset.Test).ID.String() + keySuffix
	b, err := os.ReadFile(filepath.Join(dirA, id))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dirB, id), b, 0o600))
	if _, err := OpenWith(dirB, passphrase, cheap); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), id) {
		t.Errorf("got %v", err)
	}
}

// A failing Reload changes nothing: what is open goes on working.
func TestReloadFails(t *testing.T) {
	t.Parallel()
	r, dir := create(t)
	info := generate(t, r, "zone", zoneAES, keyset.Test)
	path := filepath.Join(dir, "0123456789ABCDEFGHJKMNPQRS.key")
	must(t, os.WriteFile(path, []byte("{}"), 0o600))
	if err := r.Reload(); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Generate(alias(t, "more"), zoneAES, keyset.Test); !errors.Is(err, ErrDamaged) {
		t.Errorf("a key was added to a damaged folder: %v", err)
	}
	if got, err := r.Engine().Describe(t.Context(), info.Ref); err != nil || got.ID != info.ID {
		t.Errorf("the open key: %+v, %v", got, err)
	}
	must(t, os.Remove(path))
	must(t, r.Reload())
	must(t, os.Remove(filepath.Join(dir, info.ID.String()+keySuffix)))
	if err := r.Reload(); !errors.Is(err, ErrDamaged) {
		t.Errorf("a key file is gone: %v", err)
	}
}

// Files on disk carry no key in the clear and are the owner's alone.
func TestFiles(t *testing.T) {
	t.Parallel()
	r, dir := create(t)
	const digits = "0123456789ABCDEFFEDCBA9876543210"
	if _, err := r.Import(alias(t, "bdk"), key(t, bdkTDES, digits), keyset.Test); err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(digits)
	must(t, err)
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(path)
		must(t, err)
		if strings.Contains(strings.ToUpper(string(b)), digits) || strings.Contains(string(b), string(raw)) {
			t.Errorf("%s holds the key", path)
		}
		return nil
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// one returns the one file that the pattern means.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s means %v, %v", pattern, found, err)
	}
	return found[0]
}

func chmod(pattern string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.Chmod(one(t, dir, pattern), 0o640)) }
}

func remove(pattern string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.Remove(one(t, dir, pattern))) }
}

func overwrite(pattern, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.WriteFile(one(t, dir, pattern), []byte(content), 0o600)) }
}

func rename(pattern, to string) func(*testing.T, string) {
	return func(t *testing.T, dir string) { must(t, os.Rename(one(t, dir, pattern), filepath.Join(dir, to))) }
}
