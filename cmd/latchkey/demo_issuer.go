package main

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
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

// newIssuer makes the zone keys and brings them to the acquirer, where keep puts them into the keyring or a token.
func newIssuer(env keyset.Environment, keep func(keyset.KeyRef, keys.Key, keyset.Environment) (engine.KeyInfo, error)) (*issuer, error) {
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
		if _, err := keep(ref, key, env); err != nil {
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

func open(format string, zone keys.Key, block []byte, pan pin.PAN) (o pin.Opened, err error) {
	switch format {
	case pin.Format0.String():
		c, err := des.New(zone.Material().Expose())
		if err != nil {
			return o, err
		}
		defer c.Wipe()
		err = pin.Format0.Decrypt(&o, c, block, pan)
		return o, err
	case pin.Format4.String():
		c, err := aes.NewCipher(zone.Material().Expose())
		if err != nil {
			return o, err
		}
		defer secret.WipeCipher(c)
		err = pin.Format4.Decrypt(&o, c, block, pan)
		return o, err
	}
	return o, fmt.Errorf("PIN format %q", format)
}

// samePIN compares two PINs by putting both into a block under a key that nobody has: one that came out of a block leaves in
// no other way.
func samePIN(got pin.Opened, typed pin.PIN, pan pin.PAN) (bool, error) {
	key, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsagePIN, Mode: keys.ModeEncrypt, Exportability: keys.NonExportable,
	})
	if err != nil {
		return false, err
	}
	defer key.Wipe()
	c, err := aes.NewCipher(key.Material().Expose())
	if err != nil {
		return false, err
	}
	defer secret.WipeCipher(c)
	fill := pin.GenerateFill()
	first, err := got.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: pan, Cipher: c}, fill)
	if err != nil {
		return false, err
	}
	second, err := pin.EncryptFormat4(nil, c, typed, pan, fill)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(first, second) == 1, nil
}
