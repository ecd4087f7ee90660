package deploy

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// algEd25519 is the algorithm byte of an Ed25519 key in the format of golang.org/x/mod/sumdb/note.
const algEd25519 = 1

// createCheckpointKey makes an Ed25519 key for signed notes and writes the signer sealed and the verifier readable.
func createCheckpointKey(dir string, tenant keyset.TenantID, passphrase secret.Bytes) error {
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	defer secret.Wipe(priv)
	name := "latchkey/" + string(tenant) + "/decryptd"
	public := append([]byte{algEd25519}, pub...)
	private := append([]byte{algEd25519}, priv.Seed()...)
	defer secret.Wipe(private)
	sum := sha256.Sum256(append([]byte(name+"\n"), public...))
	hash := binary.BigEndian.Uint32(sum[:])
	signer := fmt.Appendf(nil, "PRIVATE+KEY+%s+%08x+", name, hash)
	signer = base64.StdEncoding.AppendEncode(signer, private)
	defer secret.Wipe(signer)
	sealed, err := seal.Seal(passphrase, checkpointKeyLabel, signer)
	if err != nil {
		return err
	}
	if err := seal.WriteFile(filepath.Join(dir, checkpointKeyFile), sealed, 0o600); err != nil {
		return err
	}
	verifier := fmt.Sprintf("%s+%08x+%s\n", name, hash, base64.StdEncoding.EncodeToString(public))
	return seal.WriteFile(filepath.Join(dir, checkpointPubFile), []byte(verifier), 0o644)
}

// OpenCheckpointKey opens the sealed signer of audit checkpoints: the text of a signing key of
// golang.org/x/mod/sumdb/note. The caller wipes it. Errors name the file and wrap seal.ErrPassphrase or seal.ErrFormat.
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
