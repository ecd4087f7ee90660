package deploy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
)

// From an empty folder to a terminal's bundle: what latchkey init, key generate, keyset create and bundle register do.
func Example() {
	bundle, err := firstTerminal()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(bundle.Terminal.ID, bundle.Terminal.Slots[0].KeyID, len(bundle.Bundle) > 0)
	// Output: T-1 FFFF9876540000000000 true
}

func firstTerminal() (*deploy.Registered, error) {
	dir, err := os.MkdirTemp("", "deploy-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	passphrase := secret.From([]byte("correct horse battery staple"))
	defer passphrase.Wipe()
	d, err := deploy.Create(filepath.Join(dir, "acme"), deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: passphrase})
	if err != nil {
		return nil, err
	}
	defer d.Close()

	ring, err := d.Keyring()
	if err != nil {
		return nil, err
	}
	name, err := keyset.ParseKeyRef("alias/bdk-1")
	if err != nil {
		return nil, err
	}
	base, err := ring.Generate(name, keys.Attributes{
		Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, keyset.Test)
	if err != nil {
		return nil, err
	}

	set := keyset.NewTDESData()
	set.Delivery = keyset.DeliveryNone
	set.ID, set.Tenant, set.Environment = "DATA-1", "ACME", keyset.Test
	set.BaseKey, set.BaseKeyFingerprint = name, base.Fingerprint
	if set.FirstID, err = dukpt.ParseKeyID("FFFF9876540000000000"); err != nil {
		return nil, err
	}
	if set.LastID, err = dukpt.ParseKeyID("FFFF987654FFFFE00000"); err != nil {
		return nil, err
	}
	payload, err := keyset.Marshal(set)
	if err != nil {
		return nil, err
	}
	operator, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return nil, err
	}
	doc, err := operator.Sign(keyset.KindKeySet, payload)
	if err != nil {
		return nil, err
	}
	if _, err := d.SaveKeySet(doc); err != nil {
		return nil, err
	}
	return d.RegisterTerminal(context.Background(), deploy.Registration{
		ID: "T-1", Slots: []deploy.SlotRequest{{Slot: 1, KeySet: "DATA-1"}},
		Endpoints:  []terminal.Endpoint{{URL: "https://127.0.0.1:7443", ServerName: "localhost"}},
		Passphrase: deploy.NewBundlePassphrase(), Signers: []*deploy.Person{operator},
	})
}
