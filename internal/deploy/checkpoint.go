package deploy

import (
	"fmt"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// createCheckpointKey makes the key that signs checkpoints of the audit log and writes the signer sealed and the verifier
// readable. Its name is the origin of the checkpoints.
func createCheckpointKey(dir string, tenant keyset.TenantID, passphrase secret.Bytes) error {
	signer, verifier, err := audit.GenerateKey("latchkey/" + string(tenant) + "/decryptd")
	if err != nil {
		return err
	}
	plain := []byte(signer)
	defer secret.Wipe(plain)
	sealed, err := seal.Seal(passphrase, checkpointKeyLabel, plain)
	if err != nil {
		return err
	}
	if err := seal.WriteFile(filepath.Join(dir, checkpointKeyFile), sealed, 0o600); err != nil {
		return err
	}
	return seal.WriteFile(filepath.Join(dir, checkpointPubFile), []byte(verifier+"\n"), 0o644)
}

// OpenCheckpointKey opens the sealed signer of audit checkpoints: the text that audit.NewSigner takes. The caller wipes
// it. Errors name the file and wrap seal.ErrPassphrase or seal.ErrFormat.
func OpenCheckpointKey(path string, passphrase secret.Bytes) (secret.Bytes, error) {
	sealed, err := readSealed(path)
	if err != nil {
		return secret.Bytes{}, err
	}
	key, err := seal.Open(passphrase, checkpointKeyLabel, sealed)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("deploy: %s: %w", path, err)
	}
	return key, nil
}
