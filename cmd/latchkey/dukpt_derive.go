package main

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

type derived struct {
	KSN         string       `json:"ksn,omitempty"`
	KeyID       string       `json:"keyId"`
	Scheme      string       `json:"scheme"`
	BaseKCV     string       `json:"baseKeyKcv"`
	InitialKCV  string       `json:"initialKeyKcv"`
	UpdateKeys  []derivedKey `json:"updateKeys"`
	WorkingKeys []derivedKey `json:"workingKeys"`
}

type derivedKey struct {
	Use       string `json:"use"`
	Direction string `json:"direction,omitempty"`
	Type      string `json:"type"`
	KCV       string `json:"kcv"`
}

func newDerive(c *console) *cobra.Command {
	var bdkFile string
	cmd := &cobra.Command{
		Use:   "derive KSN",
		Short: "Show the check values of the keys that a test base key gives for a KSN",
		Long: `Derive shows the check values (KCV) of the initial key, of the update keys (AES) and of the working keys
of one KSN, to compare them with those of a reader, an HSM or another library. With the counter 0 in it, the KSN
names an initial key alone.

TDES has a check value of the PIN key, of the MAC and data keys of requests and responses, of the data key
without the one-way step (mask), and of the transaction key itself (bare). For both ways TDES has the keys of
requests. AES shows, for each type of key that is no stronger than the base key, those of responses and of both
ways (usages 2001, 2002, 3001, 3002): the host holds the keys of requests (1000, 2000, 3000) only to verify and to
open, and has no check value of them.

Check values are the first 3 bytes of an encrypted block of zeros for TDES, the first 5 of the CMAC of one for
AES, and the first 3 of the HMAC-SHA-256 of nothing for HMAC.

No key is shown, and there is no flag for it: working keys never leave the library. Use test keys: this is a bench
tool, and holds the base key in memory.`,
		Example: "  latchkey dukpt derive --bdk-file bdk.hex FFFF9876543210E00008",
		Args:    arguments("KSN"),
		RunE: func(_ *cobra.Command, args []string) error {
			id, ksn, err := parseKeyName(args[0])
			if err != nil {
				return err
			}
			d, err := derive(c, id, ksn, bdkFile)
			if err != nil {
				return err
			}
			return c.show(d, d.fields()...)
		},
	}
	cmd.Flags().StringVar(&bdkFile, "bdk-file", "", "file with the base derivation key in hexadecimal digits (- for standard input)")
	return cmd
}

// parseKeyName reads a KSN, or one with the counter 0, which names an initial key: the KSN is the zero value then.
func parseKeyName(s string) (dukpt.KeyID, dukpt.KSN, error) {
	if id, err := dukpt.ParseKeyID(s); err == nil && len(s) != 16 {
		return id, dukpt.KSN{}, nil
	}
	ksn, err := parseKSN(s)
	return ksn.KeyID(), ksn, err
}

func derive(c *console, id dukpt.KeyID, ksn dukpt.KSN, bdkFile string) (derived, error) {
	bdk, err := readHexKey(c, bdkFile, id.Scheme())
	if err != nil {
		return derived{}, err
	}
	defer bdk.Wipe()
	base, err := dukpt.NewBaseKey(bdk)
	if err != nil {
		return derived{}, exit.With(exit.Usage, err, "")
	}
	defer base.Wipe()
	initial, err := base.Derive(id)
	if err != nil {
		return derived{}, err
	}
	defer initial.Wipe()
	key := initial.Key()
	defer key.Wipe()
	d := derived{
		KeyID: id.String(), Scheme: id.Scheme().String(), BaseKCV: bdk.KCV().String(), InitialKCV: key.KCV().String(),
		WorkingKeys: []derivedKey{},
	}
	if d.UpdateKeys, err = updateKeys(initial); err != nil || ksn.IsZero() {
		return d, err
	}
	tx, err := base.Begin(ksn)
	if err != nil {
		return derived{}, err
	}
	defer tx.End()
	d.KSN = ksn.String()
	if d.WorkingKeys, err = workingKeys(tx, id.Scheme()); err != nil {
		return derived{}, err
	}
	return d, nil
}

// workingTypes are the types of working keys of AES, those for ciphers first.
var (
	cipherTypes = []dukpt.WorkingKey{dukpt.KeyAES128, dukpt.KeyAES192, dukpt.KeyAES256, dukpt.KeyTDES2, dukpt.KeyTDES3}
	hmacTypes   = []dukpt.WorkingKey{dukpt.KeyHMAC128, dukpt.KeyHMAC192, dukpt.KeyHMAC256}
)

func updateKeys(initial *dukpt.InitialKey) ([]derivedKey, error) {
	out := []derivedKey{}
	if initial.KeyID().Scheme() != dukpt.AES {
		return out, nil
	}
	for _, w := range cipherTypes {
		k, err := initial.UpdateKey(w)
		if errors.Is(err, dukpt.ErrStrength) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, derivedKey{Use: "update", Type: w.String(), KCV: k.KCV().String()})
		k.Wipe()
	}
	return out, nil
}

// checked is a working key whose check value the host computes by using it.
type checked struct {
	row derivedKey
	kcv func(*dukpt.HostTransaction) ([]byte, error)
}

func workingKeys(tx *dukpt.HostTransaction, scheme dukpt.Scheme) ([]derivedKey, error) {
	list := checkedAES()
	if scheme == dukpt.TDES {
		list = checkedTDES()
	}
	var out []derivedKey
	for _, k := range list {
		kcv, err := k.kcv(tx)
		if errors.Is(err, dukpt.ErrStrength) {
			continue
		}
		if err != nil {
			return nil, err
		}
		k.row.KCV = strings.ToUpper(hex.EncodeToString(kcv))
		out = append(out, k.row)
	}
	return out, nil
}

// checkedTDES: the key for both ways is the one of requests, which lets the host use it in the direction of a response.
func checkedTDES() []checked {
	row := func(use string, d dukpt.Direction) derivedKey {
		r := derivedKey{Use: use, Type: dukpt.KeyTDES2.String()}
		if d != 0 {
			r.Direction = d.String()
		}
		return r
	}
	data := func(p dukpt.DataProfile, d dukpt.Direction) func(*dukpt.HostTransaction) ([]byte, error) {
		return dataKCV(dukpt.DataSpec{Profile: p, Direction: d, Mode: dukpt.ECB})
	}
	return []checked{
		{row: row("PIN", 0), kcv: data(dukpt.DataPINVariant, dukpt.Both)},
		{row: row("MAC", dukpt.Request), kcv: macKCV(dukpt.Both, 0)},
		{row: row("MAC", dukpt.Response), kcv: macKCV(dukpt.Response, 0)},
		{row: row("data", dukpt.Request), kcv: data(dukpt.DataOneWay, dukpt.Both)},
		{row: row("data", dukpt.Response), kcv: data(dukpt.DataOneWay, dukpt.Response)},
		{row: row("data, mask", dukpt.Request), kcv: data(dukpt.DataMask, dukpt.Both)},
		{row: row("data, mask", dukpt.Response), kcv: data(dukpt.DataMask, dukpt.Response)},
		{row: row("transaction, bare", 0), kcv: data(dukpt.DataBareKey, dukpt.Both)},
	}
}

func checkedAES() []checked {
	var out []checked
	for _, d := range []dukpt.Direction{dukpt.Response, dukpt.Both} {
		for _, w := range slices.Concat(cipherTypes, hmacTypes) {
			out = append(out, checked{row: derivedKey{Use: "MAC", Direction: d.String(), Type: w.String()}, kcv: macKCV(d, w)})
		}
	}
	for _, d := range []dukpt.Direction{dukpt.Response, dukpt.Both} {
		for _, w := range cipherTypes {
			out = append(out, checked{row: derivedKey{Use: "data", Direction: d.String(), Type: w.String()},
				kcv: dataKCV(dukpt.DataSpec{Direction: d, Key: w, Mode: dukpt.ECB})})
		}
	}
	return out
}

// macKCV has the MAC of a message that makes it the check value: of one block of zeros, or of nothing.
func macKCV(d dukpt.Direction, w dukpt.WorkingKey) func(*dukpt.HostTransaction) ([]byte, error) {
	spec := dukpt.MACSpec{Direction: d, Key: w}
	message, kept := make([]byte, 8), 3
	switch w {
	case 0, dukpt.KeyTDES2, dukpt.KeyTDES3:
		spec.Algorithm, spec.Padding, spec.Length = dukpt.MACCBC, dukpt.MACPadding1, 8
	case dukpt.KeyAES128, dukpt.KeyAES192, dukpt.KeyAES256:
		spec.Algorithm, spec.Length = dukpt.MACCMAC, 16
		message, kept = make([]byte, 16), 5
	default:
		spec.Algorithm, spec.Length = dukpt.MACHMACSHA256, 32
		message = nil
	}
	return func(tx *dukpt.HostTransaction) ([]byte, error) {
		mac, err := tx.MACResponse(nil, spec, message)
		if err != nil {
			return nil, err
		}
		defer secret.Wipe(mac[kept:])
		return mac[:kept:kept], nil
	}
}

// dataKCV encrypts one block: zeros for TDES; for AES what makes it the CMAC of zeros, the subkey K1 (NIST SP 800-38B, 6.1).
func dataKCV(spec dukpt.DataSpec) func(*dukpt.HostTransaction) ([]byte, error) {
	return func(tx *dukpt.HostTransaction) ([]byte, error) {
		switch spec.Key {
		case 0, dukpt.KeyTDES2, dukpt.KeyTDES3:
			block, err := tx.EncryptResponse(nil, spec, make([]byte, 8))
			if err != nil {
				return nil, err
			}
			defer secret.Wipe(block[3:])
			return block[:3:3], nil
		}
		block, err := tx.EncryptResponse(nil, spec, make([]byte, 16))
		if err != nil {
			return nil, err
		}
		defer secret.Wipe(block)
		doubleBlock(block)
		kcv, err := tx.EncryptResponse(nil, spec, block)
		if err != nil {
			return nil, err
		}
		defer secret.Wipe(kcv[5:])
		return kcv[:5:5], nil
	}
}

// doubleBlock multiplies by x in the field of SP 800-38B, without a branch on the bits.
func doubleBlock(b []byte) {
	carry := b[0] >> 7
	for i := range b[:15] {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[15] = b[15]<<1 ^ byte(subtle.ConstantTimeSelect(int(carry), 0x87, 0))
}

func (d derived) fields() []field {
	var fields []field
	if d.KSN != "" {
		fields = append(fields, field{"KSN", d.KSN})
	}
	fields = append(fields, field{"scheme", d.Scheme}, field{"key id", d.KeyID},
		field{"base key KCV", d.BaseKCV}, field{"initial key KCV", d.InitialKCV})
	for _, k := range slices.Concat(d.UpdateKeys, d.WorkingKeys) {
		name := k.Use + " " + k.Type
		if k.Direction != "" {
			name = k.Use + " " + k.Direction + " " + k.Type
		}
		fields = append(fields, field{name + " KCV", k.KCV})
	}
	return fields
}
