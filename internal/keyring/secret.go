package keyring

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// The named secrets that every ring has: HMAC-SHA-256 keys of 32 bytes that are used inside the host only.
const (
	SecretClaim = "claim" // binds claims to the content that was released
	SecretFill  = "fill"  // makes the random fill of translated PIN blocks repeatable
	SecretPAN   = "pan"   // digests of PANs for audit and search

	secretFingerprint = "fingerprint" // keyed fingerprints; of one version, because documents name fingerprints
)

var secretNames = []string{SecretClaim, SecretFill, SecretPAN, secretFingerprint}

// secretAttributes makes a named secret an HMAC key of X9.143 that may generate and verify.
var secretAttributes = keys.Attributes{
	Algorithm: keys.HMAC256, Usage: keys.UsageHMAC, Mode: keys.ModeGenVerify, Exportability: keys.NonExportable,
}

// Secret returns the current version of a named secret, from 1, and a copy of the key for the caller to wipe. An unknown
// name wraps engine.ErrKeyNotFound.
func (r *Ring) Secret(name string) (version uint32, key secret.Bytes, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	version = uint32(len(r.secrets[name]))
	key, err = r.secretVersion(name, version)
	return version, key, err
}

// SecretVersion returns a copy of one version of a named secret, for records made under an older one. The caller wipes
// it. An unknown name or version wraps engine.ErrKeyNotFound.
func (r *Ring) SecretVersion(name string, version uint32) (secret.Bytes, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.secretVersion(name, version)
}

func (r *Ring) secretVersion(name string, version uint32) (secret.Bytes, error) {
	if r.closed {
		return secret.Bytes{}, errClosed
	}
	versions := r.secrets[name]
	if name == secretFingerprint || version < 1 || uint64(version) > uint64(len(versions)) {
		return secret.Bytes{}, fmt.Errorf("%w: version %d of secret %q", engine.ErrKeyNotFound, version, name)
	}
	return versions[version-1].Material().Clone(), nil
}

// RotateSecret makes the next version of a named secret the current one and returns its number. Older versions stay.
// An unknown name wraps engine.ErrKeyNotFound.
func (r *Ring) RotateSecret(name string) (uint32, error) {
	if name == secretFingerprint || !slices.Contains(secretNames, name) {
		return 0, fmt.Errorf("%w: secret %q", engine.ErrKeyNotFound, name)
	}
	var version uint32
	err := underLock(r.dir, func() error {
		if err := r.Reload(); err != nil {
			return err
		}
		if err := r.addSecret(name); err != nil {
			return err
		}
		r.mu.RLock()
		defer r.mu.RUnlock()
		version = uint32(len(r.secrets[name]))
		return nil
	})
	return version, err
}

// fingerprints returns the key of the keyed fingerprints. The ring is locked, or not yet shared.
func (r *Ring) fingerprints() secret.Bytes {
	versions := r.secrets[secretFingerprint]
	if len(versions) == 0 {
		return secret.Bytes{}
	}
	return versions[0].Material()
}

// addSecret makes and stores the next version of a secret.
func (r *Ring) addSecret(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	k, err := keys.GenerateKey(secretAttributes)
	if err != nil {
		return err
	}
	rec := secretRecord{
		Version: recordVersion, Name: name, KeyVersion: uint32(len(r.secrets[name])) + 1,
		Created: r.clock().UTC().Format(timeLayout), KCV: k.KCV().String(),
	}
	rec.Block, err = r.master.wrap(k, rec.label())
	var b []byte
	if err == nil {
		b, err = writeStrict(rec)
	}
	if err == nil {
		err = seal.WriteFile(filepath.Join(r.dir, rec.file()), b, fileMode)
	}
	if err != nil {
		k.Wipe()
		return fmt.Errorf("keyring: secret %s: %w", name, err)
	}
	r.secrets[name] = append(r.secrets[name], k)
	return nil
}

func (r secretRecord) file() string {
	return r.Name + "." + strconv.FormatUint(uint64(r.KeyVersion), 10) + secretSuffix
}

// readSecrets reads every secret file, keeping the keys that are open. Each name has versions from 1 on, and every
// expected name at least one. The ring is locked.
func (r *Ring) readSecrets(files []string) (map[string][]keys.Key, error) {
	byName := map[string]map[uint32]keys.Key{}
	var fresh []keys.Key
	fail := func(format string, args ...any) (map[string][]keys.Key, error) {
		for _, k := range fresh {
			k.Wipe()
		}
		return nil, fmt.Errorf(format, args...)
	}
	for _, name := range files {
		path := filepath.Join(r.dir, name)
		b, err := readFile(path)
		if err != nil {
			return fail("%w", err)
		}
		var rec secretRecord
		err = readStrict(b, &rec)
		switch {
		case err != nil:
		case rec.file() != name || rec.KeyVersion < 1:
			err = errors.New("the file has the name of another secret")
		case !slices.Contains(secretNames, rec.Name):
			err = errors.New("unknown secret")
		}
		k, open := r.openSecret(rec)
		if err == nil && !open {
			if k, err = rec.open(r.master); err == nil {
				fresh = append(fresh, k)
			}
		}
		if err != nil {
			return fail("%w: %s: %v", ErrDamaged, path, err)
		}
		if byName[rec.Name] == nil {
			byName[rec.Name] = map[uint32]keys.Key{}
		}
		byName[rec.Name][rec.KeyVersion] = k
	}
	out := map[string][]keys.Key{}
	for _, name := range secretNames {
		for v := uint32(1); v <= uint32(max(len(byName[name]), len(r.secrets[name]), 1)); v++ {
			k, ok := byName[name][v]
			if !ok {
				rec := secretRecord{Name: name, KeyVersion: v}
				return fail("%w: %s is gone", ErrDamaged, filepath.Join(r.dir, rec.file()))
			}
			out[name] = append(out[name], k)
		}
	}
	return out, nil
}

// openSecret returns the key of a record if it is open already.
func (r *Ring) openSecret(rec secretRecord) (keys.Key, bool) {
	open := r.secrets[rec.Name]
	if rec.KeyVersion < 1 || uint64(rec.KeyVersion) > uint64(len(open)) {
		return keys.Key{}, false
	}
	return open[rec.KeyVersion-1], true
}
