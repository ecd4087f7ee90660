package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// cheap keeps tests fast; a test below shows that the default differs in cost only.
var cheap = Params{Memory: 64, Time: 1, Parallelism: 1}

const label = "latchkey test"

func passphrase(t testing.TB, s string) secret.Bytes {
	t.Helper()
	p := secret.From([]byte(s))
	t.Cleanup(p.Wipe)
	return p
}

func sealed(t testing.TB, plain string) []byte {
	t.Helper()
	b, err := SealWith(cheap, passphrase(t, "correct horse battery"), label, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, plain := range []string{"", "x", strings.Repeat("key", 1000), strings.Repeat("m", MaxPlain)} {
		got, err := Open(passphrase(t, "correct horse battery"), label, sealed(t, plain))
		if err != nil {
			t.Fatalf("%d bytes: %v", len(plain), err)
		}
		if string(got.Expose()) != plain {
			t.Errorf("%d bytes came back as %d others", len(plain), got.Len())
		}
		got.Wipe()
	}
}

func TestDefaultParams(t *testing.T) {
	t.Parallel()
	p := passphrase(t, "correct horse battery")
	b, err := Seal(p, label, []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := parse(b, ceiling)
	if err != nil {
		t.Fatal(err)
	}
	if got := (Params{f.KDF.Memory, f.KDF.Time, f.KDF.Parallelism}); got != DefaultParams {
		t.Errorf("sealed with %+v, want %+v", got, DefaultParams)
	}
	got, err := Open(p, label, b)
	if err != nil || string(got.Expose()) != "plain" {
		t.Errorf("opened with error %v", err)
	}
}

func TestSaltAndNonceDiffer(t *testing.T) {
	t.Parallel()
	a, b := sealed(t, "same"), sealed(t, "same")
	fa, _ := parse(a, ceiling)
	fb, _ := parse(b, ceiling)
	if bytes.Equal(fa.KDF.Salt, fb.KDF.Salt) || bytes.Equal(fa.Nonce, fb.Nonce) || bytes.Equal(fa.Ciphertext, fb.Ciphertext) {
		t.Error("the same content was sealed alike twice")
	}
	if bytes.Contains(a, []byte("same")) {
		t.Error("the plain text is in the file")
	}
}

// TestVector holds the stored form still: files are read for years.
func TestVector(t *testing.T) {
	t.Parallel()
	b, err := hex.DecodeString(vector)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(passphrase(t, "correct horse battery"), label, b)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Expose()) != "the plain text" {
		t.Errorf("got %q", got.Expose())
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := sealed(t, "plain")
	for _, tc := range []struct {
		name, passphrase, label string
		sealed                  []byte
		want                    error
	}{
		{"another passphrase", "incorrect horse battery", label, good, ErrPassphrase},
		{"an empty passphrase", "", label, good, ErrPassphrase},
		{"another label", "correct horse battery", "latchkey other", good, ErrPassphrase},
		{"nothing", "correct horse battery", label, nil, ErrFormat},
		{"truncated", "correct horse battery", label, good[:len(good)-1], ErrFormat},
		{"trailing bytes", "correct horse battery", label, append(bytes.Clone(good), 0), ErrFormat},
		{"too long", "correct horse battery", label, make([]byte, maxSealed+1), ErrFormat},
		{"text", "correct horse battery", label, []byte("-----BEGIN AGE-----"), ErrFormat},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := Open(passphrase(t, tc.passphrase), tc.label, tc.sealed)
			if !errors.Is(err, tc.want) || got.Len() != 0 {
				t.Errorf("got %d bytes and %v, want %v", got.Len(), err, tc.want)
			}
		})
	}
}

// TestRelabelled moves a sealed file to another label by changing the readable one: only the associated data is left to
// notice.
func TestRelabelled(t *testing.T) {
	t.Parallel()
	f, err := parse(sealed(t, "plain"), ceiling)
	if err != nil {
		t.Fatal(err)
	}
	f.Label = "latchkey tess"
	b, err := f.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(passphrase(t, "correct horse battery"), "latchkey tess", b); !errors.Is(err, ErrPassphrase) {
		t.Errorf("got %v, want ErrPassphrase", err)
	}
}

// TestEveryBitCounts flips each bit of a sealed file; none may open.
func TestEveryBitCounts(t *testing.T) {
	t.Parallel()
	good := sealed(t, "plain")
	p := passphrase(t, "correct horse battery")
	small := Params{Memory: 256, Time: 3, Parallelism: 2} // so that a flipped cost is refused and not paid
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := open(p, label, bad, small); !errors.Is(err, ErrPassphrase) && !errors.Is(err, ErrFormat) {
			t.Fatalf("bit %d of byte %d flipped: %v", i%8, i/8, err)
		}
	}
}

// TestOneEncoding writes the same content in other ways that CBOR knows: none of them opens.
func TestOneEncoding(t *testing.T) {
	t.Parallel()
	good, err := hex.DecodeString(vector)
	if err != nil {
		t.Fatal(err)
	}
	version := []byte{0x61, 'v', 0x01}
	for name, b := range map[string][]byte{
		"a long integer":    bytes.Replace(good, version, []byte{0x61, 'v', 0x18, 0x01}, 1),
		"a long string":     bytes.Replace(good, version, []byte{0x78, 0x01, 'v', 0x01}, 1),
		"another order":     append([]byte{0xa5}, append(bytes.Clone(good[1+len(version):]), version...)...),
		"an open-ended map": append(append([]byte{0xbf}, good[1:]...), 0xff),
		"a tag":             bytes.Replace(good, version, []byte{0x61, 'v', 0xc1, 0x01}, 1),
		"another case":      bytes.Replace(good, version, []byte{0x61, 'V', 0x01}, 1),
		"a member twice":    append(append([]byte{0xa6}, version...), good[1:]...),
		"an unknown member": append(append([]byte{0xa6, 0x61, 'x', 0x01}, version...), good[1+len(version):]...),
	} {
		if bytes.Equal(b, good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := Open(passphrase(t, "correct horse battery"), label, b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestCostIsBounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		p    Params
	}{
		{"memory", Params{Memory: 1<<20 + 1, Time: 1, Parallelism: 1}},
		{"too little memory", Params{Memory: 15, Time: 1, Parallelism: 2}},
		{"passes", Params{Memory: 64, Time: 11, Parallelism: 1}},
		{"no passes", Params{Memory: 64, Parallelism: 1}},
		{"lanes", Params{Memory: 1024, Time: 1, Parallelism: 17}},
		{"no lanes", Params{Memory: 64, Time: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := passphrase(t, "correct horse battery")
			if _, err := SealWith(tc.p, p, label, nil); err == nil {
				t.Error("sealed")
			}
			f, err := parse(sealed(t, "plain"), ceiling)
			if err != nil {
				t.Fatal(err)
			}
			f.KDF.Memory, f.KDF.Time, f.KDF.Parallelism = tc.p.Memory, tc.p.Time, tc.p.Parallelism
			b, err := f.marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Open(p, label, b); !errors.Is(err, ErrFormat) {
				t.Errorf("opened with %v, want ErrFormat", err)
			}
		})
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	p := passphrase(t, "correct horse battery")
	for name, f := range map[string]func() ([]byte, error){
		"empty passphrase": func() ([]byte, error) { return SealWith(cheap, secret.Bytes{}, label, nil) },
		"empty label":      func() ([]byte, error) { return SealWith(cheap, p, "", nil) },
		"control in label": func() ([]byte, error) { return SealWith(cheap, p, "a\nb", nil) },
		"long label":       func() ([]byte, error) { return SealWith(cheap, p, strings.Repeat("a", maxLabel+1), nil) },
		"too much":         func() ([]byte, error) { return SealWith(cheap, p, label, make([]byte, MaxPlain+1)) },
	} {
		if b, err := f(); err == nil || b != nil {
			t.Errorf("%s: sealed %d bytes, error %v", name, len(b), err)
		}
	}
}

func TestReadPassphrase(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, content, want string
		mode                os.FileMode
		fails               bool
	}{
		{"plain", "correct horse", "correct horse", 0o600, false},
		{"line feed", "correct horse\n", "correct horse", 0o600, false},
		{"only one line feed is cut", "correct horse\n\n", "correct horse\n", 0o400, false},
		{"spaces count", "  correct horse ", "  correct horse ", 0o600, false},
		{"shortest", "123456789012", "123456789012", 0o600, false},
		{"longest", strings.Repeat("a", MaxPassphrase) + "\n", strings.Repeat("a", MaxPassphrase), 0o600, false},
		{"too short", "12345678901\n", "", 0o600, true},
		{"empty", "", "", 0o600, true},
		{"too long", strings.Repeat("a", MaxPassphrase+1), "", 0o600, true},
		{"much too long", strings.Repeat("a", 3*MaxPassphrase), "", 0o600, true},
		{"group can read", "correct horse", "", 0o640, true},
		{"others can read", "correct horse", "", 0o604, true},
		{"group can write", "correct horse", "", 0o620, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "passphrase")
			if err := WriteFile(path, []byte(tc.content), tc.mode); err != nil {
				t.Fatal(err)
			}
			got, err := ReadPassphrase(path)
			if (err != nil) != tc.fails || string(got.Expose()) != tc.want {
				t.Errorf("got %d bytes and %v, want %d and failure %t", got.Len(), err, len(tc.want), tc.fails)
			}
			if err != nil && tc.content != "" && strings.Contains(err.Error(), strings.TrimSpace(tc.content)) {
				t.Error("the error says the passphrase")
			}
			if tc.mode&0o077 != 0 && !errors.Is(err, ErrExposed) {
				t.Errorf("got %v, want ErrExposed", err)
			}
			if tc.fails && !errors.Is(err, ErrPassphraseFile) {
				t.Errorf("got %v, want ErrPassphraseFile", err)
			}
		})
	}
}

func TestReadPassphraseOfNoFile(t *testing.T) {
	t.Parallel()
	if _, err := ReadPassphrase(t.TempDir()); !errors.Is(err, ErrPassphraseFile) {
		t.Errorf("a folder: got %v, want ErrPassphraseFile", err)
	}
	if _, err := ReadPassphrase(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, ErrPassphraseFile) {
		t.Errorf("got %v, want os.ErrNotExist and ErrPassphraseFile", err)
	}
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "second, longer", ""} {
		if err := WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("got %q and %v, want %q", got, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v and %v, want 0640", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files and %v, want the one", len(entries), err)
	}
}

// TestWriteFileFails puts a folder in the way of the rename: the old content stays, and nothing half written.
func TestWriteFileFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.MkdirAll(filepath.Join(path, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Error("wrote over a folder")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files and %v, want the folder alone", len(entries), err)
	}
	if err := WriteFile(filepath.Join(dir, "missing", "file"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}

// FuzzOpen: only what Seal made opens, and nothing else opens to the same.
func FuzzOpen(f *testing.F) {
	good, err := hex.DecodeString(vector)
	if err != nil {
		f.Fatal(err)
	}
	p := passphrase(f, "correct horse battery")
	small := Params{Memory: 256, Time: 2, Parallelism: 2}
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, b []byte) {
		parsed, err := parse(b, ceiling)
		if err == nil {
			again, err := parsed.marshal()
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x parses and is written as %x (%v)", b, again, err)
			}
		} else if !errors.Is(err, ErrFormat) {
			t.Fatalf("parse %x: %v", b, err)
		}
		got, err := open(p, label, b, small)
		switch {
		case err == nil && !bytes.Equal(b, good):
			t.Fatalf("%x opens to %q", b, got.Expose())
		case err != nil && bytes.Equal(b, good):
			t.Fatalf("the good file does not open: %v", err)
		case err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrPassphrase):
			t.Fatalf("open %x: %v", b, err)
		}
	})
}
