package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys"
)

func newDUKPT(c *console) *cobra.Command {
	return noun("dukpt", "Explain key serial numbers, find a reader's profile, open test swipes, check test keys",
		newExplain(c), newDerive(c), newDUKPTDecrypt(c))
}

// profile is how one maker's reader uses a DUKPT key for card data.
type profile struct {
	name, about string
	spec        dukpt.DataSpec
}

var profiles = []profile{
	{"magtek", "PIN variant (MagTek)", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataPINVariant}},
	{"idtech", "data variant with the one-way step (ID TECH)", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataOneWay}},
	{"verifone", "data variant with the one-way step (Verifone)", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataOneWay}},
	{"mask", "data variant without the one-way step", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataMask}},
	{"bare", "transaction key without any variant", dukpt.DataSpec{Direction: dukpt.Request, Profile: dukpt.DataBareKey}},
	{"aes", "AES data key of the terminal (usage 3000, and 3001 for responses)", dukpt.DataSpec{Direction: dukpt.Request, Key: dukpt.KeyAES128}},
	{"aes-both", "AES data key for both ways (usage 3002)", dukpt.DataSpec{Direction: dukpt.Both, Key: dukpt.KeyAES128}},
}

func profileNames() string {
	names := make([]string, 0, len(profiles)+1)
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return strings.Join(append(names, "auto"), "|")
}

func profileHelp() string {
	var b strings.Builder
	for _, p := range profiles {
		fmt.Fprintf(&b, "  %-10s %s\n", p.name, p.about)
	}
	return b.String()
}

// aboutProfile says what the profile of a name is.
func aboutProfile(name string) string {
	for _, p := range profiles {
		if p.name == name {
			return p.about
		}
	}
	return ""
}

func readHexKey(c *console, path string, scheme dukpt.Scheme) (keys.Key, error) {
	raw, err := readHex(c, path, "--bdk-file", "base derivation key")
	if err != nil {
		return keys.Key{}, err
	}
	defer raw.Wipe()
	algorithm := keys.TDES2
	if scheme == dukpt.AES {
		switch raw.Len() {
		case 24:
			algorithm = keys.AES192
		case 32:
			algorithm = keys.AES256
		default:
			algorithm = keys.AES128
		}
	}
	key, err := keys.ImportKey(keys.Attributes{
		Algorithm: algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, keys.ParityIgnored, raw.Expose())
	return key, exit.With(exit.Usage, err, "a TDES base key has 32 hexadecimal digits, an AES one 32, 48 or 64")
}

// named returns the profile of a name, if it is of the scheme.
func named(name string, scheme dukpt.Scheme) (profile, error) {
	for _, p := range profiles {
		if name == p.name && (p.spec.Key != 0) == (scheme == dukpt.AES) {
			return p, nil
		}
	}
	return profile{}, exit.With(exit.Usage,
		fmt.Errorf("profile %q does not exist for a %s KSN", name, scheme), "one of: "+profileNames())
}
