package main

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// issuer is the card issuer's side: it has made the zone keys, shares them with the acquirer, and opens what comes to it
// under them.
type issuer struct {
	zones map[string]keys.Key
}

// newIssuer makes the zone keys and brings them into the keyring of the acquirer.
func newIssuer(d *deploy.Deployment) (*issuer, error) {
	ring, err := d.Keyring()
	if err != nil {
		return nil, err
	}
	i := &issuer{zones: make(map[string]keys.Key)}
	for name, algorithm := range map[string]keys.Algorithm{sample.ZoneTDES: keys.TDES2, sample.ZoneAES: keys.AES256} {
		ref, err := keyset.ParseKeyRef(name)
		if err != nil {
			return nil, err
		}
		key, err := keys.GenerateKey(keys.Attributes{
			Algorithm: algorithm, Usage: keys.UsagePIN, Mode: keys.ModeBoth, Exportability: keys.Exportable,
		})
		if err != nil {
			return nil, err
		}
		i.zones[name] = key
		if _, err := ring.Import(ref, key, d.Config().Environment); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func (i *issuer) wipe() {
	for _, k := range i.zones {
		k.Wipe()
	}
}

// matches opens a translated PIN block and compares the PIN with the one that was typed.
func (i *issuer) matches(f api.Field, pan pin.PAN, typed pin.PIN) (bool, error) {
	key, ok := i.zones[f.PINKey]
	if !ok || key.KCV().String() != f.PINKeyKCV {
		return false, fmt.Errorf("the PIN came under %q, KCV %s, which is no zone key of the issuer", f.PINKey, f.PINKeyKCV)
	}
	block, err := hex.DecodeString(f.PINBlock)
	if err != nil {
		return false, err
	}
	got, err := open(f.PINFormat, key, block, pan)
	if err != nil {
		return false, err
	}
	defer got.Wipe()
	return samePIN(got, typed, pan)
}

func open(format string, zone keys.Key, block []byte, pan pin.PAN) (pin.PIN, error) {
	switch format {
	case pin.Format0.String():
		c, err := des.New(zone.Material().Expose())
		if err != nil {
			return pin.PIN{}, err
		}
		defer c.Wipe()
		if len(block) != des.BlockSize {
			return pin.PIN{}, fmt.Errorf("a block of format 0 has %d bytes", len(block))
		}
		clear := make([]byte, des.BlockSize)
		defer secret.Wipe(clear)
		c.Decrypt(clear, block)
		return pin.DecodeFormat0(clear, pan)
	case pin.Format4.String():
		c, err := aes.NewCipher(zone.Material().Expose())
		if err != nil {
			return pin.PIN{}, err
		}
		defer secret.WipeCipher(c)
		return pin.DecryptFormat4(c, block, pan)
	}
	return pin.PIN{}, fmt.Errorf("PIN format %q", format)
}

// samePIN compares two PINs by putting both into a block: there is no other way to look at them.
func samePIN(a, b pin.PIN, pan pin.PAN) (bool, error) {
	first, err := pin.AppendFormat0(nil, a, pan)
	if err != nil {
		return false, err
	}
	defer secret.Wipe(first)
	second, err := pin.AppendFormat0(nil, b, pan)
	if err != nil {
		return false, err
	}
	defer secret.Wipe(second)
	return subtle.ConstantTimeCompare(first, second) == 1, nil
}
