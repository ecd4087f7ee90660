package nodetest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

// Records returns what the audit log in a database holds, the first first. The node may be running.
func Records(tb testing.TB, database string) (out []audit.Record) {
	tb.Helper()
	log, err := sqlite.OpenAudit(database)
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	err = log.Leaves(tb.Context(), func(l audit.Leaf) error {
		r, err := audit.ParseRecord(l.Record)
		out = append(out, r)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Database returns the bytes of every file of a database.
func Database(tb testing.TB, database string) []byte {
	tb.Helper()
	files, err := filepath.Glob(database + "*")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no files of %s: %v", database, err)
	}
	var out []byte
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

// Folder returns the bytes of every file of a folder and of those in it.
func Folder(tb testing.TB, folder string) (out []byte) {
	tb.Helper()
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out = append(out, b...)
		return err
	})
	if err != nil || len(out) == 0 {
		tb.Fatalf("nothing in %s: %v", folder, err)
	}
	return out
}

// NoneOf looks for secrets, by their names, in what stays behind: as they are, in small letters, in hex and in base64.
// needles must be there, or what was collected is not what was meant.
func NoneOf(tb testing.TB, left []byte, secrets map[string][]byte, needles ...string) {
	tb.Helper()
	for _, needle := range needles {
		if !bytes.Contains(left, []byte(needle)) {
			tb.Fatalf("%q is not there: what was collected is not what the node left", needle)
		}
	}
	for name, s := range secrets {
		if len(s) < 6 {
			tb.Fatalf("the %s is so short that chance would find it", name)
		}
		if holds(left, s) {
			tb.Errorf("the %s was left behind", name)
		}
	}
}

func holds(text, secret []byte) bool {
	small := bytes.ToLower(text)
	return bytes.Contains(text, secret) || bytes.Contains(small, bytes.ToLower(secret)) ||
		bytes.Contains(small, []byte(hex.EncodeToString(secret))) ||
		slices.ContainsFunc([]*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding}, func(e *base64.Encoding) bool {
			return holdsEncoded(text, secret, e)
		})
}

// holdsEncoded looks for secret inside a longer text in base64, at each of the three places it can begin at. The characters
// at both ends, which depend on the neighbours, are left out.
func holdsEncoded(text, secret []byte, e *base64.Encoding) bool {
	for offset := range 3 {
		form := e.EncodeToString(append(make([]byte, offset), secret...))
		if bytes.Contains(text, []byte(form[(offset*4+2)/3:len(form)-1])) {
			return true
		}
	}
	return false
}
