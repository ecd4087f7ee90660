// Command dukpt is the program bare with a DUKPT terminal in it: the initial key, a transaction, a PIN, data and a MAC.
package main

import (
	"os"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

func main() {
	if run() != nil {
		os.Exit(1)
	}
}

func run() error {
	raw := make([]byte, 16)
	if _, err := os.Stdin.Read(raw); err != nil {
		return err
	}
	for _, a := range []keys.Algorithm{keys.TDES2, keys.AES128} {
		if err := sale(a, raw); err != nil {
			return err
		}
	}
	return nil
}

func sale(a keys.Algorithm, raw []byte) error {
	id, err := dukpt.ParseKeyID("FFFF9876543210E00000")
	if err != nil {
		return err
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, raw)
	if err != nil {
		return err
	}
	ik, err := dukpt.NewInitialKey(id, k)
	if err != nil {
		return err
	}
	terminal, err := dukpt.NewTerminal(ik)
	if err != nil {
		return err
	}
	if err := terminal.Reserve(1, save); err != nil {
		return err
	}
	tx := dukpt.NewTransaction()
	if err := terminal.Next(tx); err != nil {
		return err
	}
	defer tx.End()
	return use(tx, id.Scheme(), raw)
}

func use(tx *dukpt.Transaction, s dukpt.Scheme, raw []byte) error {
	number, err := pin.ParsePIN([]byte("1234"))
	if err != nil {
		return err
	}
	pan, err := pin.ParsePAN("4111111111111111")
	if err != nil {
		return err
	}
	f := pin.Format0
	if s == dukpt.AES {
		f = pin.Format4
	}
	out, err := tx.EncryptPIN(nil, f, number, pan)
	if err != nil {
		return err
	}
	if out, err = tx.EncryptData(out, s.DefaultData(), raw); err != nil {
		return err
	}
	if out, err = tx.MAC(out, s.DefaultMAC(), raw); err != nil {
		return err
	}
	_, err = os.Stdout.Write(out)
	return err
}

func save(state keys.Secret) error {
	_, err := os.Stderr.Write(state.Expose())
	return err
}
