package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// CheckpointName returns the name of the keys that sign the checkpoints of a daemon's audit log: decryptd, provisiond or keyd.
func CheckpointName(tenant keyset.TenantID, daemon string) string {
	return "latchkey/" + string(tenant) + "/" + daemon
}

// createCheckpointKeys makes the keys that sign checkpoints of the audit logs, one for each daemon.
func createCheckpointKeys(dir string, tenant keyset.TenantID, passphrase secret.Bytes) error {
	for daemon, file := range checkpointFiles {
		if err := createCheckpointKey(dir, file, CheckpointName(tenant, daemon), passphrase); err != nil {
			return err
		}
	}
	return nil
}

// checkpointFiles are the names of the files of checkpoint keys, without what follows the first dot, by daemon.
var checkpointFiles = map[string]string{"decryptd": checkpointDecryptd, "provisiond": checkpointProvisiond, "keyd": checkpointKeyd}

// AddCheckpointVerifier adds the public text of a further key to those that the checkpoints of a daemon's audit log are verified by,
// in the folder of a deployment: what the keys before it have signed goes on to count. It returns the path of the file. Errors wrap
// fs.ErrExist for a key that is there already, ErrNoService for a daemon that is none, or are those of the file system.
func AddCheckpointVerifier(dir, daemon, verifier string) (path string, err error) {
	file, ok := checkpointFiles[daemon]
	if !ok {
		return "", fmt.Errorf("%w: %q keeps no audit log", ErrNoService, daemon)
	}
	path = filepath.Join(dir, "audit", file+".pub")
	return path, underLock(dir, func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("deploy: %w", err)
		}
		if slices.Contains(strings.Split(strings.TrimSpace(string(text)), "\n"), verifier) {
			return fmt.Errorf("deploy: the key is in %s already: %w", path, fs.ErrExist)
		}
		next := strings.TrimSpace(string(text)) + "\n" + verifier + "\n"
		if _, err := audit.NewVerifier(next); err != nil {
			return fmt.Errorf("deploy: %s: %w", path, err)
		}
		return seal.WriteFile(path, []byte(next), 0o644)
	})
}

// createCheckpointKey writes a signer sealed and its verifier readable. Its name is the origin of the checkpoints.
func createCheckpointKey(dir, file, name string, passphrase secret.Bytes) error {
	signer, verifier, err := audit.GenerateKey(name)
	if err != nil {
		return err
	}
	plain := []byte(signer)
	defer secret.Wipe(plain)
	sealed, err := seal.Seal(passphrase, checkpointKeyLabel, plain)
	if err != nil {
		return err
	}
	if err := seal.WriteFile(filepath.Join(dir, file+".key.sealed"), sealed, 0o600); err != nil {
		return err
	}
	return seal.WriteFile(filepath.Join(dir, file+".pub"), []byte(verifier+"\n"), 0o644)
}

// OpenCheckpointKey opens the sealed signer of audit checkpoints: the text that audit.NewSigner takes. The caller wipes
// it. Errors name the file and wrap seal.ErrPassphrase or seal.ErrFormat.
func OpenCheckpointKey(path string, passphrase secret.Bytes) (secret.Bytes, error) {
	return openSealed(path, checkpointKeyLabel, passphrase)
}
