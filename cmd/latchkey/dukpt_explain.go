package main

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
)

type explained struct {
	KSN          string  `json:"ksn"`
	Scheme       string  `json:"scheme"`
	KeyID        string  `json:"keyId"`
	BaseKeyID    string  `json:"baseKeyId,omitempty"`
	DerivationID string  `json:"derivationId,omitempty"`
	Descriptor   string  `json:"descriptor,omitempty"`
	KeySetID     string  `json:"keySetId,omitempty"`
	SubKeyID     string  `json:"subKeyId,omitempty"`
	DeviceID     string  `json:"deviceId,omitempty"`
	Counter      uint32  `json:"counter"`
	OneBits      int     `json:"oneBits"`
	Ordinal      uint32  `json:"ordinal"`
	KeysLeft     uint32  `json:"keysLeft"`
	Next         string  `json:"next,omitempty"`
	Probe        *probed `json:"probe,omitempty"`
}

func newExplain(c *console) *cobra.Command {
	var descriptor, cipherFile, bdkFile, iv string
	cmd := &cobra.Command{
		Use:   "explain KSN",
		Short: "Say what a key serial number says, and which profile opens a test swipe",
		Long: `Explain takes a key serial number as hexadecimal digits: 20 for TDES (ANSI X9.24-1), 24 for AES
(ANSI X9.24-3), or 16 for the short TDES form that is left-padded with FFFF.

The ordinal counts valid counters: TDES uses those with at most 10 one bits, AES those with at
most 16. A counter that no terminal can reach is refused.

A TDES KSN of another length has a descriptor, as the hosts of some HSM makers want it: three
hexadecimal digits, which are the numbers of digits of the key set id, of the sub-key id and of the
device id. Five digits of the counter follow. --descriptor reads a KSN by it, and shows the ids.

With --bdk-file and --ciphertext it decrypts what a reader sent in every way that a reader is known
to encrypt, and ranks them by what came out: a card number (shown masked), the sentinels and
separators of tracks 1 and 2, EMV data in BER-TLV, the share of printable characters. No other clear
text is shown. The ways are the keys of these profiles, each in CBC and in ECB mode, and for AES each
type of key that is no stronger than the base key. Only keys of requests are tried: card data goes
to the host.

Profiles:
` + profileHelp() + `
Which reader uses which: docs/profiles.md. Where no way fits, the exit code is 6. Use test keys
and test cards: this is a bench tool, and holds the base key in memory.`,
		Example: bdkExample + swipeExample + `  latchkey dukpt explain FFFF9876543210E00008
  latchkey dukpt explain --descriptor 605 9876543210E00008
  latchkey dukpt explain --bdk-file bdk.hex --ciphertext swipe.hex FFFF9876543210E00008
  cat swipe.hex | latchkey dukpt explain --bdk-file bdk.hex --ciphertext - FFFF9876543210E00008`,
		Args: arguments("KSN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ksn, ids, err := describedKSN(args[0], descriptor)
			if err != nil {
				return err
			}
			e := explain(ksn)
			e.Descriptor, e.KeySetID, e.SubKeyID, e.DeviceID = descriptor, ids[0], ids[1], ids[2]
			if !cmd.Flags().Changed("bdk-file") && !cmd.Flags().Changed("ciphertext") {
				if iv != "" {
					return exit.With(exit.Usage, errors.New("--iv goes with --ciphertext"), "see: latchkey dukpt explain --help")
				}
				return c.show(e, e.fields(ksn)...)
			}
			if e.Probe, err = probe(c, ksn, bdkFile, cipherFile, iv); err != nil {
				return err
			}
			if err := c.show(e, append(e.fields(ksn), e.Probe.fields()...)...); err != nil {
				return err
			}
			return e.Probe.verdict()
		},
	}
	f := cmd.Flags()
	f.StringVar(&descriptor, "descriptor", "", "how a TDES KSN is put together: three hexadecimal digits, such as 605 or 906")
	f.StringVar(&cipherFile, "ciphertext", "", "file with the encrypted data of a test swipe in hexadecimal digits (- for standard input)")
	f.StringVar(&bdkFile, "bdk-file", "", "file with the base derivation key in hexadecimal digits (- for standard input)")
	f.StringVar(&iv, "iv", "", "initialization vector of CBC mode in hexadecimal digits (default all zeros)")
	return cmd
}

// describedKSN reads a KSN and, by a descriptor, the ids that it is made of. A KSN of full length is read with a descriptor
// of a shorter one too, as long as only F stands before it.
func describedKSN(text, descriptor string) (ksn dukpt.KSN, ids [3]string, err error) {
	if descriptor == "" {
		ksn, err = parseKSN(text)
		return ksn, ids, err
	}
	d, err := dukpt.ParseDescriptor(descriptor)
	if err != nil {
		return ksn, ids, exit.With(exit.Usage, err, descriptorHint)
	}
	if len(text) == 20 {
		ksn, err = dukpt.ParseKSNHex(text)
	} else {
		ksn, err = d.Parse(text)
	}
	if err != nil {
		return ksn, ids, exit.With(exit.Usage, err, descriptorHint)
	}
	ids[0], ids[1], ids[2], err = d.Split(ksn)
	return ksn, ids, exit.With(exit.Usage, err, descriptorHint)
}

const descriptorHint = "three hexadecimal digits: how many digits of a TDES KSN are key set id, sub-key id and device id; five of the counter follow, 20 in all or fewer"

func parseKSN(s string) (dukpt.KSN, error) {
	if len(s) == 16 {
		b, err := hex.DecodeString(s)
		if err == nil {
			ksn, err := dukpt.ParseShortKSN(b)
			return ksn, exit.With(exit.Usage, err, ksnHint)
		}
	}
	ksn, err := dukpt.ParseKSNHex(s)
	return ksn, exit.With(exit.Usage, err, ksnHint)
}

const ksnHint = "a KSN has 20 hexadecimal digits (TDES), 24 (AES) or 16 (short TDES), and a counter that a terminal can reach"

func explain(ksn dukpt.KSN) explained {
	e := explained{
		KSN: ksn.String(), Scheme: ksn.Scheme().String(), KeyID: ksn.KeyID().String(), Counter: ksn.Counter(),
		OneBits: ones(ksn.Counter()), Ordinal: ksn.Ordinal(), KeysLeft: ksn.Remaining(),
	}
	if ksn.Scheme() == dukpt.AES {
		e.BaseKeyID, e.DerivationID = e.KeyID[:8], e.KeyID[8:]
	}
	if next, ok := ksn.Next(); ok {
		e.Next = next.String()
	}
	return e
}

func ones(n uint32) (count int) {
	for ; n != 0; n &= n - 1 {
		count++
	}
	return count
}

func (e explained) fields(ksn dukpt.KSN) []field {
	fields := []field{{"KSN", e.KSN}, {"scheme", e.Scheme}, {"key id", e.KeyID}}
	if e.BaseKeyID != "" {
		fields = append(fields, field{"base key id", e.BaseKeyID}, field{"derivation id", e.DerivationID})
	}
	if e.Descriptor != "" {
		subKey := e.SubKeyID
		if subKey == "" {
			subKey = "none"
		}
		fields = append(fields, field{"descriptor", e.Descriptor}, field{"key set id", e.KeySetID},
			field{"sub-key id", subKey}, field{"device id", e.DeviceID})
	}
	fields = append(fields,
		field{"counter", fmt.Sprintf("%d (%X)", e.Counter, e.Counter)},
		field{"derivation steps", e.OneBits},
		field{"ordinal", fmt.Sprintf("%d of %d", e.Ordinal, ksn.Scheme().MaxOrdinal())},
		field{"keys left", e.KeysLeft})
	if e.Next != "" {
		return append(fields, field{"next KSN", e.Next})
	}
	return append(fields, field{"next KSN", "none: this is the last key of this key id"})
}
