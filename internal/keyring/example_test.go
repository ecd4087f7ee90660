package keyring_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// A ring makes a base key, and its engine opens a transaction under it.
func Example() {
	dir, err := os.MkdirTemp("", "ring-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	passphrase := secret.From([]byte("correct horse battery staple"))
	defer passphrase.Wipe()
	ring, err := keyring.CreateWith(filepath.Join(dir, "keys"), passphrase, keyring.Options{
		Seal: seal.Params{Memory: 64, Time: 1, Parallelism: 1}, // for a test: leave it out
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ring.Close()

	name, err := keyset.ParseKeyRef("alias/bdk-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := ring.Generate(name, keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, keyset.Test)
	if err != nil {
		fmt.Println(err)
		return
	}
	ksn, err := dukpt.ParseKSNHex("123456789012345600000001")
	if err != nil {
		fmt.Println(err)
		return
	}
	ops, err := ring.Engine().Begin(context.Background(), name, ksn)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ops.End()
	mac, err := ops.MACResponse(nil, dukpt.AES.DefaultMAC(), []byte("approved"))
	fmt.Println(info.Labels, len(mac), err)
	// Output: software/host-memory/test 16 <nil>
}
