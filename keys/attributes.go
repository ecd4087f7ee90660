package keys

import (
	"fmt"
	"slices"
	"strings"
)

// Usage is what a key is for: the two characters of an ANSI X9.143 key block header.
type Usage string

// The usages that this project gives a meaning.
const (
	UsageBDK        Usage = "B0" // DUKPT base derivation key
	UsageInitialKey Usage = "B1" // DUKPT initial key
	UsageData       Usage = "D0" // data encryption
	UsageKEK        Usage = "K0" // key encryption
	UsageKBPK       Usage = "K1" // key block protection
	UsageISOKBPK    Usage = "K4" // ISO 20038 key block protection
	UsageMACCBC     Usage = "M1" // ISO/IEC 9797-1 algorithm 1
	UsageMACRetail  Usage = "M3" // ISO/IEC 9797-1 algorithm 3
	UsageMACCMAC    Usage = "M6" // CMAC (ISO/IEC 9797-1 algorithm 5)
	UsageHMAC       Usage = "M7" // HMAC
	UsagePIN        Usage = "P0" // PIN encryption
)

// usages says which algorithm letters and which modes fit (ANSI X9.143-2021, tables of 8.3 to 8.5). Mode N stands
// everywhere: older hosts write it.
var usages = map[Usage]struct{ letters, modes string }{
	UsageBDK:        {"TA", modesDerive},
	UsageInitialKey: {"TA", modesDerive},
	UsageData:       {"TA", modesCipher},
	UsageKEK:        {"TA", modesCipher},
	UsageKBPK:       {"TA", modesCipher},
	UsageISOKBPK:    {"TA", modesCipher},
	UsageMACCBC:     {"TA", modesMAC},
	UsageMACRetail:  {"T", modesMAC},
	UsageMACCMAC:    {"TA", modesMAC},
	UsageHMAC:       {"H", modesMAC},
	UsagePIN:        {"TA", modesCipher},
}

const (
	modesCipher = "BDEN"
	modesMAC    = "CGVN"
	modesDerive = "XN"
)

// ParseUsage returns the usage with the given two characters; one that this project gives no meaning is refused.
func ParseUsage(s string) (Usage, error) {
	if _, ok := usages[Usage(s)]; !ok {
		return "", fmt.Errorf("keys: unknown usage %q", s)
	}
	return Usage(s), nil
}

// Mode is the mode of use of an ANSI X9.143 key block header.
type Mode byte

// The modes of use.
const (
	ModeBoth      Mode = 'B' // encrypt and decrypt, wrap and unwrap
	ModeGenVerify Mode = 'C' // generate and verify MACs
	ModeDecrypt   Mode = 'D' // decrypt or unwrap only
	ModeEncrypt   Mode = 'E' // encrypt or wrap only
	ModeGenerate  Mode = 'G' // generate MACs only
	ModeNone      Mode = 'N' // no special restriction
	ModeSign      Mode = 'S' // sign only
	ModeSignBoth  Mode = 'T' // sign and decrypt
	ModeVerify    Mode = 'V' // verify MACs only
	ModeDerive    Mode = 'X' // derive other keys
	ModeVariant   Mode = 'Y' // make variants of the key
)

var modes = []Mode{
	ModeBoth, ModeGenVerify, ModeDecrypt, ModeEncrypt, ModeGenerate, ModeNone, ModeSign, ModeSignBoth, ModeVerify, ModeDerive,
	ModeVariant,
}

// ParseMode returns the mode with the given letter.
func ParseMode(b byte) (Mode, error) {
	if !slices.Contains(modes, Mode(b)) {
		return 0, fmt.Errorf("keys: unknown mode of use %q", b)
	}
	return Mode(b), nil
}

// String returns the letter.
func (m Mode) String() string { return string(rune(m)) }

// Exportability says whether a key may leave under another key (ANSI X9.143).
type Exportability byte

// The exportabilities.
const (
	Exportable    Exportability = 'E' // under a key block protection key
	NonExportable Exportability = 'N' // not at all
	Sensitive     Exportability = 'S' // under a key of another form
)

// ParseExportability returns the exportability with the given letter.
func ParseExportability(b byte) (Exportability, error) {
	switch e := Exportability(b); e {
	case Exportable, NonExportable, Sensitive:
		return e, nil
	}
	return 0, fmt.Errorf("keys: unknown exportability %q", b)
}

// String returns the letter.
func (e Exportability) String() string { return string(rune(e)) }

// Attributes say what a key is and what it may do. The zero value is invalid.
type Attributes struct {
	Algorithm     Algorithm
	Usage         Usage
	Mode          Mode
	Exportability Exportability
}

// Validate refuses attributes that are unknown or do not fit together.
func (a Attributes) Validate() error {
	if !a.Algorithm.IsValid() {
		return fmt.Errorf("keys: unknown algorithm %d", uint8(a.Algorithm))
	}
	fits, ok := usages[a.Usage]
	if !ok {
		return fmt.Errorf("keys: unknown usage %q", string(a.Usage))
	}
	if strings.IndexByte(fits.letters, a.Algorithm.Letter()) < 0 {
		return fmt.Errorf("keys: usage %s does not go with %s", a.Usage, a.Algorithm)
	}
	if strings.IndexByte(fits.modes, byte(a.Mode)) < 0 {
		return fmt.Errorf("keys: mode of use %q does not go with usage %s: want one of %s", byte(a.Mode), a.Usage, fits.modes)
	}
	_, err := ParseExportability(byte(a.Exportability))
	return err
}
