package deploy

import (
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// createCheckpointKeys makes the keys that sign checkpoints of the audit logs, one for each daemon.
func createCheckpointKeys(dir string, tenant keyset.TenantID, passphrase secret.Bytes) error {
	for _, k := range []struct{ file, daemon string }{
		{checkpointDecryptd, "decryptd"}, {checkpointProvisiond, "provisiond"}, {checkpointKeyd, "keyd"},
	} {
		if err := createCheckpointKey(dir, k.file, "latchkey/"+string(tenant)+"/"+k.daemon, passphrase); err != nil {
			return err
		}
	}
	return nil
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
