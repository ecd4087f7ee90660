package keyring

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

const lmkLabel = "latchkey keyring lmk"

// lmkAttributes makes the local master key a key block protection key (X9.143 usage K1), and so nothing else.
var lmkAttributes = keys.Attributes{
	Algorithm: keys.AES256, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
}

// master holds the local master key, and while it is replaced its successor, too.
type master struct {
	protectors []*keyblock.Protector // the one to wrap under comes first
	stamp      [sha256.Size]byte     // of the files that they were read from
}

// newMaster draws a local master key. It returns it sealed, and ready for use.
func newMaster(passphrase secret.Bytes, o Options) (sealed []byte, p *keyblock.Protector, err error) {
	lmk := secret.New(32)
	defer lmk.Wipe()
	_, _ = rand.Read(lmk.Expose()) // cannot fail
	if p, err = protector(lmk); err != nil {
		return nil, nil, err
	}
	if sealed, err = seal.SealWith(o.Seal, passphrase, lmkLabel, lmk.Expose()); err != nil {
		p.Wipe()
		return nil, nil, err
	}
	return sealed, p, nil
}

// openMaster reads the local master key of a folder, and its successor where there is one.
func openMaster(dir string, passphrase secret.Bytes) (*master, error) {
	m := new(master)
	var err error
	if m.stamp, err = masterStamp(dir); err != nil {
		return nil, err
	}
	for _, name := range []string{nextLMKFile, lmkFile} {
		p, err := openProtector(filepath.Join(dir, name), passphrase)
		if errors.Is(err, fs.ErrNotExist) && name == nextLMKFile {
			continue
		}
		if err != nil {
			m.wipe()
			return nil, err
		}
		m.protectors = append(m.protectors, p)
	}
	return m, nil
}

func openProtector(path string, passphrase secret.Bytes) (*keyblock.Protector, error) {
	sealed, err := readFile(path)
	if err != nil {
		return nil, err
	}
	lmk, err := seal.Open(passphrase, lmkLabel, sealed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer lmk.Wipe()
	p, err := protector(lmk)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrDamaged, path, err)
	}
	return p, nil
}

func protector(lmk secret.Bytes) (*keyblock.Protector, error) {
	k, err := keys.NewKey(lmkAttributes, lmk.Expose())
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return keyblock.NewProtector(k)
}

// masterStamp tells the files of the local master key from others. A file that is not there is as an empty one.
func masterStamp(dir string) (stamp [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, name := range []string{lmkFile, nextLMKFile} {
		b, err := readFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return stamp, err
		}
		_, _ = fmt.Fprintf(h, "%d\n%s", len(b), b)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// check fails with ErrRewrapped if the files are others than those that were read.
func (m *master) check(dir string) error {
	now, err := masterStamp(dir)
	if err != nil {
		return err
	}
	if now != m.stamp {
		return fmt.Errorf("%w: %s; what uses it is to be started anew", ErrRewrapped, dir)
	}
	return nil
}

// wrap makes the block of a key, with the label of its file inside.
func (m *master) wrap(k keys.Key, label string) (string, error) {
	return m.protectors[0].Wrap(k, keyblock.OptionalBlock{ID: labelBlock, Data: label})
}

// unwrap opens a block and checks that its authenticated label is the one that the file claims.
func (m *master) unwrap(block, label string) (k keys.Key, err error) {
	for _, p := range m.protectors {
		if k, err = unwrap(p, block, label); err == nil {
			return k, nil
		}
	}
	return keys.Key{}, err
}

func unwrap(p *keyblock.Protector, block, label string) (keys.Key, error) {
	content, err := p.Unwrap(block)
	if err != nil {
		return keys.Key{}, err
	}
	defer content.Wipe()
	found := 0
	for _, opt := range content.Header.Optional {
		if opt.ID != labelBlock {
			continue
		}
		if opt.Data != label {
			return keys.Key{}, errors.New("the key block is of another name, id, version, environment or date")
		}
		found++
	}
	if found != 1 {
		return keys.Key{}, fmt.Errorf("the key block has %d labels, want one", found)
	}
	return content.Key()
}

func (m *master) wipe() {
	for _, p := range m.protectors {
		p.Wipe()
	}
}
