package keyring

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

// Rewrap replaces the local master key: it draws another one, sealed under the same passphrase, and wraps every key and secret under
// that. Names, ids, versions, check values and fingerprints stay. It calls progress, if not nil, with how many files of how many are done.
//
// Whenever it is interrupted the ring opens as before, and Rewrap goes on where it was. The file of the old key is replaced and not
// overwritten: a copy of the folder from before still opens with the passphrase.
//
// Rings that are open, in this process or another, keep the keys that they have, and fail with ErrRewrapped when they look for more.
// Errors are those of OpenWith, or of the file system.
func Rewrap(dir string, passphrase secret.Bytes, o Options, progress func(done, of int)) error {
	if err := checkFolder(dir); err != nil {
		return err
	}
	return underLock(dir, func() error { return rewrap(dir, passphrase, o.filled(), progress) })
}

func rewrap(dir string, passphrase secret.Bytes, o Options, progress func(done, of int)) error {
	whole, err := OpenWith(dir, passphrase, o) // nothing is begun where a file does not verify
	if err != nil {
		return err
	}
	if len(whole.master.protectors) == 1 {
		sealed, p, err := newMaster(passphrase, o)
		if err == nil {
			p.Wipe()
			err = seal.WriteFile(filepath.Join(dir, nextLMKFile), sealed, fileMode)
		}
		whole.Close()
		if err != nil {
			return err
		}
		if whole, err = OpenWith(dir, passphrase, o); err != nil {
			return err
		}
	}
	defer whole.Close()
	if planted.On(planted.RewrapEarly) {
		if err := succeed(dir, o); err != nil {
			return err
		}
	}
	keyFiles, secretFiles, err := list(dir)
	if err != nil {
		return err
	}
	for i, name := range append(keyFiles, secretFiles...) {
		if err := whole.master.rewrapFile(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("keyring: %s: %w", filepath.Join(dir, name), err)
		}
		if progress != nil {
			progress(i+1, len(keyFiles)+len(secretFiles))
		}
	}
	return finishRewrap(dir, passphrase, o)
}

// finishRewrap makes the successor the local master key, after it was seen to open everything alone.
func finishRewrap(dir string, passphrase secret.Bytes, o Options) error {
	p, err := openProtector(filepath.Join(dir, nextLMKFile), passphrase)
	if err != nil {
		return err
	}
	alone := newRing(dir, &master{protectors: []*keyblock.Protector{p}}, o)
	defer alone.Close()
	if alone.master.stamp, err = masterStamp(dir); err != nil {
		return err
	}
	if err := alone.Reload(); err != nil {
		return err
	}
	return succeed(dir, o)
}

// succeed puts the successor in the place of the local master key.
func succeed(dir string, o Options) error {
	if err := os.Rename(filepath.Join(dir, nextLMKFile), filepath.Join(dir, lmkFile)); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return o.syncDir(dir)
}

// rewrapFile writes the file of a key or a secret with its block under the successor. The rest of it stays as it is.
func (m *master) rewrapFile(path string) error {
	b, err := readFile(path)
	if err != nil {
		return err
	}
	var rec interface{ rewrap(*master) error } = new(record)
	if filepath.Ext(path) == secretSuffix {
		rec = new(secretRecord)
	}
	if err := readStrict(b, rec); err != nil {
		return err
	}
	if err := rec.rewrap(m); err != nil {
		return err
	}
	if b, err = writeStrict(rec); err != nil {
		return err
	}
	return seal.WriteFile(path, b, fileMode)
}

func (r *record) rewrap(m *master) (err error) {
	r.Block, err = m.rewrap(r.Block, r.label())
	return err
}

func (r *secretRecord) rewrap(m *master) (err error) {
	r.Block, err = m.rewrap(r.Block, r.label())
	return err
}

func (m *master) rewrap(block, label string) (string, error) {
	k, err := m.unwrap(block, label)
	if err != nil {
		return "", err
	}
	defer k.Wipe()
	return m.wrap(k, label)
}
