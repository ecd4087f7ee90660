package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
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
	Usage     string `json:"usage,omitempty"` // of AES, as the derivation data has it
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
requests. AES shows, for each type of key that is no stronger than the base key, the PIN keys (usage 1000), the
MAC and data keys of requests (2000, 3000), of responses (2001, 3001) and of both ways (2002, 3002), and the
key encryption keys (0002).

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
	d.KSN = ksn.String()
	d.WorkingKeys, err = workingKeys(base, ksn)
	return d, err
}

// cipherTypes are the types of working keys for ciphers, as AES DUKPT has them.
var cipherTypes = []dukpt.WorkingKey{dukpt.KeyAES128, dukpt.KeyAES192, dukpt.KeyAES256, dukpt.KeyTDES2, dukpt.KeyTDES3}

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

func workingKeys(base *dukpt.BaseKey, ksn dukpt.KSN) ([]derivedKey, error) {
	checks, err := base.CheckValues(ksn)
	if err != nil {
		return nil, err
	}
	var out []derivedKey
	for _, c := range checks {
		k := derivedKey{Use: c.Use.String(), Type: c.Key.String(), KCV: c.KCV.String()}
		switch c.Profile {
		case dukpt.DataMask:
			k.Use = "data, mask"
		case dukpt.DataBareKey:
			k.Use = "transaction, bare"
		}
		if c.Direction != 0 {
			k.Direction = c.Direction.String()
		}
		if ksn.Scheme() == dukpt.AES {
			k.Usage = usageCode(c)
		}
		out = append(out, k)
	}
	return out, nil
}

// usageCode is the key usage in the derivation data of AES (X9.24-3:2017, table 2), in hexadecimal digits.
func usageCode(c dukpt.WorkingKeyCheck) string {
	codes := map[dukpt.KeyUse]string{
		dukpt.UseKeyEncryption: "0002", dukpt.UsePIN: "1000", dukpt.UseMAC: "2000", dukpt.UseData: "3000",
	}
	code := codes[c.Use]
	switch c.Direction {
	case dukpt.Response:
		return code[:3] + "1"
	case dukpt.Both:
		return code[:3] + "2"
	}
	return code
}

func (d derived) fields() []field {
	var fields []field
	if d.KSN != "" {
		fields = append(fields, field{"KSN", d.KSN})
	}
	fields = append(fields, field{"scheme", d.Scheme}, field{"key id", d.KeyID},
		field{"base key KCV", d.BaseKCV}, field{"initial key KCV", d.InitialKCV})
	for _, k := range slices.Concat(d.UpdateKeys, d.WorkingKeys) {
		name := []string{k.Use, k.Direction, k.Usage, k.Type, "KCV"}
		name = slices.DeleteFunc(name, func(word string) bool { return word == "" })
		fields = append(fields, field{strings.Join(name, " "), k.KCV})
	}
	return fields
}
